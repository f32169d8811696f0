"""Talkers for the tests of the browser's run-time, and what Python renders with them."""

import json
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from talker_files import tiny_description, tiny_members, zipped

from gaussiantalker_ns.audio.articulation import ArticulationConfig
from gaussiantalker_ns.fields.audio_encoder import AudioEncoderConfig
from gaussiantalker_ns.inference.talker_file.schema import AudioInput, Description
from gaussiantalker_ns.web.files import CLIENT_DIR, NATIVE_DIR

RUNNER = Path(__file__).with_name("web_runtime.mjs")


def description(**changes: Any) -> Description:
    """A tiny talker with an articulation code and masked tokens, as gaussiantalker-cpu has them."""
    head = tiny_description().head
    tokens = replace(head.tokens, upper_face_only=("eye", "viewpoint"))
    values = {
        "head": replace(head, tokens=tokens),
        "articulation": ArticulationConfig(enabled=True, num_folds=2, width=12),
        "viewpoint_gain": 3.0,
    }
    return tiny_description(**{**values, **changes})


def with_window(frames: int) -> Description:
    """A tiny talker that reads raw features of so many frames."""
    head = tiny_description().head
    encoder = AudioEncoderConfig(
        window_frames=frames, channels=(24,), code_width=12, attention_channels=(10, 4)
    )
    tokens = replace(head.tokens, audio_encoder=encoder)
    audio = AudioInput("whisper", (2, 384), frames, knows_silence=True)
    return tiny_description(
        head=replace(head, tokens=tokens), audio=audio, num_frames=5, articulation=None
    )


def write_talker(path: Path, said: Description) -> Path:
    """Write a talker whose numbers lie where trained ones do: weights about zero, poses apart."""
    members = tiny_members(said)
    length = int.from_bytes(members["tensors.safetensors"][:8], "little")
    header = json.loads(members["tensors.safetensors"][8 : 8 + length])
    body = bytearray(members["tensors.safetensors"][8 + length :])
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        begin, end = entry["data_offsets"]
        dtype = {"F32": np.float32, "F16": np.float16}[entry["dtype"]]
        values = np.frombuffer(bytes(body[begin:end]), dtype).reshape(entry["shape"]).copy()
        body[begin:end] = placed(name, values).astype(dtype).tobytes()
    members["tensors.safetensors"] = members["tensors.safetensors"][: 8 + length] + bytes(body)
    path.write_bytes(zipped(members))
    return path


def placed(name: str, values: np.ndarray) -> np.ndarray:
    """Random numbers from .1 to 1.1 as numbers of the kind that a tensor holds."""
    centred = values - 0.6
    if name == "gaussians.means":
        return 2.4 * centred
    if name == "gaussians.scales":
        return -2.0 + centred
    if name == "mouth_border":
        return np.array([-0.4, 0.3])
    if name == "statistics.viewpoint_range":
        return np.sort(12 * centred, axis=0)
    if name == "statistics.speech_codes.code_range":
        return np.array([[-1.5], [1.5]]).repeat(values.shape[1], axis=1)
    if name == "track.T_camera_head":
        return np.stack([turned(pose, index) for index, pose in enumerate(values)])
    if name.startswith(("network.", "statistics.speech_codes.code.")) and values.ndim > 1:
        return 3 * centred / np.sqrt(values[0].size)
    if name.startswith(("network.", "gaussians.", "features", "silence")):
        return centred
    return values


def turned(pose: np.ndarray, index: int) -> np.ndarray:
    """A pose of its own for every frame: turned to the side and moved a little."""
    angle = 0.1 * index - 0.1
    turn = np.eye(4)
    turn[:3, :3] = [
        [np.cos(angle), 0, np.sin(angle)],
        [0, 1, 0],
        [-np.sin(angle), 0, np.cos(angle)],
    ]
    moved = pose @ turn
    moved[0, 3] += 0.05 * index
    return moved


def speech_like(num_samples: int, seed: int = 0) -> np.ndarray:
    """Noise that comes and goes, with a silence in its middle."""
    rng = np.random.default_rng(seed)
    times = np.arange(num_samples) / 16_000
    envelope = 0.2 * np.abs(np.sin(7 * times)) * (np.abs(times - 0.5 * times[-1]) > 0.15)
    return (envelope * rng.standard_normal(num_samples)).astype(np.float32)


def run_node(folder: Path, native: Path = NATIVE_DIR, **job: Any) -> dict[str, Any]:
    """Run a task of web_runtime.mjs, with kernels of any folder; files go through `folder`."""
    (folder / "job.json").write_text(json.dumps(job))
    command = ["node", str(RUNNER), str(CLIENT_DIR), str(native), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def decibels(a: np.ndarray, b: np.ndarray) -> float:
    """PSNR of pictures of bytes."""
    error = np.mean((a.astype(np.float64) - b.astype(np.float64)) ** 2)
    return float(10 * np.log10(255.0**2 / max(error, 1e-9)))


def raw_rows(talker: Any, samples: np.ndarray) -> np.ndarray:
    """What Python's encoder makes of a sound."""
    with torch.no_grad():
        return talker.encoder.encode(samples)
