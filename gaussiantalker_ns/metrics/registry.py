"""The registry of metrics: key, name, unit, better direction, perfect score, and weights.

docs/evaluation.md defines each of them.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from gaussiantalker_ns.files import sha256_of
from gaussiantalker_ns.losses.perceptual import checkpoint_folder

Better = Literal["higher", "lower", "near 1", "near 0", ""]


@dataclass(frozen=True)
class Measure:
    """One figure."""

    key: str
    name: str
    unit: str = ""
    better: Better = ""
    perfect: float | None = None
    """Score of a video compared with itself, where that is fixed; PSNR is cut off at 100 dB."""
    digits: int = 3
    """Decimals that are shown."""
    group: str = "fidelity"


def _regions(name: str, key: str, unit: str, better: Better, perfect: float) -> list[Measure]:
    return [
        Measure(prefix + key, f"{name}, {region}", unit, better, perfect)
        for prefix, region in (("face_", "face box"), ("head_", "head mask"), ("", "whole frame"))
    ]


ALL = (
    *_regions("PSNR", "psnr", "dB", "higher", 100.0),
    Measure("lips_psnr", "PSNR, lip box", "dB", "higher", 100.0),
    Measure("eyes_psnr", "PSNR, eye box", "dB", "higher", 100.0),
    *_regions("SSIM", "ssim", "", "higher", 1.0),
    *_regions("LPIPS", "lpips", "", "lower", 0.0),
    *_regions("FID", "fid", "", "lower", 0.0),
    Measure("lmd", "LMD (FAN, 20 points)", "px", "lower", 0.0, group="lips"),
    Measure("aue", "AUE (OpenFace, 17 units)", "", "lower", 0.0, group="lips"),
    Measure("aue_lower", "AUE, lower face (9 units)", "", "lower", 0.0, group="lips"),
    Measure("aue_upper", "AUE, upper face (8 units)", "", "lower", 0.0, group="lips"),
    Measure("sync", "Sync (SyncNet confidence)", "", "higher", group="lips"),
    Measure("csim", "CSIM", "", "higher", 1.0, group="lips"),
    Measure(
        "lips_open_correlation", "Mouth-opening correlation", "", "higher", 1.0, group="motion"
    ),
    Measure("lips_width_correlation", "Mouth-width correlation", "", "higher", 1.0, group="motion"),
    Measure("lips_open_amplitude", "Mouth-opening std ratio", "", "near 1", 1.0, group="motion"),
    Measure(
        "lips_landmark_distance",
        "Lip landmark distance (MediaPipe)",
        "px",
        "lower",
        0.0,
        group="motion",
    ),
    Measure("lips_lag_ms", "Lip lag against the real lips", "ms", "near 0", 0.0, 0, group="motion"),
    Measure(
        "lips_open_correlation_lagged",
        "Mouth-opening correlation at the best lag",
        "",
        "higher",
        1.0,
        group="motion",
    ),
    Measure(
        "lips_width_correlation_lagged",
        "Mouth-width correlation at the best lag",
        "",
        "higher",
        1.0,
        group="motion",
    ),
    Measure("lips_num_frames", "Frames with a face in both", digits=0, group="motion"),
    Measure(
        "blendshape_error_lower",
        "Blendshape error, jaw and mouth",
        "",
        "lower",
        0.0,
        digits=4,
        group="motion",
    ),
    Measure(
        "blendshape_error_upper",
        "Blendshape error, brows and eyes",
        "",
        "lower",
        0.0,
        digits=4,
        group="motion",
    ),
    Measure("jitter_px", "Landmark jitter", "px", "lower", group="motion"),
    Measure(
        "jitter_ratio", "Landmark jitter over the real one's", "", "near 1", 1.0, group="motion"
    ),
    Measure("audio_lip_lag_ms", "Audio-lip lag", "ms", "near 0", digits=0, group="motion"),
    Measure(
        "audio_lip_lag_error_ms",
        "Standard error of that lag",
        "ms",
        "lower",
        digits=0,
        group="motion",
    ),
    Measure(
        "audio_lip_correlation", "Audio-lip correlation at that lag", "", "higher", group="motion"
    ),
    Measure("training_minutes", "Training time", "min", "lower", digits=1, group="cost"),
    Measure(
        "fps_single", "Speed, one frame at a time", "frames/s", "higher", digits=1, group="cost"
    ),
    Measure("fps_batch", "Speed, in batches", "frames/s", "higher", digits=1, group="cost"),
    Measure("gaussian_count", "Gaussians", digits=0, group="cost"),
    Measure("parameter_count", "Parameters", digits=0, group="cost"),
    Measure("model_megabytes", "Model size", "MB", "lower", digits=1, group="cost"),
    Measure(
        "checkpoint_megabytes", "Checkpoint, with optimisers", "MB", "", digits=1, group="cost"
    ),
)
"""All values in the order in which they are shown."""

MEASURES = {measure.key: measure for measure in ALL}

GROUPS = {
    "fidelity": "Image fidelity",
    "lips": "The paper's other measures",
    "motion": "Offline measures",
    "cost": "Cost",
}
"""Group -> heading."""


def shown(key: str, value: float | None) -> str:
    """A figure with its decimals; a dash for None. ("psnr", 31.0718) -> "31.072"."""
    return "-" if value is None else f"{value:.{MEASURES[key].digits}f}"


class NotMeasured(Exception):
    """A figure cannot be had here; the text says what it needs, and where to put it."""


def require_weights(file_name: str, what: str, sha256_prefix: str | None = None) -> Path:
    """Find a file of weights in torch's folder of checkpoints; nothing is downloaded.

    Args:
        file_name: Name of the file.
        what: What it is and where it comes from, for the message.
        sha256_prefix: Beginning of its hash, where the authors publish one.

    Raises:
        NotMeasured: The file is missing or another one.
    """
    path = checkpoint_folder() / file_name
    if not path.is_file():
        raise NotMeasured(f"needs {what}, put it at {path}")
    if sha256_prefix is not None and not sha256_of(path).startswith(sha256_prefix):
        raise NotMeasured(
            f"needs {what} with a sha256 that begins with {sha256_prefix}; the file at {path} is"
            " another one, or damaged: replace it"
        )
    return path
