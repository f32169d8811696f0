"""Summary of a finished data set: the table that `process` prints."""

from typing import Any

from rich.table import Table
from rich.text import Text


def offset_text(offset_ms: float) -> str:
    """How the sound was moved to fit the lips. Example: 80.0 -> "80 ms earlier"."""
    if round(offset_ms) == 0:
        return "not at all"
    return f"{abs(offset_ms):.0f} ms {'earlier' if offset_ms > 0 else 'later'}"


def pixels_text(pixels: float | None) -> str:
    """A distance in pixels. Example: 0.256 -> "0.26 px"; None -> "not measured"."""
    return "not measured" if pixels is None else f"{pixels:.2f} px"


def summary_table(talker: dict[str, Any], seconds: float) -> Table:
    """Table of what the data set is and how good it is."""
    tracking, source = talker["tracking"], talker["source"]
    table = Table(title="Data set", show_header=False, title_justify="left")
    length = talker["num_frames"] / talker["fps"]
    rows = [
        ("Video", f"{source['name']}, frames {source['take'][0]} to {source['take'][1]}"),
        ("Frames", f"{talker['num_frames']} ({length:.1f} s), {talker['size'][0]} px square"),
        ("Left out", str(len(talker["invalid_frames"]))),
        ("Focal length", f"{tracking['focal_px']:.0f} px"),
        ("Rigid reprojection", pixels_text(tracking["rigid_reprojection_px"])),
        ("Held-out optical flow", pixels_text(tracking["held_out_flow_px"])),
        ("Segmentation", talker["segmenter"]),
        ("Background seen", f"{100 * talker['background']['seen']:.0f} %"),
        ("Sound was moved", offset_text(talker["av_offset_ms"])),
        ("Speech features", ", ".join(talker["audio"])),
        ("Took", f"{seconds:.0f} s"),
    ]
    for name, value in rows:
        table.add_row(name, Text(value))
    return table
