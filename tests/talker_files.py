"""Talker files for tests: a tiny one without any training, and files that are taken apart."""

import io
import json
import struct
import zipfile
from pathlib import Path

import numpy as np
import torch

from gaussiantalker_ns.fields.attention import SpatialAudioAttentionConfig
from gaussiantalker_ns.fields.audio_encoder import AudioEncoderConfig
from gaussiantalker_ns.fields.canonical import CanonicalFieldConfig
from gaussiantalker_ns.fields.deformation import DeformationHeadsConfig
from gaussiantalker_ns.fields.talking_head import TalkingHeadConfig
from gaussiantalker_ns.fields.tokens import ConditionTokensConfig
from gaussiantalker_ns.fields.triplane import TriPlaneConfig
from gaussiantalker_ns.inference.talker_file import webp
from gaussiantalker_ns.inference.talker_file.reader import expected_shapes, halved_names
from gaussiantalker_ns.inference.talker_file.schema import (
    AudioInput,
    Camera,
    Description,
    Source,
    description_json,
    torso_name,
)
from gaussiantalker_ns.inference.talker_file.tensors import tensor_bytes

SIZE, NUM_FRAMES, NUM_GAUSSIANS = 32, 3, 20


def tiny_description(**changes) -> Description:
    """A head of 20 Gaussians in pictures of 32 px, and a track of three frames."""
    head = TalkingHeadConfig(
        sh_degree=1,
        triplane=TriPlaneConfig(resolutions=(4, 8), channels=8),
        canonical=CanonicalFieldConfig(canonical_attributes=()),
        tokens=ConditionTokensConfig(
            width=16,
            audio_encoder=AudioEncoderConfig(channels=(8,), code_width=8, attention_channels=(4,)),
        ),
        attention=SpatialAudioAttentionConfig(num_layers=1, feed_forward_width=0, dropout=0.0),
        deformation=DeformationHeadsConfig(joint=True, hidden_width=16),
    )
    values = {
        "method": "gaussiantalker-cpu",
        "step": 10,
        "fps": 25,
        "size": SIZE,
        "precision": "float32",
        "camera": Camera(80.0, 80.0, SIZE / 2, SIZE / 2),
        "torso_mode": "layer",
        "num_frames": NUM_FRAMES,
        "num_gaussians": NUM_GAUSSIANS,
        "sh_degree": 1,
        "audio": AudioInput("whisper", (2, 384), 8, True),
        "eye_form": "expression",
        "viewpoint_gain": 1.0,
        "head": head,
        "source": Source("step-000000010.ckpt", "0" * 64, "1" * 64, "2026-01-31", {"torch": "2"}),
        "consent": {"statement": "I agree."},
        "licence": "CC0",
    }
    return Description(**{**values, **changes})


def tiny_tensors(description: Description) -> dict[str, torch.Tensor]:
    """Random numbers in the shapes of a description, with rigid poses."""
    generator = torch.Generator().manual_seed(0)
    tensors = {
        name: torch.rand(shape, generator=generator) + 0.1
        for name, shape in expected_shapes(description, Path("tiny")).items()
    }
    pose = torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0]))
    pose[2, 3] = 8.0
    tensors["track.T_camera_head"] = pose.expand(description.num_frames, 4, 4).clone()
    return tensors


def tiny_members(description: Description | None = None) -> dict[str, bytes]:
    """Name -> bytes of the members of a tiny talker."""
    description = description or tiny_description()
    tensors = tiny_tensors(description)
    halved = halved_names({name: tuple(t.shape) for name, t in tensors.items()}, description)
    grey = np.full((description.size, description.size, 3), 120, np.uint8)
    torso = np.full((10, description.size, 4), 200, np.uint8)
    torsos = range(description.num_frames) if description.torso_mode == "layer" else ()
    return {
        "talker.json": json.dumps(description_json(description)).encode(),
        "tensors.safetensors": tensor_bytes(tensors, halved),
        "background.webp": webp.encode(grey),
        "picture.webp": webp.encode(grey, 90),
        **{torso_name(frame): webp.encode(torso, 90) for frame in torsos},
    }


def zipped(members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    """Members as a zip file."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name), content, compression)
    return buffer.getvalue()


def with_description(members: dict[str, bytes], **changes) -> dict[str, bytes]:
    """Members whose `talker.json` has other values; a dotted name, with `__`, goes deeper."""
    content = json.loads(members["talker.json"])
    for name, value in changes.items():
        place = content
        *way, last = name.split("__")
        for part in way:
            place = place[part]
        place[last] = value
    return {**members, "talker.json": json.dumps(content).encode()}


def with_header(members: dict[str, bytes], name: str, **changes) -> dict[str, bytes]:
    """Members whose tensors say something else of one tensor."""
    data = members["tensors.safetensors"]
    (length,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8 : 8 + length])
    header[name].update(changes)
    text = json.dumps(header).encode()
    changed = struct.pack("<Q", len(text)) + text + data[8 + length :]
    return {**members, "tensors.safetensors": changed}
