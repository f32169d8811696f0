"""Figures of the server in Prometheus' text format."""

from collections.abc import Callable, Iterable

from gaussiantalker_ns.live.sessions.intake import RATE_HZ
from gaussiantalker_ns.live.sessions.manager import SessionManager, num_cores
from gaussiantalker_ns.live.sessions.session import LiveSession

PREFIX = "gaussiantalker"

Value = Callable[[LiveSession], float]

PER_SESSION: dict[str, tuple[str, str, Value]] = {
    "pictures_rendered_total": (
        "counter",
        "Pictures made.",
        lambda session: session.worker.figures.rendered,
    ),
    "pictures_skipped_total": (
        "counter",
        "Pictures left out because they were due before they could be made.",
        lambda session: session.worker.figures.skipped,
    ),
    "pictures_repeated_total": (
        "counter",
        "Times that a picture was given again because the next one was late.",
        lambda session: session.figures.repeated,
    ),
    "pictures_dropped_total": (
        "counter",
        "Pictures that readers who were too slow did not get.",
        lambda session: session.figures.dropped,
    ),
    "jumps_total": (
        "counter",
        "Times that a session went on at its newest sound.",
        lambda session: session.worker.figures.jumps,
    ),
    "sound_dropped_seconds_total": (
        "counter",
        "Sound that was not taken.",
        lambda session: session.intake.num_dropped / RATE_HZ,
    ),
    "speech_waiting_seconds": (
        "gauge",
        "Speech that waits for its turn.",
        lambda session: session.intake.num_waiting / RATE_HZ,
    ),
    "cost_milliseconds": (
        "gauge",
        "Processor time for 40 ms of sound and its picture.",
        lambda session: session.cost_ms,
    ),
    "readers": ("gauge", "Who watches or hears the session.", lambda session: session.num_readers),
}
"""Name -> kind, help, and the value of a session. A session is labelled by its first letters."""


def _lines(name: str, kind: str, text: str, values: Iterable[tuple[str, float]]) -> list[str]:
    head = [f"# HELP {PREFIX}_{name} {text}", f"# TYPE {PREFIX}_{name} {kind}"]
    return head + [f"{PREFIX}_{name}{labels} {value:g}" for labels, value in values]


def prometheus_text(sessions: SessionManager) -> str:
    """All figures, one family after another."""
    open_sessions = sessions.all()
    whole = {
        "sessions": ("gauge", "Sessions that are open.", len(open_sessions)),
        "sessions_admitted_total": ("counter", "Sessions begun.", sessions.num_admitted),
        "sessions_refused_total": ("counter", "Sessions refused.", sessions.num_refused),
        "load_milliseconds": (
            "gauge",
            "Processor time that all sessions take for 40 ms of sound.",
            sessions.load_ms(),
        ),
        "cores": ("gauge", "Processors that the server may use.", num_cores()),
    }
    lines: list[str] = []
    for name, (kind, text, value) in whole.items():
        lines += _lines(name, kind, text, [("", float(value))])
    for name, (kind, text, value_of) in PER_SESSION.items():
        values = [(f'{{session="{s.id[:6]}"}}', float(value_of(s))) for s in open_sessions]
        lines += _lines(f"session_{name}", kind, text, values)
    return "\n".join(lines) + "\n"
