"""WebRTC: a browser's microphone to a session, the session's sound and pictures to the browser.

Both tracks carry their places on the session's timeline as time stamps, and each packet leaves when
the timeline says so; the receiver therefore plays them together, whatever the clocks do.
"""

import asyncio
import re
from collections.abc import Callable
from contextlib import suppress
from fractions import Fraction

import numpy as np
from aiortc import (
    MediaStreamTrack,
    RTCConfiguration,
    RTCIceServer,
    RTCPeerConnection,
    RTCRtpSender,
    RTCSessionDescription,
)
from aiortc.mediastreams import MediaStreamError
from av import AudioFrame, VideoFrame
from starlette.exceptions import HTTPException

from gaussiantalker_ns.live.sessions.intake import RATE_HZ, SAMPLES_PER_PICTURE
from gaussiantalker_ns.live.sessions.session import LiveSession, SessionClosedError
from gaussiantalker_ns.live.settings import ServerSettings

PACKET_SAMPLES = RATE_HZ // 50
"""Samples in a packet of sound, 20 ms."""

MOST_LAG = 8 * SAMPLES_PER_PICTURE
"""A reader that is further behind goes on at the newest sound and picture."""

MOST_CONNECTIONS = 4
"""Connections that one session may have at a time."""

VIDEO_CLOCK_HZ = 90_000

MICROPHONE_PACKET_MS = 10
"""What browsers are asked for: aiortc waits for four packets of sound before it gives the first."""


class SoundTrack(MediaStreamTrack):
    """The sound of a session."""

    kind = "audio"

    def __init__(self, session: LiveSession) -> None:
        super().__init__()
        self._session = session
        self._next = max(session.released, 0) // PACKET_SAMPLES * PACKET_SAMPLES

    async def recv(self) -> AudioFrame:
        """Return the next packet's samples when it is their time."""
        session = self._session
        if session.released - self._next > MOST_LAG:
            self._next = session.released // PACKET_SAMPLES * PACKET_SAMPLES
        await _wait(session, self._next + PACKET_SAMPLES)
        samples = session.sound(self._next, PACKET_SAMPLES)
        frame = AudioFrame.from_ndarray(samples[None], format="s16", layout="mono")
        frame.sample_rate = RATE_HZ
        frame.pts, frame.time_base = self._next, Fraction(1, RATE_HZ)
        self._next += PACKET_SAMPLES
        return frame


class PictureTrack(MediaStreamTrack):
    """The pictures of a session."""

    kind = "video"

    def __init__(self, session: LiveSession) -> None:
        super().__init__()
        self._session = session
        self._next = max(session.released, 0) // SAMPLES_PER_PICTURE

    async def recv(self) -> VideoFrame:
        """Return the next picture when it is its time."""
        session = self._session
        while True:
            newest = session.released // SAMPLES_PER_PICTURE
            if newest - self._next > MOST_LAG // SAMPLES_PER_PICTURE:
                session.figures.dropped += newest - self._next
                self._next = newest
            await _wait(session, self._next * SAMPLES_PER_PICTURE)
            number = self._next
            self._next += 1
            picture = session.picture(number)
            if picture is not None:
                break
        frame = VideoFrame.from_ndarray(picture, format="rgb24")
        frame.pts = number * VIDEO_CLOCK_HZ * SAMPLES_PER_PICTURE // RATE_HZ
        frame.time_base = Fraction(1, VIDEO_CLOCK_HZ)
        return frame


async def _wait(session: LiveSession, position: int) -> None:
    try:
        await session.wait_for(position)
    except SessionClosedError as error:
        raise MediaStreamError from error


class BrowserConnection:
    """One peer connection of a session."""

    def __init__(self, session: LiveSession, settings: ServerSettings) -> None:
        servers = [
            RTCIceServer(urls=url, username=settings.ice_username, credential=settings.ice_password)
            for url in settings.ice_servers
        ]
        self._session, self._settings = session, settings
        self._peer = RTCPeerConnection(RTCConfiguration(iceServers=servers))
        self._tasks: set[asyncio.Task] = set()
        self._reading = session.reading()
        self._reading.__enter__()
        self._is_open = True
        self._peer.add_listener("track", self._on_track)
        self._peer.add_listener("connectionstatechange", self._on_state)

    async def answer(self, offer: str) -> str:
        """Answer an offer (SDP) with what is sent and taken.

        Raises:
            HTTPException: 400, the offer cannot be used.
        """
        try:
            await self._peer.setRemoteDescription(RTCSessionDescription(offer, "offer"))
            self._add_tracks()
            await self._peer.setLocalDescription(await self._peer.createAnswer())
        # aiortc's parser fails in many ways at what is no offer.
        except Exception as error:
            await self.close()
            raise HTTPException(
                400,
                f"The offer cannot be used ({type(error).__name__}: {str(error)[:200]}); expected"
                " an SDP that wants audio or video, as a browser's RTCPeerConnection makes it.",
            ) from error
        return for_low_delay(self._peer.localDescription.sdp)

    def _add_tracks(self) -> None:
        """Send what the offer wants."""
        wanted = {transceiver.kind for transceiver in self._peer.getTransceivers()}
        if not wanted:
            raise ValueError("it has no media")
        if "audio" in wanted:
            self._peer.addTrack(SoundTrack(self._session))
        if "video" in wanted:
            self._peer.addTrack(PictureTrack(self._session))
        for transceiver in self._peer.getTransceivers():
            if transceiver.kind == "video":
                transceiver.setCodecPreferences(preferred_codecs(self._settings.codec))

    def _on_track(self, track: MediaStreamTrack) -> None:
        if track.kind == "audio":
            task = asyncio.create_task(self._listen(track), name=f"microphone-{self._session.id}")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _listen(self, track: MediaStreamTrack) -> None:
        with suppress(MediaStreamError):
            while not self._session.is_closed:
                frame = await track.recv()
                assert isinstance(frame, AudioFrame), "an audio track"
                packed: np.ndarray = frame.to_ndarray().astype(np.int16, copy=False)
                samples = packed.reshape(-1, len(frame.layout.channels))
                # The mean of two channels without sums that overflow; NumPy's own takes longer.
                mono = np.right_shift(samples[:, 0], 1) + np.right_shift(samples[:, -1], 1)
                self._session.push_live(mono, frame.sample_rate)

    async def _on_state(self) -> None:
        if self._peer.connectionState in ("failed", "closed"):
            await self.close()

    async def close(self) -> None:
        """End the connection; may be called more than once."""
        if not self._is_open:
            return
        self._is_open = False
        self._reading.__exit__(None, None, None)
        await self._peer.close()
        for task in list(self._tasks):
            task.cancel()

    @property
    def is_open(self) -> bool:
        """Whether it has not ended."""
        return self._is_open


def preferred_codecs(codec: str) -> list:
    """The codecs that are offered, the preferred one first."""
    known = RTCRtpSender.getCapabilities("video").codecs

    def rank(capability) -> int:
        name = capability.mimeType.lower().removeprefix("video/")
        return 0 if name == codec else 2 if name == "rtx" else 1

    return sorted(known, key=rank)


def for_low_delay(sdp: str) -> str:
    """Change an answer so that little waits on the way.

    Browsers are asked for short packets of sound. And the tracks are put into streams of their own:
    those of one stream are delayed against each other by sender reports, whose times are those of
    sending, which vary; here both leave by one clock, and are in step already.

    Example: in "m=audio ..." stands "a=ptime:10", and "a=msid:x y" becomes "a=msid:x-audio y".
    """
    head, *sections = re.split(r"(?m)^m=", sdp)
    changed = [_for_low_delay(section, section.partition(" ")[0]) for section in sections]
    return "m=".join([head, *changed])


def _for_low_delay(section: str, kind: str) -> str:
    """One medium's part of `for_low_delay`."""
    own = re.sub(r"(a=(?:ssrc:\d+ )?msid:)(\S+)", rf"\1\2-{kind}", section)
    if kind != "audio":
        return own
    asked = f"a=ptime:{MICROPHONE_PACKET_MS}\r\na=maxptime:{MICROPHONE_PACKET_MS}\r\n"
    return f"{own.rstrip()}\r\n{asked}"


async def connect(
    session: LiveSession,
    offer: str,
    settings: ServerSettings,
    connection: Callable[..., BrowserConnection] = BrowserConnection,
) -> str:
    """Connect a browser to a session and return the answer to its offer.

    Raises:
        HTTPException: 400 for an offer that cannot be used, 409 for too many connections.
    """
    session.connections[:] = [known for known in session.connections if known.is_open]
    if len(session.connections) >= MOST_CONNECTIONS:
        raise HTTPException(
            409,
            f"The session has {MOST_CONNECTIONS} connections, which is the most. Close one, or"
            " begin another session.",
        )
    made = connection(session, settings)
    session.connections.append(made)
    session.at_close(made.close)
    return await made.answer(offer)
