"""Completes real legacy poses and an OpenFace table to a data set with blank pictures."""

import json
import os
import shutil
from pathlib import Path

import cv2
import numpy as np

from gaussiantalker_ns.dataparsers.dataset_layout import DatasetLayout

LEGACY_DATA_VARIABLE = "GAUSSIANTALKER_LEGACY_DATA"
"""Environment variable that names a folder with transforms_train.json, au.csv and aud_ds.npy."""


def real_legacy_files() -> Path | None:
    """The folder named by the environment, or None."""
    folder = os.environ.get(LEGACY_DATA_VARIABLE)
    return Path(folder) if folder and Path(folder).is_dir() else None


def write_legacy_folder(source: Path, root: Path, num_frames: int | None = None) -> Path:
    """Write a data set below `root` from the files in `source`; pictures are blank.

    The training poses are the real ones; the held-out frames, of which no poses exist, get those of
    the last training frames in reverse. With `num_frames` only the first frames are taken.
    """
    paths = DatasetLayout(root)
    transforms = json.loads((source / "transforms_train.json").read_text())
    table = (source / "au.csv").read_text().splitlines()
    num_frames = num_frames or len(table) - 1
    num_train = min(len(transforms["frames"]), num_frames * 10 // 11)
    train = transforms["frames"][:num_train]
    val = [
        {**train[-1 - place % num_train], "img_id": frame, "aud_id": frame}
        for place, frame in enumerate(range(num_train, num_frames))
    ]
    for folder in (paths.frames_dir, paths.parsing_dir, paths.torso_dir):
        folder.mkdir(parents=True)
    for split, frames in (("train", train), ("val", val)):
        paths.transforms(split).write_text(json.dumps({**transforms, "frames": frames}))
    paths.action_units.write_text("\n".join(table[: num_frames + 1]) + "\n")
    windows = np.load(source / "aud_ds.npy")
    np.save(root / "aud_ds.npy", np.resize(windows, (num_frames, *windows.shape[1:])))
    _write_blank_pictures(paths, int(2 * transforms["cx"]), num_frames)
    return root


def _write_blank_pictures(paths: DatasetLayout, size: int, num_frames: int) -> None:
    blank = np.full((size, size, 3), 255, np.uint8)
    head = blank.copy()
    cv2.ellipse(head, (size // 2, size // 2), (size // 5, size // 4), 0, 0, 360, (255, 0, 0), -1)
    cv2.imwrite(str(paths.background), blank)
    for first, path, picture in (
        (paths.frame(0), paths.frame, blank),
        (paths.parsing(0), paths.parsing, head),
        (paths.torso(0), paths.torso, np.zeros((size, size, 4), np.uint8)),
    ):
        cv2.imwrite(str(first), picture)
        for frame in range(1, num_frames):
            _link(first, path(frame))


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
