"""AUE, the action unit error, and other values that external programs measure."""

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

UPPER_FACE = ("AU01", "AU02", "AU04", "AU05", "AU06", "AU07", "AU09", "AU45")
LOWER_FACE = ("AU10", "AU12", "AU14", "AU15", "AU17", "AU20", "AU23", "AU25", "AU26")
"""The 17 action units whose intensity (0 to 5) OpenFace gives, columns `AU01_r` and so on."""

UNITS = UPPER_FACE + LOWER_FACE

FAILED = np.nan
"""Stands in the rows in which OpenFace saw no face."""


def read_openface(path: Path) -> Float[np.ndarray, "m 17"]:
    """Read the intensities of an OpenFace table, one row a frame; NaN where no face was found.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no table of OpenFace.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"No OpenFace table at {path}; expected the .csv that FeatureExtraction wrote."
        )
    with path.open(newline="", encoding="utf-8", errors="replace") as file:
        rows = [
            {str(name).strip(): str(value).strip() for name, value in row.items()}
            for row in csv.DictReader(file)
        ]
    columns = [f"{unit}_r" for unit in UNITS]
    missing = [name for name in columns if not rows or name not in rows[0]]
    if missing:
        raise ValueError(
            f"{path} lacks the column {missing[0]}; expected an OpenFace table with the intensities"
            " of 17 action units. Run FeatureExtraction with -aus."
        )
    try:
        values = np.array([[float(row[name]) for name in columns] for row in rows])
        success = np.array([float(row.get("success", "1")) > 0 for row in rows])
    except ValueError as error:
        raise ValueError(f"{path} holds {error}; expected numbers. Write it again.") from error
    values[~success] = FAILED
    return values


def action_unit_errors(
    rendered: Float[np.ndarray, "m 17"], real: Float[np.ndarray, "k 17"]
) -> dict[str, float]:
    """Sum over action units of the mean squared difference of their intensities.

    Args:
        rendered: Intensities in the render, NaN where there is no face.
        real: The same for the real video.

    Returns:
        `aue` over all 17 units, `aue_lower` over the lower nine, `aue_upper` over the upper eight.

    Raises:
        ValueError: The tables have different numbers of rows.
    """
    if len(rendered) != len(real):
        raise ValueError(
            f"The OpenFace tables have {len(rendered)} and {len(real)} rows; expected one row for"
            " every frame of the same two videos. Run OpenFace on render.mp4 and truth.mp4."
        )
    seen = np.isfinite(rendered).all(axis=1) & np.isfinite(real).all(axis=1)
    if not seen.any():
        nan = float("nan")
        return {"aue": nan, "aue_lower": nan, "aue_upper": nan}
    errors = ((rendered[seen] - real[seen]) ** 2).mean(axis=0)
    upper, lower = errors[: len(UPPER_FACE)].sum(), errors[len(UPPER_FACE) :].sum()
    return {"aue": float(upper + lower), "aue_lower": float(lower), "aue_upper": float(upper)}


BOTH_VIDEOS = (
    "render and truth (for a run render.mp4 and truth.mp4, which come with the pictures; with"
    " --audio truth is the recording, with --videos both are yours)"
)
SYNC_NEEDS = (
    f"needs SyncNet: run its public scorer on {BOTH_VIDEOS} and give both confidences with --sync"
)
OPENFACE_NEEDS = (
    f"needs OpenFace: run FeatureExtraction on {BOTH_VIDEOS} and name both tables with"
    " --openface-csv"
)


@dataclass(frozen=True)
class ExternalMetrics:
    """What programs that cannot be shipped have measured on the videos of an evaluation."""

    openface_csv: tuple[Path, Path] | None = None
    """OpenFace's tables of render and truth."""
    sync: tuple[float, float] | None = None
    """SyncNet's confidence of render and truth."""

    def values(self) -> dict[str, float]:
        """AUE and Sync, as far as they are there.

        Raises:
            FileNotFoundError: A table is missing.
            ValueError: The tables cannot be compared.
        """
        found = {} if self.sync is None else {"sync": self.sync[0]}
        if self.openface_csv is not None:
            rendered, real = (read_openface(path) for path in self.openface_csv)
            found.update(action_unit_errors(rendered, real))
        return found

    @property
    def ground_truth(self) -> dict[str, float]:
        """Sync of the real video."""
        return {} if self.sync is None else {"sync": self.sync[1]}

    @property
    def not_measured(self) -> dict[str, str]:
        """What is not there, and how to get it."""
        missing = {} if self.sync is not None else {"sync": SYNC_NEEDS}
        if self.openface_csv is None:
            missing.update(dict.fromkeys(("aue", "aue_lower", "aue_upper"), OPENFACE_NEEDS))
        return missing
