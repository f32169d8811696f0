"""Packing a trained run into a talker file."""

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Int, UInt8
from torch import Tensor

from gaussiantalker_ns.files import default_workers, ordered_map
from gaussiantalker_ns.inference.frame_renderer import FrameRenderer
from gaussiantalker_ns.inference.motion import MotionConfig, frames_in_motion
from gaussiantalker_ns.inference.provenance import package_versions
from gaussiantalker_ns.inference.scene import Scene
from gaussiantalker_ns.inference.talker_file import webp
from gaussiantalker_ns.inference.talker_file.archive import refuse_existing, write_archive
from gaussiantalker_ns.inference.talker_file.reader import (
    EYE,
    GAUSSIANS,
    NETWORK,
    NOT_IN_NETWORK,
    POSES,
    STATISTICS,
    halved_names,
    statistics_of,
)
from gaussiantalker_ns.inference.talker_file.schema import (
    BACKGROUND,
    DESCRIPTION,
    MOST_FRAMES,
    MOST_SIDE,
    PICTURE,
    TENSORS,
    AudioInput,
    Camera,
    Description,
    Precision,
    Source,
    description_json,
    torso_name,
)
from gaussiantalker_ns.inference.talker_file.tensors import tensor_bytes
from gaussiantalker_ns.timebase import FPS

if TYPE_CHECKING:
    from gaussiantalker_ns.inference.checkpoint import LoadedCheckpoint
    from gaussiantalker_ns.model import GaussianTalkerModel

TORSO_QUALITIES = 92, 96, 99, webp.LOSSLESS
"""WebP qualities of torso layers; the first one that is good enough is taken."""

TORSO_GOAL = 46.0
"""Least PSNR of the whole frame that torso layers may cause, in decibels."""

FRAMES_TRIED = 8
"""Frames of the track that a quality is tried on."""

PICTURE_QUALITY = 92

ShowProgress = Callable[[int, int], None]
"""Called with the torso layers done, and those in all."""


@dataclass(frozen=True)
class PackOptions:
    """What goes into a talker file, and how exactly."""

    precision: Precision = "float32"
    """Of networks, features, colours and shapes; float16 halves the file and is not seen."""
    track_seconds: float = 40.0
    """Length of the motion track, from the beginning of the clip's longest stretch."""
    torso_quality: int | None = None
    """WebP quality of the torso layers, 1 to 100; 101 is lossless, and None is as much as whole
    frames of 46 dB need."""
    licence: str | None = None
    """What others may do with the file, in its owner's words."""

    def __post_init__(self) -> None:
        longest = MOST_FRAMES // FPS
        if not 1 / FPS <= self.track_seconds <= longest:
            raise ValueError(
                f"--track-seconds is {self.track_seconds}; expected a length of up to {longest} s."
            )
        if self.torso_quality is not None and not 1 <= self.torso_quality <= webp.LOSSLESS:
            raise ValueError(
                f"--torso-quality is {self.torso_quality}; expected 1 to 100, or 101 (lossless)."
            )


def pack(
    checkpoint: "LoadedCheckpoint",
    output: Path,
    options: PackOptions | None = None,
    overwrite: bool = False,
    show: ShowProgress | None = None,
) -> None:
    """Write a trained run as a talker file, whole or not at all.

    Args:
        checkpoint: The run, with its data set.
        output: The file, ending in .talker.
        options: What goes in.
        overwrite: Whether an existing file is replaced.
        show: Told of the progress.

    Raises:
        FileExistsError: There is such a file.
        ValueError: The run cannot be packed; the message says why.
    """
    refuse_existing(output, overwrite)
    check_packable(checkpoint)
    options = options or PackOptions()
    write_archive(output, members_to_pack(checkpoint, options, show), overwrite)


def check_packable(checkpoint: "LoadedCheckpoint") -> None:
    """Check that a run has a head that speaks.

    Raises:
        ValueError: It has not.
    """
    from gaussiantalker_ns.engine.optimizers import Stage

    model = checkpoint.model
    if model.stage is Stage.CANONICAL:
        raise ValueError(
            f"{checkpoint.path} ends in the canonical stage (step {checkpoint.step}), where the"
            " head does not speak yet; expected a run that has reached the deformation stage. Train"
            " on."
        )
    size = model.background.layers.size
    if size > MOST_SIDE:
        raise ValueError(
            f"{checkpoint.path} was trained with pictures of {size} px; expected at most"
            f" {MOST_SIDE}. Train with a smaller --image-size after `talking-head`."
        )


def members_to_pack(
    checkpoint: "LoadedCheckpoint", options: PackOptions, show: ShowProgress | None
) -> Iterator[tuple[str, bytes]]:
    """Yield name and bytes of the members of a talker file."""
    model = checkpoint.model
    layers = model.background.layers.static
    frames = track_frames(model, options)
    description = describe(checkpoint, frames, options)
    problem = description.problem()
    if problem is not None:
        raise ValueError(
            f"{checkpoint.path} {problem}; expected a talker that readers take. Train with another"
            " setting, or keep the run itself."
        )
    text = json.dumps(description_json(description), indent=1, allow_nan=False)
    yield DESCRIPTION, text.encode()
    tensors = tensors_to_pack(model, frames)
    halved = halved_names({name: tuple(t.shape) for name, t in tensors.items()}, description)
    yield TENSORS, tensor_bytes(tensors, halved)
    yield BACKGROUND, webp.encode(layers.background_behind(int(frames[0])).numpy())
    yield PICTURE, webp.encode(portrait(checkpoint), PICTURE_QUALITY)
    if description.torso_mode == "gaussians":
        return

    tried = frames[np.linspace(0, len(frames) - 1, FRAMES_TRIED).astype(int)]
    torsos = (layers.torso(int(frame)).numpy() for frame in tried)
    quality = options.torso_quality or sufficient_quality(list(torsos))

    def encode(frame: int) -> bytes:
        return webp.encode(without_empty_rows(layers.torso(frame).numpy()), quality)

    # Encoded by a few threads, a few at a time.
    for index, data in enumerate(ordered_map(encode, frames.tolist(), default_workers(0))):
        yield torso_name(index), data
        if show is not None:
            show(index + 1, len(frames))


def track_frames(model: "GaussianTalkerModel", options: PackOptions) -> Int[np.ndarray, " r"]:
    """Frames of the clip that become the motion track."""
    clip_frames = np.sort(model.bank.train_frames.cpu().numpy())
    return frames_in_motion(clip_frames)[: round(options.track_seconds * FPS)]


def describe(
    checkpoint: "LoadedCheckpoint", frames: Int[np.ndarray, " r"], options: PackOptions
) -> Description:
    """The description of a run as a talker."""
    model = checkpoint.model
    bank, K = model.bank, model.background.K
    window, features = bank.audio.shape[1:]
    degree = min(model.step // model.config.sh_degree_interval, model.config.sh_degree)
    origin = checkpoint.origin()
    return Description(
        method=checkpoint.method,
        step=checkpoint.step,
        fps=FPS,
        size=model.background.layers.size,
        precision=options.precision,
        camera=Camera(*(float(K[place]) for place in ((0, 0), (1, 1), (0, 2), (1, 2)))),
        torso_mode="gaussians" if model.background.mode == "gaussians" else "layer",
        num_frames=len(frames),
        num_gaussians=len(model.gauss_params["means"]),
        sh_degree=degree,
        audio=AudioInput(
            encoder=bank.audio_encoder,
            window_shape=(int(window), int(features)),
            context_frames=bank.window_frames,
            knows_silence=len(bank.silence_features) > 0,
        ),
        eye_form=bank.eye_form,
        viewpoint_gain=bank.viewpoint_gain,
        head=model.config.head,
        articulation=None if bank.speech_codes is None else model.config.articulation,
        source=Source(
            checkpoint=origin.checkpoint,
            checkpoint_sha256=origin.checkpoint_sha256,
            dataset_sha256=origin.dataset_sha256,
            created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            versions=package_versions(),
        ),
        consent=origin.consent,
        licence=options.licence,
    )


@torch.no_grad()
def tensors_to_pack(
    model: "GaussianTalkerModel", frames: Int[np.ndarray, " r"]
) -> dict[str, Tensor]:
    """The tensors of a model for a motion track, by their names in the file."""
    head, bank = model.head, model.bank
    features, gaussians = model.cached_canonical()
    network = {
        NETWORK + name: value
        for name, value in head.state_dict().items()
        if not name.startswith((*NOT_IN_NETWORK, "canonical_field."))
    }
    track = torch.from_numpy(frames).to(bank.poses.device)
    silence = bank.silence_features.float()
    return {
        GAUSSIANS + "means": gaussians.means,
        GAUSSIANS + "scales": gaussians.log_scales,
        GAUSSIANS + "quats": gaussians.quats,
        GAUSSIANS + "features_dc": gaussians.sh[:, 0],
        GAUSSIANS + "features_rest": gaussians.sh[:, 1:],
        GAUSSIANS + "opacities": gaussians.opacity_logits[:, None],
        "features": features,
        "mouth_border": head.mouth_border,
        **network,
        **{STATISTICS + name: value for name, value in statistics_of(bank).items()},
        POSES: bank.poses[track],
        EYE: bank.eye[track],
        **({"silence": silence.mean(dim=(0, 1))} if len(silence) else {}),
    }


def portrait(checkpoint: "LoadedCheckpoint") -> UInt8[np.ndarray, "h wd 3"]:
    """The talker in its calmest pose, silent, with open eyes."""
    bank: Any = checkpoint.model.bank
    motion = MotionConfig(pose="still", blink="none")
    mode = "gaussians" if checkpoint.model.background.mode == "gaussians" else "layer"
    renderer = FrameRenderer(checkpoint, Scene(torso_mode=mode), motion)
    row = renderer.mean_silence_features
    if row is None:
        row = bank.audio_mean.cpu().numpy()[None].repeat(bank.audio.shape[1], axis=0)
    windows = np.broadcast_to(row, (1, renderer.window_frames, *row.shape)).astype(np.float32)
    try:
        return next(renderer.render(windows, np.array([0])))
    finally:
        renderer.close()


def sufficient_quality(torsos: list[UInt8[np.ndarray, "h wd 4"]]) -> int:
    """The first of `TORSO_QUALITIES` with which no frame loses more than `TORSO_GOAL` allows."""
    for quality in TORSO_QUALITIES[:-1]:
        if min(decibels_kept(torso, quality) for torso in torsos) >= TORSO_GOAL:
            return quality
    return TORSO_QUALITIES[-1]


def decibels_kept(torso: UInt8[np.ndarray, "h wd 4"], quality: int) -> float:
    """PSNR of the whole frame whose torso layer was encoded, and nothing else changed."""
    lower = without_empty_rows(torso)
    kept = webp.decode(memoryview(webp.encode(lower, quality)), 4, "torso", Path("talker"))
    lost = (kept[..., :3].astype(np.float32) - lower[..., :3]) * (lower[..., 3:] / np.float32(255))
    mean = float(np.square(lost).sum()) / (3 * len(torso) * torso.shape[1])
    return 10.0 * math.log10(255.0**2 / max(mean, 1e-9))


def without_empty_rows(layer: UInt8[np.ndarray, "h wd 4"]) -> UInt8[np.ndarray, "_ wd 4"]:
    """A layer from its first row with anything in it downwards, one row at least."""
    rows = np.flatnonzero(layer[..., 3].max(axis=1))
    return np.ascontiguousarray(layer[int(rows[0]) if len(rows) else -1 :])
