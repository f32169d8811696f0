"""The exact ground truth of a clip: what is stored, and how landmarks follow from it.

MediaPipe's 468 face landmarks are tied to the mesh once: the landmarker looks at frontal renders,
and the skin point under every landmark (a triangle and weights) is the landmark from then on. Such
a point moves linearly with the face weights, so the file holds its rest position and its offsets,
and the positions of all frames follow exactly.
"""

from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int
from scipy.spatial import KDTree

from gaussiantalker_ns.scripts.dev.sample import rasterizer
from gaussiantalker_ns.scripts.dev.sample.parts import CHANNELS, MASKS, SKIN, Character
from gaussiantalker_ns.scripts.dev.sample.renderer import Pose, Renderer, pose_character

NUM_LANDMARKS = 468
UPPER_LIP, LOWER_LIP, FOREHEAD, CHIN = 13, 14, 10, 152
"""Landmarks between which the mouth's opening and the face's height are measured."""

INNER_LIPS = (
    78,
    191,
    80,
    81,
    82,
    13,
    312,
    311,
    310,
    415,
    308,
    324,
    318,
    402,
    317,
    14,
    87,
    178,
    88,
    95,
)
"""The ring of landmarks on the inner lips; they are told apart only with the mouth open."""


@dataclass
class Truth:
    """Everything known about a clip; `truth.npz` holds these arrays by these names."""

    fps: Float[np.ndarray, ""]
    size: Int[np.ndarray, "2"]
    """Width and height in pixels."""
    intrinsics: Float[np.ndarray, "3"]
    """Focal length, cx, cy in pixels; pixel (column c, row r) is centred at (c + 0.5, r + 0.5)."""
    T_camera_head: Float[np.ndarray, "n 4 4"]
    """Head frame to OpenCV camera, metres."""
    weight_names: np.ndarray
    """Names of the columns of `weights`: ARKit units, then our correctives."""
    weights: Float[np.ndarray, "n k"]
    gaze: Float[np.ndarray, "n 2"]
    """Eye yaw and pitch relative to the head, radians."""
    eyelid_closure: Float[np.ndarray, " n"]
    """0 open to 1 shut."""
    mouth_opening_mm: Float[np.ndarray, " n"]
    """Distance of landmarks 13 and 14 beyond that of the closed mouth."""
    face_height_mm: Float[np.ndarray, ""]
    """Distance of landmarks 10 and 152 with a neutral face; the opening's fraction is the ratio."""
    landmark_rest: Float[np.ndarray, "468 3"]
    """Landmarks of the neutral face in the head frame, metres."""
    landmark_offsets: Float[np.ndarray, "k 468 3"]
    """Offset of every landmark per unit weight."""
    head_area_px: Int[np.ndarray, " n"]
    """Pixels that show the head (skin above the collar, eyes, mouth, hair)."""
    phonemes: np.ndarray
    """espeak-ng mnemonics; names beginning with `_` are pauses."""
    phoneme_times: Float[np.ndarray, "p 2"]
    """Start and end of every phoneme in seconds."""
    frames_sha256: np.ndarray
    """Digest of all frames (RGB bytes, in order) before encoding."""

    def save(self, path: Path) -> None:
        """Write the arrays; equal truths give equal bytes."""
        arrays = {item.name: np.asarray(getattr(self, item.name)) for item in fields(self)}
        np.savez_compressed(path, **arrays)  # pyright: ignore[reportArgumentType]

    @classmethod
    def load(cls, path: Path) -> "Truth":
        """Read a truth file."""
        with np.load(path) as archive:
            return cls(**{item.name: archive[item.name] for item in fields(cls)})

    def landmarks_head(self) -> Float[np.ndarray, "n 468 3"]:
        """Return the landmarks of every frame in the head frame, metres."""
        moved = np.tensordot(self.weights.astype(np.float64), self.landmark_offsets, axes=1)
        return self.landmark_rest + moved

    def landmarks_px(self) -> Float[np.ndarray, "n 468 2"]:
        """Return the landmarks of every frame as projected, in pixels."""
        matrix = self.T_camera_head
        camera = np.einsum("nij,nmj->nmi", matrix[:, :3, :3], self.landmarks_head())
        camera += matrix[:, None, :3, 3]
        focal, cx, cy = self.intrinsics
        return focal * camera[..., :2] / camera[..., 2:] + np.array([cx, cy])


@dataclass
class Landmarks:
    """Skin points that stand for MediaPipe's landmarks."""

    triangle: Int[np.ndarray, "468 3"]
    """Vertex rows of the character."""
    weight: Float[np.ndarray, "468 3"]

    def of(self, values: Float[np.ndarray, "... v 3"]) -> Float[np.ndarray, "... 468 3"]:
        """Return vertex values at the landmarks."""
        return (values[..., self.triangle, :].astype(np.float64) * self.weight[..., None]).sum(-2)


def tie_landmarks(character: Character, renderer: Renderer, neutral: Pose) -> Landmarks:
    """Return the skin points under the landmarks that MediaPipe finds in renders of the face.

    The inner lips are looked up in a second render with the jaw open, among the samples that show
    lips: in a closed mouth the landmarks of both lips lie on one line.
    """
    opened = replace(neutral, weights=neutral.weights.copy())
    opened.weights[CHANNELS.index("jawOpen")] = 0.3
    result = _tie(character, renderer, neutral, lips_only=False)
    lips = _tie(character, renderer, opened, lips_only=True)
    ring = list(INNER_LIPS)
    result.triangle[ring], result.weight[ring] = lips.triangle[ring], lips.weight[ring]
    return result


def _tie(character: Character, renderer: Renderer, pose: Pose, lips_only: bool) -> Landmarks:
    """Return the visible skin points nearest to the landmarks of one render."""
    found_px = find_landmarks(renderer.draw(pose).rgb)
    skin_only = character.faces[character.material == SKIN]
    posed = pose_character(character, pose)
    buffer = rasterizer.SurfaceBuffer(renderer.samples, renderer.samples)
    screen = rasterizer.project(posed.vertices, renderer.focal, renderer.centre, renderer.centre)
    rasterizer.draw_triangles(
        screen.astype(np.float32), skin_only, buffer.depth, buffer.primitive, buffer.local
    )
    rows, columns = np.nonzero(buffer.primitive >= 0)
    corners = skin_only[buffer.primitive[rows, columns]]
    usable = character.head_weight[corners].min(axis=1) > 0.9999
    if lips_only:
        usable &= character.masks[corners, MASKS.index("lip")].min(axis=1) > 0.5
        usable &= character.masks[corners, MASKS.index("mouth")].max(axis=1) < 0.3
    rows, columns = rows[usable], columns[usable]
    samples = np.stack([columns + 0.5, rows + 0.5], axis=1) / renderer.supersampling
    nearest = KDTree(samples).query(found_px)[1]
    row, column = rows[nearest], columns[nearest]
    local = buffer.local[row, column].astype(np.float64)
    weight = np.concatenate([1 - local.sum(axis=1, keepdims=True), local], axis=1)
    return Landmarks(skin_only[buffer.primitive[row, column]], weight)


def find_landmarks(rgb: np.ndarray) -> Float[np.ndarray, "468 2"]:
    """Return MediaPipe's landmarks in a picture, in pixels (continuous, pixel centres at .5)."""
    import mediapipe as mp

    from gaussiantalker_ns.assets import asset_path

    options = mp.tasks.vision.FaceLandmarkerOptions(
        base_options=mp.tasks.BaseOptions(model_asset_path=str(asset_path("face_landmarker.task")))
    )
    with mp.tasks.vision.FaceLandmarker.create_from_options(options) as landmarker:
        image = mp.Image(image_format=mp.ImageFormat.SRGB, data=np.ascontiguousarray(rgb))
        result = landmarker.detect(image)
    if not result.face_landmarks:
        raise ValueError(
            "MediaPipe found no face in the neutral render; expected one. The character or the "
            "renderer was changed so much that it is no longer a face."
        )
    height, width = rgb.shape[:2]
    points = np.array([[point.x, point.y] for point in result.face_landmarks[0]])
    return points[:NUM_LANDMARKS] * [width, height]


def mouth_opening_mm(landmarks_head: Float[np.ndarray, "n 468 3"], rest: np.ndarray) -> np.ndarray:
    """Return how far the inner lips are apart, beyond their distance with a closed mouth."""
    gap = landmarks_head[:, UPPER_LIP, 1] - landmarks_head[:, LOWER_LIP, 1]
    closed = rest[UPPER_LIP, 1] - rest[LOWER_LIP, 1]
    return 1000 * np.maximum(gap - closed, 0)


def face_height_mm(rest: Float[np.ndarray, "468 3"]) -> float:
    """Return the neutral face's height."""
    return float(1000 * np.linalg.norm(rest[FOREHEAD] - rest[CHIN]))
