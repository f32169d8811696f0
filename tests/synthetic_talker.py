"""Writes a tiny talking-head data set: a ray-cast ellipsoid that turns, blinks and speaks.

`write_synthetic_talker(root)` is the one entry; `layout="legacy"` leaves out everything that is
ours and adds what only the older tools write. The head is a real 3D object (an ellipsoid with
painted hair, eyes and mouth), so a model can fit it; the audio features carry the mouth opening, so
a model can learn it.
"""

import json
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import torch
from scipy.spatial import Delaunay

from gaussiantalker_ns.dataparsers.cameras import opengl_from_head_pose, project_points
from gaussiantalker_ns.dataparsers.dataset_layout import DatasetLayout
from gaussiantalker_ns.face.topology import (
    BROW_LEFT,
    BROW_RIGHT,
    EYE_LEFT,
    EYE_RIGHT,
    FACE_OVAL,
    IBUG68_FROM_MESH,
    LIPS_INNER,
    LIPS_OUTER,
    NUM_MESH_POINTS,
)

HEAD_RADII = np.array([0.075, 0.11, 0.09])  # Metres along x, y, z of head space.
MOUTH = (0.0, -0.045)
EYES = ((-0.03, 0.03), (0.03, 0.03))
SKIN, HAIR, LIP, DARK = (
    np.array(c, float) for c in [(224, 172, 140), (60, 40, 30), (180, 70, 80), (30, 15, 15)]
)
SHIRT, NECK, WALL = (np.array(c, float) for c in [(70, 90, 140), (205, 155, 125), (150, 180, 210)])
DISTANCE = 0.8  # Metres from camera to head.
FOCAL_PER_SIZE = 2.4  # Focal length in image sides, as in real data sets.
FRAMES_PER_SECOND = 25
VERTICES_LEGACY = 34650
AUDIO_SHAPES = {"whisper": (2, 384), "deepspeech": (16, 29)}


def write_synthetic_talker(
    root: Path,
    num_frames: int = 24,
    size: int = 64,
    layout: Literal["ours", "legacy"] = "ours",
    seed: int = 0,
) -> Path:
    """Write `num_frames` square frames of `size` pixels and all else below `root`; return it."""
    rng = np.random.default_rng(seed)
    paths = DatasetLayout(Path(root))
    for folder in (paths.frames_dir, paths.parsing_dir, paths.torso_dir):
        folder.mkdir(parents=True, exist_ok=True)
    mouth, blink, poses = _signals(num_frames, rng)
    mesh = synthetic_face_mesh()
    focal = FOCAL_PER_SIZE * size
    background = np.broadcast_to(WALL, (size, size, 3)).astype(np.uint8)
    _write_rgb(paths.background, background)
    for frame in range(num_frames):
        image, labels, torso = _draw(poses[frame], mouth[frame], blink[frame], size, background)
        _write_rgb(paths.frame(frame), image)
        _write_rgb(paths.parsing(frame), labels)
        cv2.imwrite(str(paths.torso(frame)), cv2.cvtColor(torso, cv2.COLOR_RGBA2BGRA))
        pixels = project_points(
            torch.from_numpy(mesh["vertices"][list(IBUG68_FROM_MESH)]).double(),
            torch.from_numpy(poses[frame]),
            focal,
            size / 2,
            size / 2,
        )
        np.savetxt(paths.points68(frame), pixels.numpy(), fmt="%f")
    _write_transforms(paths, poses, focal, size)
    _write_audio(paths, mouth, layout, rng)
    _write_action_units(paths, blink * 2)
    if layout == "ours":
        _write_our_additions(paths, mouth, blink, mesh, size)
    else:
        _write_track_params(paths, num_frames, rng)
    return paths.root


def synthetic_face_mesh() -> dict[str, np.ndarray]:
    """Return 468 vertices (metres) with MediaPipe's indices for lips, eyes, brows and oval."""
    index = np.arange(NUM_MESH_POINTS)
    radius = np.sqrt((index + 0.5) / NUM_MESH_POINTS) * 0.9
    angle = index * np.pi * (3 - np.sqrt(5))
    xy = np.stack([radius * np.cos(angle) * HEAD_RADII[0], radius * np.sin(angle) * 0.09], axis=1)
    _put_ring(xy, LIPS_OUTER, MOUTH, (0.024, 0.011), np.pi)
    _put_ring(xy, LIPS_INNER, MOUTH, (0.018, 0.004), np.pi)
    _put_ring(xy, EYE_RIGHT, EYES[0], (0.015, 0.006), np.pi)
    _put_ring(xy, EYE_LEFT, EYES[1], (0.015, 0.006), 0.0)
    _put_ring(xy, BROW_RIGHT, (-0.03, 0.047), (0.018, 0.003), np.pi)
    _put_ring(xy, BROW_LEFT, (0.03, 0.047), (0.018, 0.003), 0.0)
    _put_ring(xy, FACE_OVAL, (0.0, -0.005), (0.068, 0.088), np.pi / 2, clockwise=True)
    inside = np.clip(1 - (xy[:, 0] / HEAD_RADII[0]) ** 2 - (xy[:, 1] / HEAD_RADII[1]) ** 2, 0.01, 1)
    vertices = np.column_stack([xy, HEAD_RADII[2] * np.sqrt(inside)]).astype(np.float32)
    return {"vertices": vertices, "triangles": Delaunay(xy).simplices.astype(np.int64)}


def _put_ring(xy, indices, centre, radii, start, clockwise=False):
    """Lay the points `indices` round an ellipse; rings begin at `start` and pass below first."""
    direction = -1.0 if clockwise or start == 0.0 else 1.0
    angles = start + direction * 2 * np.pi * np.arange(len(indices)) / len(indices)
    xy[list(indices), 0] = centre[0] + radii[0] * np.cos(angles)
    xy[list(indices), 1] = centre[1] + radii[1] * np.sin(angles)


def _signals(num_frames, rng):
    """Mouth opening and blink in [0, 1], and `T_camera_head` in metres, for every frame."""
    t = np.arange(num_frames) / FRAMES_PER_SECOND
    phase = rng.uniform(0, 2 * np.pi, 4)
    mouth = np.clip(0.5 + 0.5 * np.sin(2 * np.pi * 2.1 * t + phase[0]), 0, 1)
    blink = np.clip(4 * np.sin(2 * np.pi * 0.7 * t + phase[1]) - 3, 0, 1)
    yaw = 0.20 * np.sin(2 * np.pi * 0.6 * t + phase[2])
    pitch = 0.10 * np.sin(2 * np.pi * 0.4 * t + phase[3])
    poses = np.tile(np.eye(4), (num_frames, 1, 1))
    for pose, y, p in zip(poses, yaw, pitch):
        pose[:3, :3] = np.diag([1.0, -1.0, -1.0]) @ _rotation(y, p)
        pose[:3, 3] = (0.01 * np.sin(9 * y), -0.03, DISTANCE)
    return mouth, blink, poses


def _rotation(yaw, pitch):
    cy, sy, cp, sp = np.cos(yaw), np.sin(yaw), np.cos(pitch), np.sin(pitch)
    return np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]]) @ np.array(
        [[1, 0, 0], [0, cp, -sp], [0, sp, cp]]
    )


def _draw(pose, mouth, blink, size, background):
    """Ray-cast one frame; returns the RGB frame, the RGB label image and the RGBA torso layer."""
    torso = np.zeros((size, size, 4), np.uint8)
    bottom = int(0.72 * size)
    cv2.rectangle(torso, (int(0.40 * size), size // 2), (int(0.60 * size), size), (*NECK, 255), -1)
    cv2.ellipse(
        torso, (size // 2, size), (int(0.45 * size), size - bottom), 0, 180, 360, (*SHIRT, 255), -1
    )
    color, hit = _cast_head(pose, mouth, blink, size)
    alpha = torso[..., 3:] > 0
    image = np.where(hit[..., None], color, np.where(alpha, torso[..., :3], background)).astype(
        np.uint8
    )
    is_neck = alpha[..., 0] & np.all(torso[..., :3] == NECK, axis=-1)
    labels = np.full((size, size, 3), 255, np.uint8)
    labels[alpha[..., 0]] = (255, 0, 0)
    labels[is_neck] = (0, 255, 0)
    labels[hit] = (0, 0, 255)
    return image, labels, torso


def _cast_head(pose, mouth, blink, size):
    """Colours `[size, size, 3]` and hit mask of the ellipsoid seen from `T_camera_head`."""
    focal = FOCAL_PER_SIZE * size
    v, u = np.mgrid[:size, :size] + 0.5
    rays = np.stack([(u - size / 2) / focal, (v - size / 2) / focal, np.ones_like(u)], -1)
    origin = -pose[:3, :3].T @ pose[:3, 3] / HEAD_RADII
    direction = rays @ pose[:3, :3] / HEAD_RADII
    a, b = (direction**2).sum(-1), direction @ origin
    root = b**2 - a * (origin @ origin - 1)
    hit = root > 0
    normal = origin + direction * ((-b - np.sqrt(np.maximum(root, 0))) / a)[..., None]
    x, y, z = np.moveaxis(normal * HEAD_RADII, -1, 0)
    color = np.where(((y > 0.065) | (z < 0.01))[..., None], HAIR, SKIN)
    for ex, ey in EYES:
        eye = ((x - ex) / 0.014) ** 2 + ((y - ey) / (0.002 + 0.008 * (1 - blink))) ** 2 < 1
        color = np.where((eye & (z > 0))[..., None], DARK, color)
        brow = (abs(x - ex) < 0.018) & (abs(y - 0.047) < 0.004) & (z > 0)
        color = np.where(brow[..., None], HAIR, color)
    lip = ((x - MOUTH[0]) / 0.025) ** 2 + ((y - MOUTH[1]) / (0.007 + 0.014 * mouth)) ** 2
    inner = ((x - MOUTH[0]) / 0.02) ** 2 + ((y - MOUTH[1]) / (0.001 + 0.014 * mouth)) ** 2
    color = np.where(((lip < 1) & (z > 0))[..., None], LIP, color)
    color = np.where(((inner < 1) & (z > 0))[..., None], DARK, color)
    return color * (0.65 + 0.35 * np.clip(normal[..., 2:], 0, 1)), hit


def _write_rgb(path, image):
    flags = [cv2.IMWRITE_JPEG_QUALITY, 98] if path.suffix == ".jpg" else []
    assert cv2.imwrite(str(path), cv2.cvtColor(image, cv2.COLOR_RGB2BGR), flags)


def _write_transforms(paths, poses, focal, size):
    matrices = opengl_from_head_pose(torch.from_numpy(poses)).numpy()
    first_val = len(poses) * 10 // 11
    for split, ids in (("train", range(first_val)), ("val", range(first_val, len(poses)))):
        frames = [{"img_id": i, "aud_id": i, "transform_matrix": matrices[i].tolist()} for i in ids]
        content = {"focal_len": focal, "cx": size / 2, "cy": size / 2, "frames": frames}
        paths.transforms(split).write_text(json.dumps(content))


def _write_audio(paths, mouth, layout, rng):
    """Features with the mouth opening in them, and a wav whose loudness follows it."""
    encoder = "whisper" if layout == "ours" else "deepspeech"
    window, width = AUDIO_SHAPES[encoder]
    pattern = rng.normal(size=(window, width))
    noise = rng.normal(size=(len(mouth), window, width))
    features = (mouth[:, None, None] - 0.5) * 2 * pattern + 0.1 * noise
    np.save(paths.audio_features(encoder), features.astype(np.float32))
    loudness = np.repeat(mouth, 16000 // FRAMES_PER_SECOND)
    samples = loudness * np.sin(2 * np.pi * 180 * np.arange(len(loudness)) / 16000) * 0.4
    write_wav(paths.audio, samples)


def write_wav(path: Path, samples: np.ndarray, sample_rate_hz: int = 16000) -> None:
    """Write mono float samples in [-1, 1] as a 16-bit wav."""
    import wave

    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(sample_rate_hz)
        file.writeframes((np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes())


def _write_action_units(paths, blink):
    """An OpenFace table: blanks before every name and value."""
    rows = [" frame, face_id, timestamp, confidence, success, AU45_r"]
    rows += [f"{i + 1}, 0, {i / 25:.3f}, 0.98, 1, {b:.2f}" for i, b in enumerate(blink)]
    paths.action_units.write_text("\n".join(rows) + "\n")


def _write_our_additions(paths, mouth, blink, mesh, size):
    num_frames = len(mouth)
    blendshapes = np.zeros((num_frames, 52), np.float32)
    blendshapes[:, 9] = blendshapes[:, 10] = blink * 0.7
    blendshapes[:, 25] = mouth * 0.5
    np.save(paths.blendshapes, blendshapes)
    np.savez(paths.face_mesh, **mesh)
    window, width = AUDIO_SHAPES["whisper"]
    description = {
        "schema": 1,
        "fps": FRAMES_PER_SECOND,
        "size": [size, size],
        "num_frames": num_frames,
        "source": {"name": "synthetic.mp4", "sha256": "0" * 64, "take": [0, num_frames]},
        "audio": {"whisper": {"file": "aud_whisper.npy", "shape": [num_frames, window, width]}},
        "av_offset_ms": 0.0,
        "tracking": {},
        "invalid_frames": [],
        "consent": None,
        "segmenter": "synthetic",
        "steps": {},
    }
    paths.talker.write_text(json.dumps(description, indent=1))


def _write_track_params(paths, num_frames, rng):
    """A tracker result with per-frame vertices in decimetres, a tenth of the real count."""
    direction = rng.normal(size=(VERTICES_LEGACY // 10, 3))
    direction[:, 2] = abs(direction[:, 2])
    points = direction / np.linalg.norm(direction, axis=1, keepdims=True) * HEAD_RADII * 10
    vertices = points[None] + 0.01 * rng.normal(size=(num_frames, 1, 3))
    torch.save(
        {
            "id": torch.zeros(1, 100),
            "exp": torch.zeros(num_frames, 79),
            "euler": torch.zeros(num_frames, 3),
            "trans": torch.zeros(num_frames, 3),
            "focal": torch.tensor([1100.0]),
            "vertices": torch.from_numpy(vertices.astype(np.float32)),
        },
        paths.track_params,
    )
