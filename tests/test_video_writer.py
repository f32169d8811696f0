"""Segments and sound: frame counts, synchronisation through the file, reproducibility."""

from fractions import Fraction

import av
import numpy as np
import pytest

from gaussiantalker_ns.inference import video_writer
from gaussiantalker_ns.inference.video_writer import AudioTrack, SegmentWriter, assemble

SIZE = 64


def write_wav(path, samples, rate=16_000):
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=rate, layout="mono")
        pcm = (np.clip(samples, -1, 1) * 32767).astype(np.int16)[None]
        frame = av.AudioFrame.from_ndarray(pcm, format="s16", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def write_segment(path, first, count, flash=None):
    with SegmentWriter(path, SIZE, SIZE) as writer:
        for index in range(first, first + count):
            writer.write(np.full((SIZE, SIZE, 3), 255 if index == flash else 20, np.uint8))
    return path


def decode(path):
    with av.open(str(path)) as container:
        pictures = [frame.to_ndarray(format="gray") for frame in container.decode(video=0)]
    with av.open(str(path)) as container:
        sound = [frame.to_ndarray()[0] for frame in container.decode(audio=0)]
        rate = container.streams.audio[0].rate
    return np.stack(pictures), np.concatenate(sound), rate


def test_flash_and_click_stay_together_over_segments(tmp_path):
    """A click at 1.2 s and a flash in frame 30 = [1.2, 1.24) s, in the second of two segments."""
    samples = np.zeros(16_000 * 2)
    samples[19_200:19_210] = 0.9
    wav = write_wav(tmp_path / "click.wav", samples)
    segments = [
        write_segment(tmp_path / "a.mp4", 0, 20, flash=30),
        write_segment(tmp_path / "b.mp4", 20, 30, flash=30),
    ]
    assemble(segments, tmp_path / "out.mp4", AudioTrack(wav), 50, {"comment": "synthetic"})

    pictures, sound, rate = decode(tmp_path / "out.mp4")
    assert len(pictures) == 50
    assert int(pictures.mean(axis=(1, 2)).argmax()) == 30
    assert abs(np.abs(sound).argmax() / rate - 1.2) < 0.002
    assert abs(len(sound) / rate - 2.0) < 1 / video_writer.FPS
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert container.metadata["comment"] == "synthetic"


def test_start_skips_the_beginning_of_the_sound(tmp_path):
    samples = np.zeros(16_000 * 2)
    samples[19_200:19_210] = 0.9
    wav = write_wav(tmp_path / "click.wav", samples)
    segment = write_segment(tmp_path / "a.mp4", 0, 25)
    assemble([segment], tmp_path / "out.mp4", AudioTrack(wav, start_s=1.0), 25)
    _, sound, rate = decode(tmp_path / "out.mp4")
    assert abs(np.abs(sound).argmax() / rate - 0.2) < 0.002


@pytest.mark.parametrize("seconds", [0.3, 3.0])
def test_sound_is_filled_or_cut_to_the_pictures(tmp_path, seconds):
    wav = write_wav(tmp_path / "noise.wav", np.full(int(16_000 * seconds), 0.1))
    segment = write_segment(tmp_path / "a.mp4", 0, 40)
    assemble([segment], tmp_path / "out.mp4", AudioTrack(wav), 40)
    pictures, sound, rate = decode(tmp_path / "out.mp4")
    assert len(pictures) == 40
    assert abs(len(sound) / rate - 40 / 25) < 1 / video_writer.FPS


def test_an_exception_leaves_no_file(tmp_path):
    path = tmp_path / "a.mp4"
    with pytest.raises(RuntimeError), SegmentWriter(path, SIZE, SIZE) as writer:
        writer.write(np.zeros((SIZE, SIZE, 3), np.uint8))
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_segments_are_reproducible(tmp_path):
    first = write_segment(tmp_path / "a.mp4", 0, 10, flash=4).read_bytes()
    second = write_segment(tmp_path / "b.mp4", 0, 10, flash=4).read_bytes()
    assert first == second


def test_a_thread_writes_the_same_file(tmp_path):
    frames = np.random.default_rng(0).integers(0, 256, (30, SIZE, SIZE, 3), dtype=np.uint8)
    for name, in_thread in (("a.mp4", False), ("b.mp4", True)):
        with SegmentWriter(tmp_path / name, SIZE, SIZE, in_thread) as writer:
            for frame in frames:
                written = frame.copy()
                writer.write(written)
                written[:] = 0  # The caller may use its array again.
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()


@pytest.mark.parametrize("num_frames", [1, 50])
def test_what_fails_in_the_thread_is_raised_and_leaves_nothing(tmp_path, num_frames):
    def fail(picture):
        raise OSError("disk full")

    with (
        pytest.raises(OSError, match="disk full"),
        SegmentWriter(tmp_path / "a.mp4", SIZE, SIZE, in_thread=True) as writer,
    ):
        writer._encode = fail
        for _ in range(num_frames):
            writer.write(np.zeros((SIZE, SIZE, 3), np.uint8))
    assert list(tmp_path.iterdir()) == []


def test_prores_keeps_alpha(tmp_path):
    frame = np.zeros((SIZE, SIZE, 4), np.uint8)
    frame[:, :32] = (200, 30, 30, 255)
    with SegmentWriter(tmp_path / "a.mov", SIZE, SIZE) as writer:
        for _ in range(3):
            writer.write(frame)
    assemble([tmp_path / "a.mov"], tmp_path / "out.mov", None, 3)
    with av.open(str(tmp_path / "out.mov")) as container:
        pictures = [picture.to_ndarray(format="rgba") for picture in container.decode(video=0)]
    assert len(pictures) == 3
    assert pictures[0][:, :30, 3].min() > 250 and pictures[0][:, 34:, 3].max() < 5


def test_odd_sizes_and_unknown_suffixes_are_refused(tmp_path):
    with pytest.raises(ValueError, match="even"):
        SegmentWriter(tmp_path / "a.mp4", 63, 64)
    with pytest.raises(ValueError, match=r"expected \.mp4 or \.mov"):
        SegmentWriter(tmp_path / "a.avi", 64, 64)
