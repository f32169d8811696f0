"""Viewer client: calls to the page of one browser, and messages from it.

viser has no message for sound. It can run a script in the page, which it does itself to load its
plots; ours is `client.js`. Nothing that a user has typed or named goes into a script but as JSON.
"""

import base64
import contextlib
import io
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, Literal, cast, get_args

import numpy as np
import viser
from jaxtyping import Float32
from viser import _messages

from gaussiantalker_ns.audio.read import write_wav
from gaussiantalker_ns.timebase import SAMPLE_RATE_HZ

PART_BYTES = 384 * 1024
"""Sound is sent in pieces of this size, between which pictures can pass."""

MAX_MESSAGE_LENGTH = 2000
"""Characters of the longest answer a page has reason to give."""

LARGEST_NUMBER = 1e12
"""No position, frame or size is as large as this."""

NOTICE_MS = 12_000
"""How long a message stays."""

MessageKind = Literal["clock", "seek", "ended", "refused"]


@dataclass(frozen=True)
class ClientMessage:
    """What a page says of its own accord; numbers are finite."""

    kind: MessageKind
    """clock: it plays; seek: the user has clicked on the curves; ended: the sound is over; refused:
    the page did not send a file that is too large."""
    epoch: int = -1
    """Stretch of playback the answer belongs to."""
    seconds: float = 0.0
    """Position of the sound."""
    margins: tuple[tuple[int, float], ...] = ()
    """Numbers of the last pictures, and how many seconds before their frame each one came."""
    frame: int = 0
    """Frame the user wants."""
    num_bytes: int = 0
    """Size of a refused file."""


@cache
def page_script() -> str:
    """The script that makes a page a client."""
    return (resources.files("gaussiantalker_ns.viewer") / "client.js").read_text(encoding="utf-8")


def parse_message(text: str) -> ClientMessage | None:
    """Read an answer; None for anything a page of ours would not say.

    Example: `{"kind": "seek", "frame": 3}` gives `ClientMessage("seek", frame=3)`.
    """
    if len(text) > MAX_MESSAGE_LENGTH:
        return None
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict) or found.get("kind") not in get_args(MessageKind):
        return None
    margins = found.get("margins", [])
    if not isinstance(margins, list) or not all(
        isinstance(pair, list) and len(pair) == 2 for pair in margins
    ):
        return None
    names = (("epoch", -1), ("seconds", 0.0), ("frame", 0), ("bytes", 0))
    numbers = [found.get(name, default) for name, default in names]
    if not all(map(is_usable, [*numbers, *(value for pair in margins for value in pair)])):
        return None
    epoch, seconds, frame, num_bytes = numbers
    pairs = tuple((int(serial), float(margin)) for serial, margin in margins)
    return ClientMessage(
        found["kind"], int(epoch), float(seconds), pairs, int(frame), int(num_bytes)
    )


def is_usable(number: Any) -> bool:
    """Whether something from a page is a number to calculate with."""
    is_number = isinstance(number, int | float) and not isinstance(number, bool)
    return is_number and math.isfinite(number) and abs(number) < LARGEST_NUMBER


class Page:
    """Calls of the script in one browser; safe to use from several threads."""

    def __init__(
        self,
        client: viser.ClientHandle,
        upload_id: str,
        max_upload_bytes: int,
        on_message: Callable[[ClientMessage], None],
    ) -> None:
        """Load the script.

        Args:
            client: The browser.
            upload_id: The panel's upload button.
            max_upload_bytes: Largest file that the page may send through it.
            on_message: Called with everything the page says.
        """
        self.client = client
        self._num_pictures = 0
        self._run(page_script())
        # An element that nobody sees carries the answers: pages can speak through the panel only.
        clock = client.gui.add_text("Audio clock", initial_value="", visible=False)

        @clock.on_update
        def _(_event: Any) -> None:
            message = parse_message(clock.value)
            if message is not None:
                on_message(message)

        self._call("setup", clock._impl.id, upload_id, max_upload_bytes)

    def show_track(self, curves: dict[str, Any]) -> None:
        """Draw a soundtrack's curves; another `key` than before takes the old sound away."""
        self._call("track", curves)

    def send_sound(self, key: int, samples: Float32[np.ndarray, " samples"]) -> None:
        """Give the page the sound of the soundtrack with this key, piece by piece."""
        file = io.BytesIO()
        write_wav(file, samples, SAMPLE_RATE_HZ)
        content = file.getvalue()
        pieces = [content[at : at + PART_BYTES] for at in range(0, len(content), PART_BYTES)]
        for index, piece in enumerate(pieces):
            encoded = base64.b64encode(piece).decode("ascii")
            self._call("sound", key, index, len(pieces), encoded)
            self._flush()

    def go(self, epoch: int, frame: int, playing: bool, **settings: Any) -> None:
        """Begin a stretch of playback, or stand still at a frame."""
        self._call("go", {"epoch": epoch, "frame": frame, "playing": playing, **settings})

    def nudge(self, epoch: int, seconds: float) -> None:
        """Move the sound of a page that does not lead."""
        self._call("nudge", epoch, seconds)

    def set_volume(self, volume: float) -> None:
        """Loudness in [0, 1]."""
        self._call("volume", volume)

    def show_picture(self, epoch: int, frame: int, jpeg: bytes) -> int:
        """Show a picture as soon as the sound has reached its frame; returns its number."""
        self._num_pictures += 1
        encoded = base64.b64encode(jpeg).decode("ascii")
        self._call("picture", self._num_pictures, epoch, frame, encoded)
        self._flush()
        return self._num_pictures

    def reveal(self) -> None:
        """Take the last picture of the playback away from before Nerfstudio's own."""
        self._call("reveal")

    def _flush(self) -> None:
        """Send at once; a browser may have left meanwhile."""
        with contextlib.suppress(KeyError):
            self.client.flush()

    def _call(self, name: str, *arguments: Any) -> None:
        listed = ",".join(json.dumps(argument) for argument in arguments)
        self._run(f"gaussianTalker.{name}({listed})")

    def _run(self, source: str) -> None:
        connection = cast(Any, self.client)._websock_connection
        connection.queue_message(_messages.RunJavascriptMessage(source=source))


def notify(client: viser.ClientHandle | None, title: str, text: str) -> None:
    """Show a user a message; viser shows it as text, whatever it holds."""
    if client is not None:
        client.add_notification(title, text, color="red", auto_close=NOTICE_MS)
