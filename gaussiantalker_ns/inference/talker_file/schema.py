"""What `talker.json` says of a talker, and the bounds within which a reader believes it."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from gaussiantalker_ns.audio.articulation import ArticulationConfig
from gaussiantalker_ns.audio.encoders.registry import ENCODER_NAMES, READY_MADE
from gaussiantalker_ns.data.eye_signal import EyeForm
from gaussiantalker_ns.fields.talking_head import TalkingHeadConfig
from gaussiantalker_ns.inference.talker_file.archive import MOST_MEMBERS, TalkerFileError, wrong
from gaussiantalker_ns.inference.talker_file.typed_json import Mismatch, as_json, from_json, parse
from gaussiantalker_ns.timebase import FPS

FORMAT, VERSION = "gaussiantalker-talker", 1
"""The first two entries of `talker.json`; the version grows when older readers cannot go on."""

DESCRIPTION, TENSORS, BACKGROUND, PICTURE = (
    "talker.json",
    "tensors.safetensors",
    "background.webp",
    "picture.webp",
)
"""The members beside the torso layers."""

MOST_DESCRIPTION_BYTES = 256 * 2**10
MOST_FRAMES = MOST_MEMBERS - 16
MOST_GAUSSIANS = 500_000
MOST_SIDE = 2048
MOST_WIDTH = 2048
"""Of any layer or other size of the network."""

MOST_LAYERS = 16
MOST_NETWORKS = 16
"""From speech to the articulation code."""

Precision = Literal["float32", "float16"]


def torso_name(frame: int) -> str:
    """Name of the torso layer of a frame of the motion track."""
    return f"torso/{frame:05d}.webp"


@dataclass(frozen=True)
class Camera:
    """Intrinsics of the clip's camera at the talker's size, in pixels."""

    fx: float
    fy: float
    cx: float
    cy: float


@dataclass(frozen=True)
class AudioInput:
    """What the network hears."""

    encoder: str
    """Name of the encoder whose features it knows."""
    window_shape: tuple[int, int]
    """Rows and features of one frame's window."""
    context_frames: int
    """Frames whose windows the temporal attention sees."""
    knows_silence: bool
    """Whether a feature row of silence was part of the training, and is in the file."""


@dataclass(frozen=True)
class Source:
    """Where a talker was trained."""

    checkpoint: str
    """Name of the checkpoint's file."""
    checkpoint_sha256: str
    dataset_sha256: str
    """Checksum of the data set's own record."""
    created: str
    """When it was packed, ISO 8601."""
    versions: dict[str, str]
    """Package -> version, on the machine that packed it."""


@dataclass(frozen=True)
class Description:
    """What a talker file says of itself, beside its format and version."""

    method: str
    """Method of the training, such as gaussiantalker-cpu."""
    step: int
    """Training step of the checkpoint."""
    fps: int
    """Frames per second of audio windows and motion track."""
    size: int
    """Side of the square pictures."""
    precision: Precision
    """Of features, networks, colours and shapes; positions, statistics and track are float32."""
    camera: Camera
    torso_mode: Literal["layer", "gaussians"]
    """Whether there are torso layers, or Gaussians model the whole person."""
    num_frames: int
    """Frames of the motion track, which is played in ping-pong."""
    num_gaussians: int
    sh_degree: int
    """Degree of the spherical harmonics in use, at most the network's."""
    audio: AudioInput
    eye_form: EyeForm
    viewpoint_gain: float
    """Factor on how far a camera lies from the middle of the training's."""
    head: TalkingHeadConfig
    """Sizes and switches of the network."""
    source: Source
    articulation: ArticulationConfig | None = None
    """Sizes of the networks from speech to the articulation code; None for raw features."""
    consent: dict[str, str] | None = None
    """The consent of the person shown, as the data set records it."""
    licence: str | None = None
    """What others may do with the file, in its owner's words."""

    def problem(self) -> str | None:
        """What is out of bounds, or None."""
        head = self.head
        window, features = self.audio.window_shape
        bounds = {
            "step": (self.step, 0, 10**9),
            "fps": (self.fps, FPS, FPS),
            "size": (self.size, 16, MOST_SIDE),
            "num_frames": (self.num_frames, 1, MOST_FRAMES),
            "num_gaussians": (self.num_gaussians, 1, MOST_GAUSSIANS),
            "head.sh_degree": (head.sh_degree, 0, 3),
            "sh_degree": (self.sh_degree, 0, head.sh_degree),
            "audio.window_shape": (window, 1, 256),
            "audio.window_shape[1]": (features, 1, MOST_WIDTH),
            "audio.context_frames": (self.audio.context_frames, 1, 64),
            "head.attention.num_layers": (head.attention.num_layers, 1, MOST_LAYERS),
            "head.attention.num_heads": (head.attention.num_heads, 1, 64),
            "head.triplane.resolutions": (len(head.triplane.resolutions), 1, MOST_LAYERS),
        }
        if self.articulation is not None:
            bounds["articulation.num_folds"] = (self.articulation.num_folds, 1, MOST_NETWORKS)
            bounds["articulation.width"] = (self.articulation.width, 1, MOST_WIDTH // 8)
        for name, (value, low, high) in bounds.items():
            if not low <= value <= high:
                return f"has {name} = {value}, not {low} to {high}"
        for name, value in numbers_in(as_json(head), "head"):
            low = 0 if isinstance(value, int) else -MOST_WIDTH
            if not low <= value <= MOST_WIDTH:
                return f"has {name} = {value}, not {low} to {MOST_WIDTH}"
        if self.audio.context_frames != head.tokens.audio_encoder.window_frames:
            return "has two different numbers of context frames"
        if self.audio.encoder not in (*ENCODER_NAMES, *READY_MADE):
            return f"needs the audio encoder {self.audio.encoder[:40]!r}, which is not known here"
        if not 0 < self.viewpoint_gain <= 1000 or min(self.camera.fx, self.camera.fy) <= 0:
            return "has a viewpoint gain or a focal length out of bounds"
        return None


def numbers_in(value: Any, name: str) -> Iterator[tuple[str, float]]:
    """All numbers in parsed JSON with their places."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from numbers_in(item, f"{name}.{key}")
    elif isinstance(value, list):
        for item in value:
            yield from numbers_in(item, name)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield name, value


def description_json(description: Description) -> dict[str, Any]:
    """The content of `talker.json`."""
    return {"format": FORMAT, "version": VERSION, **as_json(description)}


def read_description(data: memoryview, path: Path) -> Description:
    """Read and check `talker.json`.

    Raises:
        TalkerFileError: It belongs to a newer version, or is not what the format says.
    """
    if len(data) > MOST_DESCRIPTION_BYTES:
        raise wrong(path, f"holds a {DESCRIPTION} of {len(data)} bytes")
    try:
        content = parse(data)
        if not isinstance(content, dict) or content.pop("format", None) != FORMAT:
            raise Mismatch(f"is not of the format {FORMAT!r}")
        version = content.pop("version", None)
        if not isinstance(version, int) or isinstance(version, bool) or version < 1:
            raise Mismatch("has no version")
        if version > VERSION:
            raise TalkerFileError(
                f"{path} has version {min(version, 10**9)} of the format; this version of"
                f" gaussiantalker-ns reads up to version {VERSION}. Install a newer one"
                " (`pip install --upgrade gaussiantalker-ns`), or ask for a file in the older form."
            )
        description = from_json(Description, content, "talker")
        problem = description.problem()
    except Mismatch as error:
        raise wrong(path, f"holds a {DESCRIPTION} that {error}") from error
    if problem is not None:
        raise wrong(path, f"holds a {DESCRIPTION} that {problem}")
    return description
