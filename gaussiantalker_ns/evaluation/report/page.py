"""`evaluation.html`: one self-contained page with values, video, plots and the worst frames."""

from dataclasses import dataclass, field
from html import escape
from typing import Any

from gaussiantalker_ns.evaluation.evaluator import Evaluation
from gaussiantalker_ns.evaluation.report.tables import reasons
from gaussiantalker_ns.html import STYLE, json_for_html
from gaussiantalker_ns.metrics.registry import GROUPS, MEASURES, shown
from gaussiantalker_ns.timebase import FPS

PAGE_STYLE = (
    STYLE
    + """
video { width: 100%; background: #000; display: block; }
table.figures { width: 100%; } table.figures td.number { text-align: right; padding-right: 18px;
  font-variant-numeric: tabular-nums; white-space: nowrap; }
table.figures th { padding-top: 14px; vertical-align: bottom; } table.figures th.number {
  text-align: right; } table.figures th.group { color: #222; font-weight: 600; }
.columns { columns: 2 520px; column-gap: 40px; } .columns table { break-inside: avoid; }
.worst { display: grid; grid-template-columns: repeat(auto-fill, minmax(360px, 1fr)); gap: 12px; }
.worst figure { margin: 0; } figcaption { color: #666; font-size: 13px; }
.worst button { border: 0; padding: 0; background: none; cursor: pointer; width: 100%; }
.thirds { display: flex; color: #666; font-size: 13px; } .thirds span { flex: 1;
  text-align: center; } ul.missing { list-style: disc; padding-left: 20px; color: #666; }
"""
)

SEEK = """
const video = document.querySelector("video");
document.querySelectorAll("button[data-seconds]").forEach((button) => {
  button.addEventListener("click", () => {
    video.pause();
    video.currentTime = Number(button.dataset.seconds);
    video.scrollIntoView({ behavior: "smooth", block: "center" });
  });
});
"""


@dataclass(frozen=True)
class WorstFrame:
    """One of the worst frames."""

    caption: str
    picture: str
    """Address of truth, render and difference."""
    seconds: float
    """Where it is in the video."""


@dataclass
class Images:
    """Addresses (data URIs) of what the page shows; None and empty where there is none."""

    video: str | None = None
    video_columns: tuple[str, ...] = ("truth", "render", "difference")
    """What the video shows from left to right."""
    plots: list[tuple[str, str]] = field(default_factory=list)
    """Heading and address."""
    worst: list[WorstFrame] = field(default_factory=list)
    paper: list[tuple[str, str, str]] = field(default_factory=list)
    """Heading, explanation, address."""


def value_tables(result: Evaluation) -> str:
    """The values in groups, one small table each."""
    blocks = []
    for group, heading in GROUPS.items():
        rows = []
        for key, measure in MEASURES.items():
            if measure.group != group or key not in result.metrics:
                continue
            truth = result.ground_truth.get(key)
            cells = (
                f"<td>{escape(measure.name)}</td>"
                f'<td class="number">{shown(key, result.metrics[key])} {escape(measure.unit)}</td>'
                f'<td class="number">{shown(key, truth)}</td>'
                f'<td class="muted">{escape(measure.better)}</td>'
            )
            rows.append(f"<tr>{cells}</tr>")
        if rows:
            head = (
                f'<tr><th class="group">{escape(heading)}</th><th class="number">render</th>'
                '<th class="number">real</th><th>better</th></tr>'
            )
            blocks.append(f'<table class="figures">{head}{"".join(rows)}</table>')
    return f'<div class="columns">{"".join(blocks)}</div>'


def missing_list(result: Evaluation) -> str:
    """What was not measured and why."""
    items = "".join(f"<li>{escape(text)}</li>" for text in reasons(result))
    if not items:
        return ""
    return f'<section><h2>Not measured</h2><ul class="missing">{items}</ul></section>'


def video_section(images: Images) -> str:
    """The video with the names of its columns."""
    if images.video is None:
        return ""
    names = "".join(f"<span>{escape(name)}</span>" for name in images.video_columns)
    return (
        f'<section><h2>Side by side</h2><video controls loop playsinline src="{images.video}">'
        f'</video><div class="thirds">{names}</div></section>'
    )


def worst_section(images: Images) -> str:
    """The worst frames; a click shows them in the video."""
    if not images.worst:
        return ""
    values = "".join(
        f'<figure><button data-seconds="{frame.seconds:.3f}"><img alt="{escape(frame.caption)}"'
        f' src="{frame.picture}"></button><figcaption>{escape(frame.caption)}</figcaption></figure>'
        for frame in images.worst
    )
    note = "Truth, render, difference; a click shows the frame in the video."
    return (
        f'<section><h2>Worst frames</h2><p class="muted">{note}</p>'
        f'<div class="worst">{values}</div></section>'
    )


def page(
    title: str, subtitle: str, result: Evaluation, about: dict[str, Any], images: Images
) -> str:
    """The whole page; everything that comes from the user is escaped.

    Args:
        title: What was evaluated.
        subtitle: On which frames, driven by what.
        result: The values.
        about: What `evaluation.json` holds; it is embedded.
        images: Addresses of the pictures.
    """
    plots = "".join(
        f'<section><h2>{escape(heading)}</h2><img alt="{escape(heading)}" src="{uri}"></section>'
        for heading, uri in images.plots
    )
    paper = "".join(
        f'<section><h2>{escape(heading)}</h2><p class="muted">{escape(text)}</p>'
        f'<img alt="{escape(heading)}" src="{uri}"></section>'
        for heading, text, uri in images.paper
    )
    script = f"<script>{SEEK}</script>" if images.video and images.worst else ""
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>Evaluation: {escape(title)}</title>
<style>{PAGE_STYLE}</style></head><body><main>
<h1>{escape(title)}</h1><p class="muted">{escape(subtitle)}</p>
{video_section(images)}
<section><h2>Figures</h2>{value_tables(result)}</section>
{plots}{worst_section(images)}{paper}{missing_list(result)}
<script type="application/json" id="evaluation">{json_for_html(about)}</script>{script}
</main></body></html>
"""


def seconds_of(position: int) -> float:
    """The middle of a frame in the page's video. 0 -> 0.02."""
    return (position + 0.5) / FPS
