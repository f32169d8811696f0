"""Of several tracks the one with the voice is heard; channels do not cancel each other."""

from pathlib import Path

import av
import numpy as np
import pytest
from av.stream import Disposition

from gaussiantalker_ns.audio.read import audio_offset, read_audio, read_recording
from gaussiantalker_ns.audio.tracks import choose_channel
from gaussiantalker_ns.inference.video_writer import AudioTrack, _blocks

RATE_HZ = 16_000
Tracks = list[tuple[np.ndarray, Disposition]]


def voice(frequency_hz: float = 220.0, level: float = 0.3, duration_s: float = 1.0) -> np.ndarray:
    """A modulated tone, as one channel."""
    time = np.arange(int(RATE_HZ * duration_s)) / RATE_HZ
    tone = np.sin(2 * np.pi * frequency_hz * time) * (1 + np.sin(2 * np.pi * 4 * time)) / 2
    return (level * tone).astype(np.float32)


def write_tracks(path: Path, tracks: Tracks) -> Path:
    """Write [c, m] sounds as the audio tracks of one file."""
    with av.open(str(path), "w") as container:
        streams = []
        for channels, disposition in tracks:
            layout = {1: "mono", 2: "stereo", 6: "5.1"}[len(channels)]
            stream = container.add_stream("pcm_s16le", rate=RATE_HZ, layout=layout)
            stream.disposition = disposition
            streams.append(stream)
        for stream, (channels, _) in zip(streams, tracks):
            pcm = np.round(channels.T * 32767).astype(np.int16).reshape(1, -1)
            frame = av.AudioFrame.from_ndarray(pcm, format="s16", layout=stream.layout.name)
            frame.sample_rate, frame.pts = RATE_HZ, 0
            container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
    return path


def same(samples: np.ndarray, expected: np.ndarray) -> bool:
    return bool(np.abs(samples[500:15_000] - expected[500:15_000]).max() < 2e-3)


def played(sound: AudioTrack) -> np.ndarray:
    """What a driven video plays, at 16 kHz; FFmpeg spreads one channel over two by 0.707 each."""
    stereo = np.concatenate([block[0] for block in _blocks(sound, 48_000)])
    return np.sqrt(2, dtype=np.float32) * stereo[::3]


NONE, DEFAULT = Disposition(0), Disposition.default
LOW, HIGH = voice(220), voice(440)
SILENT, FAINT = np.zeros_like(LOW), voice(440, level=0.002)


@pytest.mark.parametrize(
    ("tracks", "number", "expected"),
    [
        ([(SILENT, NONE), (LOW, DEFAULT)], 2, LOW),
        ([(SILENT, DEFAULT), (LOW, NONE)], 2, LOW),
        ([(HIGH, NONE), (LOW, DEFAULT)], 2, LOW),
        ([(HIGH, NONE), (LOW, NONE)], 1, HIGH),
        ([(FAINT, DEFAULT), (LOW, NONE)], 2, LOW),
        ([(HIGH, Disposition.comment), (LOW, NONE)], 2, LOW),
        ([(SILENT, NONE), (SILENT, NONE), (LOW, NONE)], 3, LOW),
    ],
    ids=["silent first", "silent default", "default", "first", "faint", "commentary", "third"],
)
def test_the_track_with_the_voice_is_taken(tmp_path: Path, tracks, number: int, expected):
    path = write_tracks(tmp_path / "a.mkv", [(sound[None], flags) for sound, flags in tracks])
    recording = read_recording(path)
    assert recording.track == number
    assert same(recording.samples, expected)
    assert len(recording.notices) == 1
    assert f"Track {number} is used" in recording.notices[0]
    assert "--audio-track" in recording.notices[0]


def test_the_user_may_name_a_track(tmp_path: Path):
    path = write_tracks(tmp_path / "a.mkv", [(LOW[None], DEFAULT), (HIGH[None], NONE)])
    recording = read_recording(path, track=2)
    assert same(recording.samples, HIGH) and recording.notices == []
    assert audio_offset(path, 2) == 0.0
    assert same(played(AudioTrack(path, 0.0, 2)), HIGH), "the video plays what the lips follow"
    for number in (0, 3):
        with pytest.raises(ValueError, match=f"--audio-track is {number}.*from 1 to 2"):
            read_audio(path, track=number)


def test_a_video_plays_the_track_that_the_lips_follow(tmp_path: Path):
    path = write_tracks(tmp_path / "a.mkv", [(SILENT[None], DEFAULT), (LOW[None], NONE)])
    assert same(played(AudioTrack(path)), LOW)


@pytest.mark.parametrize("level", [1.0, 0.7, 1.3])
def test_channels_of_opposite_phase_are_not_averaged(tmp_path: Path, level: float):
    path = write_tracks(tmp_path / "a.mkv", [(np.stack([LOW, -level * LOW]), NONE)])
    recording = read_recording(path)
    assert same(recording.samples, LOW if level <= 1 else -level * LOW)
    assert "cancel each other" in recording.notices[0]


def test_common_hum_does_not_hide_that_the_voice_cancels(tmp_path: Path):
    time = np.arange(len(LOW)) / RATE_HZ
    hum = (0.2 * np.sin(2 * np.pi * 50 * time)).astype(np.float32)
    path = write_tracks(tmp_path / "a.mkv", [(np.stack([HIGH + hum, hum - HIGH]), NONE)])
    samples = read_audio(path)
    assert same(samples, HIGH + hum) or same(samples, hum - HIGH)


def test_ordinary_channels_are_averaged_and_nothing_is_said(tmp_path: Path):
    noise = np.random.default_rng(0).normal(0, 0.05, (2, len(LOW))).astype(np.float32)
    for other in (LOW, SILENT, HIGH, -0.2 * LOW):
        stereo = np.stack([LOW, other]) + noise
        recording = read_recording(write_tracks(tmp_path / "a.mkv", [(stereo, NONE)]))
        assert same(recording.samples, stereo.mean(axis=0))
        assert recording.notices == []


def test_opposite_fronts_of_surround_sound_with_a_voice_in_the_middle():
    voices = np.random.default_rng(0).normal(size=(2, 1000))
    channels = np.stack([voices[0], -voices[0], 2 * voices[1], *np.zeros((3, 1000))])
    assert choose_channel(channels @ channels.T) is None
    channels[2] = 0
    assert choose_channel(channels @ channels.T) in (0, 1)
    assert choose_channel(np.full((2, 2), np.nan)) is None
