"""Phoneme alignment: word or phoneme intervals from an alignment file."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from gaussiantalker_ns.timebase import FPS

SILENT = ("", "sil", "sp", "spn", "<eps>")


class Spoken(NamedTuple):
    """One word or phoneme."""

    start_s: float
    end_s: float
    label: str


def read_alignment(path: Path) -> list[Spoken]:
    """Read intervals: a CSV file with `Begin,End,Label`, or lines of `start end label` in seconds.

    The first is what the Montreal Forced Aligner writes with `--output_format csv`, the second a
    label track of Audacity.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a line is none of these.
    """
    if not path.is_file():
        raise FileNotFoundError(f"No alignment file at {path}; expected an existing file.")
    text = path.read_text(encoding="utf-8", errors="replace")
    if path.suffix.lower() == ".csv":
        fields = [
            (row.get("Begin"), row.get("End"), row.get("Label"))
            for row in csv.DictReader(text.splitlines())
        ]
    else:
        lines = [line.split(maxsplit=2) for line in text.splitlines() if line.strip()]
        fields = [(*line, "", "")[:3] for line in lines]
    spoken = []
    for number, (start, end, label) in enumerate(fields, start=1):
        try:
            item = Spoken(float(start or ""), float(end or ""), (label or "").strip())
        except ValueError as error:
            raise ValueError(
                f"Entry {number} of {path} is {(start, end, label)}; expected a start and an end in"
                " seconds and a label: `Begin,End,Label` in a .csv, `start end label` elsewhere."
            ) from error
        if item.label.lower() not in SILENT:
            spoken.append(item)
    return spoken


def frames_of_speech(spoken: Sequence[Spoken], frames: Sequence[int], count: int) -> dict[int, str]:
    """The middle frame of some intervals, evenly chosen among those that the frames cover.

    Example: "up" from 0.4 s to 0.6 s is seen in frame 12.
    """
    present = set(frames)
    middles = {
        int((item.start_s + item.end_s) / 2 * FPS): item.label
        for item in spoken
        if int((item.start_s + item.end_s) / 2 * FPS) in present
    }
    chosen = sorted(middles)
    step = max(len(chosen) / count, 1.0)
    picked = [chosen[int(place * step)] for place in range(min(count, len(chosen)))]
    return {frame: middles[frame] for frame in picked}
