"""The packed talker that a page or a server hands to the run-time: a header, numbers, pictures.

    8 bytes "GTWEB001", 4 bytes length of the header (little-endian), header (JSON, UTF-8), parts

The header names the parts by their place after it; docs/browser.md describes it.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gaussiantalker_ns.assets import asset_path
from gaussiantalker_ns.audio.encoders.whisper import NUM_BLOCKS, NUM_HEADS
from gaussiantalker_ns.data.speech_codes import STRANGERS_SHRINKAGE
from gaussiantalker_ns.face.topology import BLINK_PLACES, NUM_BROWS
from gaussiantalker_ns.inference.motion import (
    BLINK_CHUNK_FRAMES,
    blink_times,
    calmest_pose,
    turning_frames,
)
from gaussiantalker_ns.inference.provenance import STATEMENT
from gaussiantalker_ns.inference.talker_file.archive import members_of, read_archive
from gaussiantalker_ns.inference.talker_file.reader import TalkerFile, read_talker
from gaussiantalker_ns.inference.talker_file.schema import BACKGROUND, PICTURE, torso_name
from gaussiantalker_ns.timebase import FPS, context_offsets
from gaussiantalker_ns.web.carried import check_carried
from gaussiantalker_ns.web.encoding import Precision, encode_all
from gaussiantalker_ns.web.weights import head_arrays, networks_of, signal_arrays, whisper_arrays

MAGIC = b"GTWEB001"
"""The first bytes; another format has another number."""

BLINK_SECONDS = BLINK_CHUNK_FRAMES / FPS
"""Blinks of so long are packed, and repeated."""

WHISPER_HEADING, APACHE_HEADING = "MIT License (Whisper)", "Apache License 2.0"
"""Beginnings of the headings of licences in the package's NOTICE."""

OWN_NOTICE = (
    "The scripts and WebAssembly of this page are part of gaussiantalker-ns, under the licence"
    " below. The talker itself has the licence that its owner states."
)


@dataclass(frozen=True)
class PackedTalker:
    """A talker for the run-time."""

    data: bytes
    """The whole file."""
    header: dict[str, Any]
    """What it says of itself."""
    num_frames: int
    """Length of its motion track."""


def pack_for_web(talker: Path, precision: Precision, track_seconds: float) -> PackedTalker:
    """Pack a talker file for browsers.

    Args:
        talker: The talker file.
        precision: How exactly numbers are kept.
        track_seconds: Length of the recorded motion, from its beginning.

    Raises:
        ValueError: A browser cannot run it, or it is no talker file.
    """
    if not track_seconds >= 1 / FPS:
        raise ValueError(f"--track-seconds is {track_seconds}; expected a length above 0.04 s.")
    file = read_talker(talker)
    check_carried(file.description, talker)
    num_frames = min(file.description.num_frames, round(track_seconds * FPS))
    networks = networks_of(file.model)
    arrays = {
        **whisper_arrays(),
        **head_arrays(file.model),
        **networks.arrays,
        **signal_arrays(file.model, num_frames),
    }
    index, tensors = encode_all(arrays, precision)
    members = members_of(read_archive(talker), talker)
    torsos = range(num_frames) if file.description.torso_mode == "layer" else ()
    names = [BACKGROUND, PICTURE, *(torso_name(frame) for frame in torsos)]
    parts: Mapping[str, bytes | memoryview] = {
        "tensors": tensors,
        **{name: members[name] for name in names},
    }
    header = {
        "precision": precision,
        "tensors": index,
        "layers": networks.layers,
        "head": head_entry(file),
        "speech": speech_entry(file),
        "eye": eye_entry(file),
        "motion": motion_entry(file, num_frames),
        "about": about_entry(file),
        "parts": {},
    }
    return assemble(header, parts, num_frames)


def assemble(
    header: dict[str, Any], parts: Mapping[str, bytes | memoryview], num_frames: int
) -> PackedTalker:
    """Join header and parts, whose places the header tells."""
    place = 0
    for name, part in parts.items():
        header["parts"][name] = [place, len(part)]
        place += len(part)
    text = json.dumps(header, allow_nan=False, separators=(",", ":")).encode()
    data = b"".join([MAGIC, len(text).to_bytes(4, "little"), text, *parts.values()])
    return PackedTalker(data, header, num_frames)


def head_entry(file: TalkerFile) -> dict[str, Any]:
    """Sizes of the head and its camera."""
    said, model = file.description, file.model
    config = said.head
    return {
        "size": said.size,
        "camera": asdict(said.camera),
        "num_gaussians": said.num_gaussians,
        "sh_degree": said.sh_degree,
        "num_heads": config.attention.num_heads,
        "tokens": [
            {"name": name, "upper_face_only": name in config.tokens.upper_face_only}
            for name in model.head.tokens.names
        ],
        "mouth_border": model.head.mouth_border.tolist(),
        "torso": said.torso_mode == "layer",
    }


def speech_entry(file: TalkerFile) -> dict[str, Any]:
    """What is made of sound."""
    bank = file.model.bank
    codes = bank.speech_codes
    code = None
    if codes is not None:
        code = {
            "gain": STRANGERS_SHRINKAGE / float(codes.shrinkage),
            "range": codes.code_range.tolist(),
        }
    offsets = context_offsets(bank.window_frames)
    return {
        "blocks": NUM_BLOCKS,
        "heads": NUM_HEADS,
        "offsets": [offsets.start, offsets.stop - 1],
        "knows_silence": len(bank.silence_features) > 0,
        "code": code,
    }


def eye_entry(file: TalkerFile) -> dict[str, Any]:
    """How eye signals and head poses are standardised."""
    bank = file.model.bank
    return {
        "form": bank.eye_form,
        "mean": bank.expression_mean.tolist(),
        "std": bank.expression_std.tolist(),
        "blink_range": bank.blink_range.tolist(),
        "blink_places": [BLINK_PLACES.start, BLINK_PLACES.stop],
        "num_brows": NUM_BROWS,
        "viewpoint_range": bank.viewpoint_range.tolist(),
        "viewpoint_gain": bank.viewpoint_gain,
    }


def motion_entry(file: TalkerFile, num_frames: int) -> dict[str, Any]:
    """Where the track is turned, its calmest frame, and blinks."""
    poses = file.model.bank.poses[:num_frames].double().numpy()
    blinks = [[round(start, 4), round(depth, 4)] for start, depth in blink_times(BLINK_SECONDS)]
    return {
        "fps": FPS,
        "num_frames": num_frames,
        "turns": list(turning_frames(poses)),
        "calm": calmest_pose(poses),
        "blinks": blinks,
        "blink_seconds": BLINK_SECONDS,
    }


def about_entry(file: TalkerFile) -> dict[str, Any]:
    """Consent, licence and provenance, and the licences of what is carried."""
    said = file.description
    return {
        "statement": STATEMENT.replace("in this video was", "is"),
        "consent": (said.consent or {}).get("statement"),
        "licence": said.licence,
        "method": said.method,
        "step": said.step,
        "checkpoint": said.source.checkpoint,
        "checkpoint_sha256": said.source.checkpoint_sha256,
        "dataset_sha256": said.source.dataset_sha256,
        "talker_sha256": file.sha256,
        "packed": said.source.created,
        "versions": said.source.versions,
        "notices": carried_licences(),
    }


def carried_licences() -> dict[str, str]:
    """What a page carries -> its licence, out of the package's NOTICE."""
    apache = licence_under(APACHE_HEADING)
    # What comes before is the copyright of other files under that licence.
    own = "\n\n".join([OWN_NOTICE, apache[apache.index("Apache License") :]])
    return {
        "The encoder of speech: Whisper (MIT)": licence_under(WHISPER_HEADING),
        "The run-time: gaussiantalker-ns (Apache 2.0)": own,
    }


def licence_under(heading: str) -> str:
    """The text under a heading of the package's NOTICE, which a line of equal signs follows."""
    lines = asset_path("NOTICE").read_text(encoding="utf-8").split("\n")
    starts = [i - 1 for i, line in enumerate(lines) if i and line and set(line) == {"="}]
    for start, end in zip(starts, [*starts[1:], len(lines)]):
        if lines[start].startswith(heading):
            return "\n".join(lines[start + 2 : end]).strip()
    raise AssertionError(f"NOTICE has no {heading}")
