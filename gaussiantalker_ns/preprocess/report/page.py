"""Step 8: `report.html`, one self-contained page that shows whether the data set is good."""

from dataclasses import dataclass
from html import escape
from typing import Any

from gaussiantalker_ns.dataparsers.dataset_layout import DatasetLayout
from gaussiantalker_ns.face.landmarker import Landmarks
from gaussiantalker_ns.html import STYLE, json_for_html
from gaussiantalker_ns.preprocess.report.clip_quality import look_at_faces, read_levels
from gaussiantalker_ns.preprocess.report.figures import (
    SHEET_ROWS,
    background_image,
    contact_sheet,
    lag_plot,
    time_plots,
)
from gaussiantalker_ns.preprocess.report.warnings import Finding, find_warnings
from gaussiantalker_ns.preprocess.step_runner import Facts, read_talker
from gaussiantalker_ns.preprocess.tracking.track import Tracking


@dataclass(frozen=True)
class Figures:
    """Addresses of the pictures of a report."""

    sheet: str
    background: str
    time: str
    lag: str


def table(rows: list[tuple[str, str]]) -> str:
    """An HTML table of names and values, both escaped."""
    cells = (f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in rows)
    return f"<table>{''.join(cells)}</table>"


def clip_rows(talker: dict[str, Any]) -> list[tuple[str, str]]:
    """What the data set was made of."""
    source = talker["source"]
    length = talker["num_frames"] / talker["fps"]
    consent = talker.get("consent")
    return [
        ("Source", source["name"]),
        ("Part used", f"frames {source['take'][0]} to {source['take'][1]} at 25 a second"),
        ("Length", f"{length:.1f} s, {talker['num_frames']} frames"),
        (
            "Source picture",
            "{} x {}, {:.2f} frames/s".format(*source["source_size"], source["source_fps"]),
        ),
        ("Crop", f"{source['crop'][2]} px to {talker['size'][0]} px"),
        ("Segmentation", talker["segmenter"]),
        ("Speech features", ", ".join(f"{k} {v['shape']}" for k, v in talker["audio"].items())),
        ("Consent", consent["statement"] if consent else "not stated (--consent)"),
    ]


def quality_rows(talker: dict[str, Any]) -> list[tuple[str, str]]:
    """How well the head was tracked."""
    tracking = talker["tracking"]

    def pixels(name: str) -> str:
        value = tracking[name]
        return "not measured" if value is None else f"{value:.2f} px"

    return [
        ("Frames left out", str(len(talker["invalid_frames"]))),
        ("Face side", f"{tracking['face_side_px']:.0f} px"),
        ("Rigid reprojection", f"{pixels('rigid_reprojection_px')} (good: below 1.2)"),
        ("With expressions", pixels("reprojection_px")),
        ("Held-out optical flow", f"{pixels('held_out_flow_px')} (good: below 0.4)"),
        ("Rotation jitter", f"{tracking['rotation_jitter_deg'] or 0:.2f} degrees"),
        (
            "Head motion",
            "pitch {pitch_range_deg:.0f}, yaw {yaw_range_deg:.0f}, roll {roll_range_deg:.0f} "
            "degrees".format(**tracking),
        ),
        ("Focal length", f"{tracking['focal_px']:.0f} px"),
        ("Background seen", f"{100 * talker['background']['seen']:.0f} %, the rest is filled in"),
        ("Backgrounds", f"{talker['background']['plates']} (more than one: it moves)"),
        ("Sound later than lips by", lateness(talker["av_offset"])),
        ("Confidence of that", f"{talker['av_offset']['confidence']:.2f} of 1"),
    ]


def lateness(estimate: dict[str, Any]) -> str:
    """The estimated offset, or that it is not known. Example: "12 ms"."""
    if not estimate.get("known", True):
        return "not known"
    return f"{estimate['estimate_ms']:.0f} ms"


def warning_list(warnings: list[Finding]) -> str:
    """The warnings, or that there are none."""
    if not warnings:
        return '<p class="good">Nothing stands out: this is a good recording.</p>'
    items = (
        f'<li class="warning"><b>{escape(warning.title)}</b> {escape(warning.advice)}</li>'
        for warning in warnings
    )
    return f"<ul>{''.join(items)}</ul>"


def page(talker: dict[str, Any], warnings: list[Finding], figures: Figures) -> str:
    """The whole page; everything that comes from the user is escaped."""
    name = escape(talker["source"]["name"])
    rows = "".join(f"<li>{escape(text)}</li>" for text in SHEET_ROWS)
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>Data set report: {name}</title>
<style>{STYLE}</style></head><body><main>
<h1>{name}</h1><p class="muted">Data set report of gaussiantalker process</p>
<section><h2>What to do</h2>{warning_list(warnings)}</section>
<section><h2>Frames</h2><div class="sheet"><ol>{rows}</ol>
<div><img alt="Contact sheet" src="{figures.sheet}"></div></div></section>
<section><h2>Over time</h2>
<img alt="Head pose, blink, mouth opening and sound level over time" src="{figures.time}"></section>
<section class="pair"><div><h2>Clip</h2>{table(clip_rows(talker))}</div>
<div><h2>Quality</h2>{table(quality_rows(talker))}</div></section>
<section class="pair"><div><h2>Sound against lips</h2>
<img alt="Correlation over lag" src="{figures.lag}"></div>
<div><h2>Background</h2><img alt="Background" src="{figures.background}"></div></section>
<script type="application/json" id="talker">{json_for_html(talker)}</script>
</main></body></html>
"""


def write_report(dataset: DatasetLayout, output: DatasetLayout) -> Facts:
    """Examine a finished data set and write its report.

    Returns:
        The warnings, for `talker.json`.
    """
    talker = read_talker(dataset)
    landmarks, tracking = Landmarks.load(dataset.landmarks), Tracking.load(dataset.tracking)
    sound = read_levels(dataset)
    warnings = find_warnings(talker, look_at_faces(dataset, landmarks), sound)
    figures = Figures(
        sheet=contact_sheet(dataset, landmarks, tracking),
        background=background_image(dataset),
        time=time_plots(landmarks, tracking, sound),
        lag=lag_plot(talker["av_offset"], talker["av_offset_ms"]),
    )
    output.report.write_text(page(talker, warnings, figures), encoding="utf-8")
    return {"warnings": [warning.to_dict() for warning in warnings]}
