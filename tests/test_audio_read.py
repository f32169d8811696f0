"""Any container, rate and layout becomes mono samples in step with the first video frame."""

import wave
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from gaussiantalker_ns.audio.read import first_video_frame_time, read_audio, write_wav
from gaussiantalker_ns.inference.video_writer import AudioTrack, _blocks
from gaussiantalker_ns.timebase import fit_to_frames

CLICK_S = 0.5
CLICK_TOLERANCE_S = 0.001
"""An AAC encoder smears a click by a few samples; alignment errors are 20 ms and more."""


def tone(sample_rate_hz: int, duration_s: float = 1.0, frequency_hz: float = 220.0) -> np.ndarray:
    time = np.arange(int(sample_rate_hz * duration_s)) / sample_rate_hz
    return (0.5 * np.sin(2 * np.pi * frequency_hz * time)).astype(np.float32)


def click(sample_rate_hz: int, duration_s: float = 1.0) -> np.ndarray:
    samples = np.zeros(int(sample_rate_hz * duration_s), dtype=np.float32)
    # A short burst: a single sample would be lost when a codec low-passes.
    first = int(sample_rate_hz * CLICK_S)
    samples[first : first + sample_rate_hz // 400] = 0.9
    return samples


def click_time(samples: np.ndarray, sample_rate_hz: int = 16_000) -> float:
    loud = np.abs(samples) > 0.5 * np.abs(samples).max()
    return float(np.flatnonzero(loud)[0]) / sample_rate_hz


def write_media(  # noqa: PLR0914
    path: Path,
    channels: np.ndarray,
    sample_rate_hz: int,
    layout: str = "mono",
    codec: str = "aac",
    num_video_frames: int = 0,
    video_start_s: float = 0.0,
    audio_start_s: float = 0.0,
    gap_after_s: float | None = None,
) -> Path:
    """Write [c, T] sound and, if wanted, grey video frames whose first one is late."""
    with av.open(str(path), "w") as container:
        sound = container.add_stream(codec, rate=sample_rate_hz, layout=layout)
        if num_video_frames:
            video = container.add_stream("mpeg4", rate=25)
            video.width, video.height, video.pix_fmt = 64, 64, "yuv420p"
            video.codec_context.time_base = Fraction(1, 1000)
            for index in range(num_video_frames):
                grey = np.full((64, 64, 3), 128, dtype=np.uint8)
                frame = av.VideoFrame.from_ndarray(grey, format="rgb24")
                frame.time_base = Fraction(1, 1000)
                frame.pts = round(1000 * video_start_s) + 40 * index
                container.mux(video.encode(frame))
            container.mux(video.encode(None))
        planar = codec not in ("pcm_s16le", "flac")
        block = 1024
        for start in range(0, channels.shape[1], block):
            piece = channels[:, start : start + block]
            if planar:
                frame = av.AudioFrame.from_ndarray(
                    np.ascontiguousarray(piece), format="fltp", layout=layout
                )
            else:
                interleaved = np.round(piece.T * 32767).astype(np.int16).reshape(1, -1)
                frame = av.AudioFrame.from_ndarray(interleaved, format="s16", layout=layout)
            frame.sample_rate = sample_rate_hz
            shift_s = audio_start_s
            if gap_after_s is not None and start >= gap_after_s * sample_rate_hz:
                shift_s += 0.5
            frame.time_base = Fraction(1, sample_rate_hz)
            frame.pts = start + round(shift_s * sample_rate_hz)
            container.mux(sound.encode(frame))
        container.mux(sound.encode(None))
    return path


def test_narrow_band_mono_wav_is_resampled(tmp_path: Path):
    path = tmp_path / "phone.wav"
    write_wav(path, tone(8_000), sample_rate_hz=8_000)
    samples = read_audio(path)
    assert samples.dtype == np.float32
    assert abs(len(samples) - 16_000) <= 16
    inner = slice(1_000, 15_000)
    np.testing.assert_allclose(samples[inner], tone(16_000)[inner], atol=2e-3)


def test_surround_sound_is_the_mean_of_its_channels(tmp_path: Path):
    front_left = tone(48_000)
    channels = np.stack([front_left, *[np.zeros_like(front_left)] * 5])
    path = write_media(tmp_path / "film.wav", channels, 48_000, "5.1", "pcm_s16le")
    samples = read_audio(path)
    inner = slice(1_000, 15_000)
    np.testing.assert_allclose(samples[inner], tone(16_000)[inner] / 6, atol=2e-3)


def test_equal_stereo_channels_keep_their_level(tmp_path: Path):
    channels = np.stack([tone(44_100)] * 2)
    path = write_media(tmp_path / "stereo.wav", channels, 44_100, "stereo", "pcm_s16le")
    samples = read_audio(path)
    np.testing.assert_allclose(np.abs(samples).max(), 0.5, atol=2e-3)


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "mov", "ts"])
@pytest.mark.parametrize("sample_rate_hz", [16_000, 44_100, 48_000])
def test_click_in_a_video_stays_in_its_place(tmp_path: Path, suffix: str, sample_rate_hz: int):
    path = write_media(
        tmp_path / f"clip.{suffix}",
        click(sample_rate_hz)[None],
        sample_rate_hz,
        num_video_frames=25,
    )
    assert abs(click_time(read_audio(path)) - CLICK_S) < CLICK_TOLERANCE_S


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_late_video_cuts_the_sound(tmp_path: Path, suffix: str):
    path = write_media(
        tmp_path / f"clip.{suffix}",
        click(48_000)[None],
        48_000,
        num_video_frames=20,
        video_start_s=0.2,
    )
    expected = CLICK_S - 0.2
    assert abs(click_time(read_audio(path)) - expected) < CLICK_TOLERANCE_S


def test_late_sound_is_preceded_by_silence(tmp_path: Path):
    path = write_media(
        tmp_path / "clip.mkv", click(48_000)[None], 48_000, num_video_frames=40, audio_start_s=0.3
    )
    samples = read_audio(path)
    assert abs(click_time(samples) - (CLICK_S + 0.3)) < CLICK_TOLERANCE_S
    assert not samples[: int(0.25 * 16_000)].any()


def test_missing_sound_in_the_middle_is_filled(tmp_path: Path):
    path = write_media(
        tmp_path / "clip.mkv",
        click(48_000)[None],
        48_000,
        codec="pcm_s16le",
        num_video_frames=40,
        gap_after_s=0.3,
    )
    assert abs(click_time(read_audio(path)) - (CLICK_S + 0.5)) < 0.02
    played = np.concatenate([block[0] for block in _blocks(AudioTrack(path), 96_000)])
    assert abs(click_time(played, 48_000) - (CLICK_S + 0.5)) < 0.02, "lips and sound agree"


def test_explicit_start_time_overrides_the_video(tmp_path: Path):
    path = write_media(tmp_path / "clip.mp4", click(48_000)[None], 48_000, num_video_frames=25)
    assert abs(click_time(read_audio(path, t_start=0.1)) - (CLICK_S - 0.1)) < CLICK_TOLERANCE_S
    assert first_video_frame_time(path) == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize(
    ("suffix", "codec"),
    [
        ("wav", "pcm_s16le"),
        ("flac", "flac"),
        ("mp3", "libmp3lame"),
        ("m4a", "aac"),
        ("ogg", "libopus"),
    ],
)
def test_time_stamps_are_ignored_without_video(tmp_path: Path, suffix: str, codec: str):
    path = write_media(tmp_path / f"a.{suffix}", click(48_000)[None], 48_000, codec=codec)
    # Opus trims its delay to whole packets of the container, up to 6.5 ms off.
    tolerance_s = 0.007 if codec == "libopus" else CLICK_TOLERANCE_S
    assert abs(click_time(read_audio(path)) - CLICK_S) < tolerance_s


def test_wav_round_trip_clips(tmp_path: Path):
    samples = np.array([0.0, 0.25, -0.5, 2.0], dtype=np.float32)
    write_wav(tmp_path / "a.wav", samples)
    np.testing.assert_allclose(
        read_audio(tmp_path / "a.wav"), [0.0, 0.25, -0.5, 1.0], atol=1.0 / 32_000
    )


def test_fit_to_frames_cuts_and_pads():
    samples = np.ones(1_000, dtype=np.float32)
    assert fit_to_frames(samples, 1, 640).tolist() == [1.0] * 640
    padded = fit_to_frames(samples, 2, 640)
    assert len(padded) == 1_280 and padded[:1_000].all() and not padded[1_000:].any()


def test_missing_file(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match="No audio or video file at"):
        read_audio(tmp_path / "absent.wav")


def test_empty_file(tmp_path: Path):
    (tmp_path / "a.wav").touch()
    with pytest.raises(ValueError, match="is empty"):
        read_audio(tmp_path / "a.wav")


def test_file_that_is_no_media(tmp_path: Path):
    (tmp_path / "a.mp4").write_text("this is not a video" * 100)
    with pytest.raises(ValueError, match="cannot be read as audio"):
        read_audio(tmp_path / "a.mp4")


def test_video_without_sound(tmp_path: Path):
    path = tmp_path / "mute.mp4"
    with av.open(str(path), "w") as container:
        video = container.add_stream("mpeg4", rate=25)
        video.width, video.height, video.pix_fmt = 64, 64, "yuv420p"
        frame = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), dtype=np.uint8), format="rgb24")
        container.mux(video.encode(frame))
        container.mux(video.encode(None))
    with pytest.raises(ValueError, match="no audio stream"):
        read_audio(path)


def test_wav_without_samples(tmp_path: Path):
    with wave.open(str(tmp_path / "a.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
    with pytest.raises(ValueError, match="without a single sample"):
        read_audio(tmp_path / "a.wav")


def test_file_cut_short_gives_what_is_there(tmp_path: Path):
    whole = write_media(tmp_path / "a.mkv", tone(48_000, 2.0)[None], 48_000, num_video_frames=50)
    data = whole.read_bytes()
    cut = tmp_path / "cut.mkv"
    cut.write_bytes(data[: len(data) * 3 // 4])
    assert 0 < len(read_audio(cut)) < len(read_audio(whole))


def test_a_cut_off_file_can_be_played_too(tmp_path: Path):
    whole = write_media(tmp_path / "a.flac", tone(48_000, 2.0)[None], 48_000, codec="flac")
    cut = tmp_path / "cut.flac"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size * 3 // 4])
    heard = len(read_audio(cut, 48_000))
    played = np.concatenate([block[0] for block in _blocks(AudioTrack(cut), 96_000)])
    assert len(played) == 96_000 and 0 < heard < 96_000
    assert played[heard - 1000 : heard].any() and not played[heard:].any()


def test_samples_that_are_not_numbers(tmp_path: Path):
    values = np.full((1, 4_800), np.nan, dtype=np.float32)
    path = tmp_path / "a.wav"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_f32le", rate=16_000, layout="mono")
        frame = av.AudioFrame.from_ndarray(values, format="flt", layout="mono")
        frame.sample_rate = 16_000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with pytest.raises(ValueError, match="not numbers"):
        read_audio(path)
