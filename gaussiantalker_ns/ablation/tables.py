"""The rows of the paper's Tables 3 to 6, and of the fusion baselines, as settings of the method.

This is the one place to look up, or to add, a row. A setting is a path in the trainer's
configuration and its value; what a row does not name stays as in the preset, so a row without
settings is the preset itself, the reference that all others are compared with.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

PAPER_COLUMNS = {"PSNR": True, "LPIPS": False, "FID": False, "LMD": False, "Sync": True}
"""The paper's measures -> whether higher is better."""

DELTA, MU, ALPHA = "\u0394", "\u03bc", "\u03b1"
"""Letters of the paper's row names."""


@dataclass(frozen=True)
class Row:
    """One variant of the method."""

    name: str
    """What a user types, and the name of the row's folder."""
    label: str
    """The paper's name of the row."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Path in the trainer's configuration -> value."""
    paper: tuple[float, ...] | None = None
    """The paper's values in the order of `PAPER_COLUMNS`; None for rows that it does not have."""
    expected_worse: bool = False
    """For rows without values: whether the paper's text says that the row is worse."""
    curve: Mapping[int, tuple[float, ...]] | None = None
    """The paper's values after so many iterations; rows with a curve are measured on the way."""


@dataclass(frozen=True)
class AblationTable:
    """One table of the paper."""

    title: str
    """What is varied."""
    rows: tuple[Row, ...]
    """The variants; the one without settings, or with the preset's own, is the reference."""


HEAD = "pipeline.model.head"
ATTRIBUTES = f"{HEAD}.canonical.canonical_attributes"
TOKENS = f"{HEAD}.tokens"
OFFSETS = f"{HEAD}.deformation"

WITHOUT_STAGES_CURVE = {
    500: (26.063, 0.072, 66.629, 3.446, 1.348),
    1000: (26.478, 0.064, 56.890, 3.344, 4.007),
    5000: (32.676, 0.016, 14.026, 2.971, 6.602),
}
WITH_STAGES_CURVE = {
    500: (31.076, 0.029, 31.301, 3.792, 1.548),
    1000: (31.923, 0.024, 20.366, 3.245, 4.449),
    5000: (32.733, 0.014, 11.173, 2.923, 6.736),
}

TABLES: dict[str, AblationTable] = {
    "3": AblationTable(
        "attributes that the canonical Gaussians read from the tri-plane",
        (
            Row(
                "attributes-all",
                f"s, r, SH, {ALPHA}",
                {ATTRIBUTES: ("scale", "rotation", "sh", "opacity")},
                (33.195, 0.016, 9.976, 2.873, 6.927),
            ),
            Row(
                "attributes-sh-opacity",
                f"SH, {ALPHA}",
                {ATTRIBUTES: ("sh", "opacity")},
                (33.299, 0.014, 9.808, 2.891, 6.853),
            ),
            Row(
                "attributes-scale-rotation",
                "r, s",
                {ATTRIBUTES: ("scale", "rotation")},
                (33.056, 0.016, 11.775, 2.873, 6.892),
            ),
            # Sec. 5.4.1: all attributes are free, the planes are trained in the deformation stage.
            Row(
                "attributes-none",
                "random init.",
                {ATTRIBUTES: ()},
                (33.040, 0.017, 11.915, 2.996, 6.543),
            ),
        ),
    ),
    "4": AblationTable(
        "deformed attributes",
        (
            Row(
                "offsets-appearance",
                f"{DELTA}SH, {DELTA}{ALPHA}",
                {f"{OFFSETS}.{name}": False for name in ("position", "scale", "rotation")},
                (32.746, 0.021, 44.933, 3.179, 6.694),
            ),
            Row(
                "offsets-geometry",
                f"{DELTA}{MU}, {DELTA}r, {DELTA}s",
                {f"{OFFSETS}.{name}": False for name in ("sh", "opacity")},
                (33.036, 0.013, 17.52, 2.970, 6.688),
            ),
            Row(
                "offsets-all",
                f"{DELTA}{MU}, {DELTA}r, {DELTA}s, {DELTA}SH, {DELTA}{ALPHA}",
                {},
                (33.299, 0.013, 9.808, 2.890, 6.928),
            ),
        ),
    ),
    "5": AblationTable(
        "input conditions",
        (
            Row(
                "without-null",
                "w/o null-vec",
                {f"{TOKENS}.null": False},
                (32.997, 0.014, 9.908, 2.933, 6.698),
            ),
            Row(
                "without-eye",
                "w/o eye feature",
                {f"{TOKENS}.eye": False},
                (32.826, 0.015, 10.060, 2.902, 6.911),
            ),
            Row(
                "without-viewpoint",
                "w/o viewpoint",
                {f"{TOKENS}.viewpoint": False},
                (31.866, 0.019, 13.231, 3.052, 6.563),
            ),
            # No row of the paper, but its method: eyes and head pose act on the mouth, too.
            Row(
                "no-spatial-mask",
                "all tokens without a spatial mask",
                {f"{TOKENS}.upper_face_only": ()},
            ),
            # The paper's own way: the audio token reads hundreds of raw speech features.
            Row(
                "raw-features",
                "raw speech features",
                {"pipeline.model.articulation.enabled": False},
            ),
            # Not in the paper: the floor of the lip measures, without which none can be judged.
            Row("without-audio", "w/o audio", {f"{TOKENS}.audio": False}, expected_worse=True),
            Row("conditions-all", "All (Ours)", {}, (33.299, 0.014, 9.809, 2.891, 6.928)),
        ),
    ),
    "6": AblationTable(
        "stage-wise training",
        (
            Row(
                "single-stage",
                "w/o stage-wise",
                {"pipeline.canonical_steps": 0},
                curve=WITHOUT_STAGES_CURVE,
            ),
            Row("stage-wise", "w/ stage-wise", {}, curve=WITH_STAGES_CURVE),
        ),
    ),
    "fusion": AblationTable(
        "how features and conditions meet (argued in Sec. 1 and 4.3.1, without values)",
        (
            Row(
                "concat",
                "concatenation (as RAD-NeRF)",
                {f"{HEAD}.fusion": "concat"},
                expected_worse=True,
            ),
            Row(
                "multiply",
                "multiplication (as ER-NeRF)",
                {f"{HEAD}.fusion": "multiply"},
                expected_worse=True,
            ),
            Row("attention", "cross-attention (Ours)", {}),
        ),
    ),
}
"""Name on the command line -> table."""
