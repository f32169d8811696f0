"""Latency settings: stated delays hold, files and streams agree, nothing later is looked at."""

from dataclasses import replace

import numpy as np
import pytest
from talker_files import tiny_members, zipped

from gaussiantalker_ns.audio.silence import silence_fractions
from gaussiantalker_ns.inference.feature_stream import FeatureStream
from gaussiantalker_ns.inference.frame_renderer import FrameRenderer
from gaussiantalker_ns.inference.stream.latency import LIVE, QUALITY, LatencyConfig, latency_of
from gaussiantalker_ns.inference.talker import Talker
from gaussiantalker_ns.timebase import FPS, SAMPLE_RATE_HZ

PIECE = SAMPLE_RATE_HZ // FPS // 4
"""Samples that are pushed at a time, 10 ms."""

ODD = LatencyConfig(3, 2, 2, causal_smoothing=False, block_frames=2)


@pytest.fixture(scope="module")
def talker(tmp_path_factory):
    path = tmp_path_factory.mktemp("latency") / "tiny.talker"
    path.write_bytes(zipped(tiny_members()))
    return Talker.load(path)


@pytest.fixture(scope="module")
def speech():
    """Noise in bursts, 1.2 s."""
    samples = 0.1 * np.random.default_rng(0).standard_normal(int(1.2 * SAMPLE_RATE_HZ))
    samples[6400:12_800] = 0.0
    return samples.astype(np.float32)


def streamed(stream, samples, piece=PIECE):
    """Frames of a stream, and how many samples had come when each was there."""
    frames, heard = [], []
    for start in range(0, len(samples), piece):
        stream.push_audio(samples[start : start + piece], SAMPLE_RATE_HZ)
        for frame in stream.frames():
            frames.append(frame.copy())
            heard.append(min(start + piece, len(samples)))
    in_time = len(frames)
    stream.flush()
    frames.extend(frame.copy() for frame in stream.frames())
    return frames, heard, in_time


@pytest.mark.parametrize("latency", [QUALITY, LIVE, ODD, replace(LIVE, hop_frames=1)])
def test_no_frame_takes_longer_than_the_stated_delay(talker, speech, latency):
    stream = talker.stream(gain=1.0, latency=latency)
    frames, heard, in_time = streamed(stream, speech)
    waits = np.array(heard) / SAMPLE_RATE_HZ - np.arange(in_time) / FPS
    assert waits.max() == pytest.approx(stream.delay_s)
    assert len(frames) == 30


def test_delays_of_the_presets(talker):
    assert talker.stream().delay_s == 0.84
    assert talker.stream(latency="quality").delay_s == 0.84
    assert talker.stream(latency="live").delay_s == 0.16


@pytest.fixture
def blocks(monkeypatch):
    """What the renderers are given: frames and windows, block for block."""
    given = []
    submit = FrameRenderer.submit

    def noting(renderer, windows, frames):
        given.append((frames.tolist(), windows))
        return submit(renderer, windows, frames)

    monkeypatch.setattr(FrameRenderer, "submit", noting)
    return given


def same_blocks(one, other):
    return len(one) == len(other) and all(
        a[0] == b[0] and np.array_equal(a[1], b[1]) for a, b in zip(one, other)
    )


@pytest.mark.parametrize("latency", [QUALITY, LIVE, ODD])
def test_files_and_streams_are_rendered_alike(talker, speech, latency, blocks):
    """Block for block from the same features, however the sound is cut into pieces."""
    assert len(list(talker.render(speech, gain=1.0, latency=latency))) == 30
    whole = blocks[:]
    for piece in (333, 6000):
        blocks.clear()
        frames, _, _ = streamed(talker.stream(gain=1.0, latency=latency), speech, piece)
        assert len(frames) == 30 and same_blocks(whole, blocks)


def test_settings_change_what_the_head_hears(talker, speech, blocks):
    list(talker.render(speech, gain=1.0, latency="live"))
    live = np.concatenate([windows for _, windows in blocks])
    blocks.clear()
    list(talker.render(speech, gain=1.0))
    usual = np.concatenate([windows for _, windows in blocks])
    assert live.shape == usual.shape and not np.allclose(live, usual, atol=0.1)


def test_a_window_sees_no_later_row_than_it_may():
    """Frame 10 of a causal stream with one frame of attention sees rows 4 to 11."""
    rows = np.random.default_rng(0).standard_normal((20, 2, 3)).astype(np.float32)

    def window(changed):
        other = rows.copy()
        other[changed] += 1
        stream = FeatureStream(8, None, 0.6, 1, True, 1)
        stream.push_powers(np.ones(20))
        stream.push_rows(other)
        return next(stream.blocks(11))[10]

    seen = [row for row in range(20) if not np.array_equal(window(row), window(slice(0, 0)))]
    assert seen == list(range(4, 12))


def test_later_places_of_a_window_repeat_the_last_row_that_may_be_seen():
    stream = FeatureStream(8, ahead_frames=1)
    stream.push_powers(np.ones(20))
    stream.push_rows(np.arange(20, dtype=np.float32)[:, None, None])
    assert next(stream.blocks(11))[10, :, 0, 0].tolist() == [6, 7, 8, 9, 10, 11, 11, 11]


def test_a_gate_that_looks_less_far_ahead():
    """Five quiet frames, then speech: the gate begins to open as many frames before it."""
    powers = np.r_[np.zeros(5), np.ones(5)]
    opened = [int(np.argmax(silence_fractions(powers, ahead) < 1)) for ahead in (2, 1, 0)]
    assert opened == [3, 4, 5]


def recording(stream, hops):
    """A stream's `_hand_on` that also notes the hops of the windows."""
    hand_on = stream._hand_on

    def noting(rows):
        hops.extend(stream._streaming.hops)
        hand_on(rows)

    return noting


def test_an_adaptive_stream_that_is_behind_runs_fewer_windows(talker, speech):
    latency = replace(LIVE, adaptive=True)
    runs = {}
    for piece in (PIECE * 4, len(speech)):
        stream = talker.stream(gain=1.0, latency=latency)
        hops = runs.setdefault(piece, [])
        stream._hand_on = recording(stream, hops)
        frames, _, _ = streamed(stream, speech, piece)
        assert len(frames) == 30
    assert set(runs[PIECE * 4]) == {2}
    assert runs[len(speech)][0] == 8 and len(runs[len(speech)]) < len(runs[PIECE * 4]) / 2


def test_a_stream_goes_on_after_a_jump(talker, speech):
    stream = talker.stream(gain=1.0, latency="live")
    stream.push_audio(speech[:6400], SAMPLE_RATE_HZ)
    before = [number for number, _ in stream.numbered_frames()]
    stream.jump(100, speech[:6400])
    stream.push_audio(speech[6400:], SAMPLE_RATE_HZ)
    after = [number for number, _ in stream.numbered_frames()]
    assert before == list(range(7)) and after == list(range(100, 117))


def test_after_a_jump_features_are_those_of_the_sound_before(talker, speech, blocks):
    """The encoder is given what lies before; only windows that reach back beyond it differ."""
    straight, jumped = (talker.stream(gain=1.0, latency="live") for _ in range(2))
    straight.push_audio(speech, SAMPLE_RATE_HZ)
    list(straight.frames())
    expected = {f: w for frames, windows in blocks for f, w in zip(frames, windows)}
    blocks.clear()
    jumped.jump(10, speech[:6400])
    jumped.push_audio(speech[6400:], SAMPLE_RATE_HZ)
    list(jumped.frames())
    found = {f: w for frames, windows in blocks for f, w in zip(frames, windows)}
    assert set(found) == set(range(10, 27))
    assert all(np.array_equal(found[frame], expected[frame]) for frame in range(18, 27))
    assert not np.array_equal(found[10], expected[10])


def test_unknown_settings_are_refused():
    with pytest.raises(ValueError, match="expected a LatencyConfig, or one of quality, live"):
        latency_of("fast")
    with pytest.raises(ValueError, match="hop_frames is 0; expected 1 to 50"):
        LatencyConfig(hop_frames=0)
    with pytest.raises(ValueError, match="block_frames is 0"):
        LatencyConfig(block_frames=0)
