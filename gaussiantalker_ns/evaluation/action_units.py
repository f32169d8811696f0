"""AUE, the action unit error, from OpenFace tables of render and real video."""

import csv
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
