"""`report.html`: a line for each row, with a picture, figures, links, and what went wrong."""

import json
import tempfile
from collections.abc import Iterable, Mapping
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

from gaussiantalker_ns.batch.perform import LOGS, record_of
from gaussiantalker_ns.batch.plan import (
    RECORDS,
    EvaluateWork,
    MeasureWork,
    PackWork,
    Planned,
    Work,
)
from gaussiantalker_ns.batch.store import Store
from gaussiantalker_ns.batch.table import BadRow
from gaussiantalker_ns.html import STYLE

NAME = "report.html"

PAGE_STYLE = (
    STYLE
    + """
main { max-width: 1500px; } table { width: 100%; } td { border-top: 1px solid #ddd;
  padding: 8px 14px 8px 0; }
td img { width: 96px; max-width: none; border-radius: 4px; background: #ddd; }
td.number { text-align: right; font-variant-numeric: tabular-nums; }
tr.failed td { background: #fdf3ea; } .reason { color: #a3410b; max-width: 520px; }
"""
)

TALKER_FIGURES = (
    ("face PSNR, dB", "face_psnr", 2),
    ("opening r", "lips_open_correlation", 2),
    ("width r", "lips_width_correlation", 2),
)
"""Heading, key of a metric and decimals, of the talker on the clip's held-out frames."""

VIDEO_FIGURES = (
    ("audio-lip lag, ms", "audio_lip_lag_ms", 0),
    ("jitter, px", "jitter_px", 2),
)
"""The same of the driven video."""

HEADINGS = (
    *("", "row", "length, s", "frames/s"),
    *(heading for heading, _, _ in (*TALKER_FIGURES, *VIDEO_FIGURES)),
    "files",
)


def figure(metrics: Mapping[str, Any], key: str, digits: int) -> str:
    """A metric as the content of a cell."""
    value = metrics.get(key)
    return "-" if value is None else f"{value:.{digits}f}"


def link(path: str, text: str) -> str:
    """A link to a file beside the page."""
    return f'<a href="{escape(quote(path))}">{escape(text)}</a>'


class ReportLines:
    """Makes the lines of rows; what rows share is read once."""

    def __init__(self, store: Store, failures: Mapping[str, str]) -> None:
        self._store = store
        self._failures = failures
        self._finished = store.names(RECORDS)
        self._logs = store.names(LOGS)
        self._shared: dict[str, dict[str, Any]] = {}

    def facts(self, work: Work | None) -> dict[str, Any]:
        """What the record of a piece of work says; nothing if it is not finished."""
        if work is None or work.record not in self._finished:
            return {}
        if not isinstance(work, EvaluateWork):
            return record_of(self._store, work)
        if work.name not in self._shared:
            self._shared[work.name] = record_of(self._store, work)
        return self._shared[work.name]

    def problem(self, planned: Planned) -> tuple[str, str] | None:
        """Work of a row that has failed, and why; None if none has."""
        for work in planned.works:
            if work.name in self._failures:
                return work.name, self._failures[work.name]
        return None

    def line(self, planned: Planned) -> tuple[str, BadRow | None]:
        """The line of a row, and the row's problem if it has no video."""
        row, drive = planned.row, planned.drive
        made, problem = self.facts(drive), self.problem(planned)
        bad = None
        if not made:
            reason = problem[1] if problem else "not done yet"
            bad = BadRow(row.number, row.name, reason)
        by_kind = {type(work): work for work in planned.works}
        talker = self.facts(by_kind.get(EvaluateWork)).get("metrics", {})
        video = self.facts(by_kind.get(MeasureWork)).get("metrics", {})
        cells = [self.picture(row.name, bool(made)), self.title(planned, problem)]
        seconds = made.get("seconds_of_video")
        alone = made.get("seconds") and not made.get("is_joined")
        fps = made["num_frames"] / made["seconds"] if alone else None
        numbers = [
            "-" if seconds is None else f"{seconds:.1f}",
            "-" if fps is None else f"{fps:.1f}",
            *(figure(talker, key, digits) for _, key, digits in TALKER_FIGURES),
            *(figure(video, key, digits) for _, key, digits in VIDEO_FIGURES),
        ]
        cells += [f'<td class="number">{number}</td>' for number in numbers]
        cells.append(f"<td>{self.links(planned, problem, bool(made))}</td>")
        mark = ' class="failed"' if bad else ""
        return f"<tr{mark}>{''.join(cells)}</tr>\n", bad

    def picture(self, name: str, there: bool) -> str:
        """A cell with a picture of the video, which it leads to."""
        if not there:
            return "<td></td>"
        image = f'<img src="videos/{escape(quote(name))}.jpg" loading="lazy" alt="">'
        return f'<td><a href="videos/{escape(quote(name))}.mp4">{image}</a></td>'

    def title(self, planned: Planned, problem: tuple[str, str] | None) -> str:
        """A cell with the row's name, what was said by whom, and what went wrong."""
        row = planned.row
        said = row.audio or f"\u201c{row.text}\u201d"
        text = f"<b>{escape(row.name)}</b><br>{escape(row.video or row.talker or '')}"
        text += f'<br><span class="muted">{escape(said[:200])}</span>'
        if problem is not None:
            text += f'<br><span class="reason">{escape(problem[1])}</span>'
        return f"<td>{text}</td>"

    def links(self, planned: Planned, problem: tuple[str, str] | None, there: bool) -> str:
        """Links to the files of a row."""
        name, found = planned.row.name, []
        if there:
            found.append(link(f"videos/{name}.mp4", "video"))
            found.append(link(f"videos/{name}.mp4.provenance.json", "provenance"))
        for work in planned.works:
            if isinstance(work, PackWork) and work.record in self._finished:
                found.append(link(f"talkers/{work.key}.talker", "talker"))
        if problem is not None and f"{problem[0]}.txt" in self._logs:
            found.append(link(f"{LOGS}/{problem[0]}.txt", "log"))
        return "<br>".join(found)


def bad_line(row: BadRow) -> str:
    """The line of a row that could not be planned."""
    span = len(HEADINGS) - 2
    return (
        f'<tr class="failed"><td></td><td><b>{escape(row.name)}</b><br><span class="muted">line'
        f' {row.number}</span></td><td colspan="{span}" class="reason">{escape(row.reason)}</td>'
        "</tr>\n"
    )


def write_report(
    store: Store,
    plan: Iterable[Planned | BadRow],
    failures: Mapping[str, str],
    table: str,
) -> list[BadRow]:
    """Write the page row by row; returns the rows that have no video."""
    lines, bad, num_rows = ReportLines(store, failures), [], 0
    with tempfile.TemporaryDirectory(prefix="gaussiantalker-report-") as folder:
        body = Path(folder) / "body.html"
        with body.open("w", encoding="utf-8") as file:
            for planned in plan:
                num_rows += 1
                if isinstance(planned, BadRow):
                    text, problem = bad_line(planned), planned
                else:
                    text, problem = lines.line(planned)
                file.write(text)
                bad += [] if problem is None else [problem]
        title = f"{num_rows - len(bad)} of {num_rows} videos"
        headings = "".join(f"<th>{escape(heading)}</th>" for heading in HEADINGS)
        page = (
            f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
            f"<style>{PAGE_STYLE}</style></head><body><main><h1>{title}</h1>"
            f'<p class="muted">{escape(table)}</p>'
            f"<section><table><tr>{headings}</tr>\n{body.read_text(encoding='utf-8')}</table>"
            "</section></main></body></html>\n"
        )
    store.write(NAME, page.encode())
    store.write(
        "failures.json",
        (json.dumps([vars(row) for row in bad], indent=1) + "\n").encode(),
    )
    return bad
