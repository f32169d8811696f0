"""WebRTC without a browser: two peers in one process; answers, tracks, pictures, ends."""

import asyncio

import numpy as np
import pytest
from aiortc import AudioStreamTrack, RTCPeerConnection, RTCSessionDescription
from starlette.exceptions import HTTPException
from talker_files import tiny_description, tiny_members, zipped

from gaussiantalker_ns.live.services import Services
from gaussiantalker_ns.live.sessions.pictures import MOST_KEPT, PictureBuffer, VisibleMark
from gaussiantalker_ns.live.sessions.webrtc import (
    MOST_CONNECTIONS,
    connect,
    for_low_delay,
    preferred_codecs,
)
from gaussiantalker_ns.live.settings import ServerSettings


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    folder = tmp_path_factory.mktemp("webrtc")
    members = tiny_members(tiny_description(size=64))
    (folder / "tiny.talker").write_bytes(zipped(members))
    return ServerSettings(library=folder, max_sessions=2)


async def peer_of(session, settings):
    """A peer that sends a silent microphone, and what it receives."""
    peer = RTCPeerConnection()
    tracks = {}
    peer.add_listener("track", lambda track: tracks.setdefault(track.kind, track))
    peer.addTrack(AudioStreamTrack())
    peer.addTransceiver("video", direction="recvonly")
    await peer.setLocalDescription(await peer.createOffer())
    answer = await connect(session, peer.localDescription.sdp, settings)
    await peer.setRemoteDescription(RTCSessionDescription(answer, "answer"))
    return peer, tracks, answer


def test_sound_and_pictures_come_with_places_on_one_timeline(settings):
    async def watch():
        services = Services.of(settings)
        services.sessions.start()
        session = await services.sessions.create()
        peer, tracks, answer = await peer_of(session, settings)
        pictures = [await tracks["video"].recv() for _ in range(20)]
        sounds = [await tracks["audio"].recv() for _ in range(20)]
        state = session.state()
        await peer.close()
        await services.close()
        left = [
            task.get_name() for task in asyncio.all_tasks() if task is not asyncio.current_task()
        ]
        return pictures, sounds, state, answer, left

    pictures, sounds, state, answer, left = asyncio.run(watch())
    assert {(frame.width, frame.height) for frame in pictures} == {(64, 64)}
    steps = np.diff([frame.time for frame in pictures])
    assert np.allclose(steps / 0.04, np.round(steps / 0.04), atol=0.01) and steps.min() > 0
    steps = np.diff([frame.time for frame in sounds])
    # A machine that is busy elsewhere leaves packets out.
    assert np.allclose(steps / 0.02, np.round(steps / 0.02), atol=0.01) and steps.min() > 0
    assert state["microphone"] and state["readers"] == 1
    assert "a=ptime:10" in answer
    assert [name for name in left if name.startswith(("microphone", "session"))] == []


def test_connections_of_a_session_are_bounded(settings):
    async def knock():
        services = Services.of(settings)
        session = await services.sessions.create()
        peers = [(await peer_of(session, settings))[0] for _ in range(MOST_CONNECTIONS)]
        try:
            with pytest.raises(HTTPException) as refused:
                await peer_of(session, settings)
            return refused.value.status_code
        finally:
            await services.close()
            for peer in peers:
                await peer.close()

    assert asyncio.run(knock()) == 409


def test_an_answer_asks_for_short_packets_and_parts_the_streams():
    sdp = (
        "v=0\r\na=msid-semantic:WMS *\r\nm=audio 9 X 96\r\na=msid:s one\r\n"
        "m=video 9 X 97\r\na=msid:s two\r\n"
    )
    assert for_low_delay(sdp) == (
        "v=0\r\na=msid-semantic:WMS *\r\nm=audio 9 X 96\r\na=msid:s-audio one\r\n"
        "a=ptime:10\r\na=maxptime:10\r\nm=video 9 X 97\r\na=msid:s-video two\r\n"
    )


@pytest.mark.parametrize(("codec", "first"), [("vp8", "video/VP8"), ("h264", "video/H264")])
def test_the_preferred_codec_comes_first(codec, first):
    assert preferred_codecs(codec)[0].mimeType == first


def test_a_late_picture_is_replaced_by_the_one_before():
    buffer = PictureBuffer()
    assert buffer.newest_until(3) is None
    for number in (1, 2, 5):
        buffer.put(number, np.full((4, 4, 3), number, np.uint8))
    assert [buffer.newest_until(n)[0] for n in (1, 2, 4, 5, 9)] == [1, 2, 2, 5, 5]
    for number in range(100):
        buffer.put(number, np.zeros((4, 4, 3), np.uint8))
    assert len(buffer) == MOST_KEPT and buffer.newest_until(99)[0] == 99


@pytest.mark.parametrize(("size", "most"), [(64, 0.25), (256, 0.06), (512, 0.06)])
def test_the_mark_is_legible_and_small(size, most):
    picture = np.full((size, size, 3), 200, np.uint8)
    VisibleMark(size).draw(picture)
    changed = (picture != 200).any(axis=2)
    assert changed[-1, 0] and not changed[: size // 2].any()
    assert 0 < changed.mean() < most
    assert picture.max() > 220 and picture.min() < 100


def test_the_mark_fits_the_smallest_pictures():
    picture = np.full((16, 16, 3), 200, np.uint8)
    VisibleMark(16).draw(picture)
    assert (picture != 200).any()
