"""Soundtracks: the clip's parts, recordings of users, and what is refused."""

import io

import av
import numpy as np
import pytest
import torch
from synthetic_talker import write_synthetic_talker, write_wav

from gaussiantalker_ns.data.conditions import FrameConditions
from gaussiantalker_ns.dataparsers.dataset_layout import DatasetLayout
from gaussiantalker_ns.dataparsers.talking_head import TalkingHeadDataParserConfig
from gaussiantalker_ns.inference.external_audio import set_bank_audio
from gaussiantalker_ns.timebase import SAMPLES_PER_FRAME
from gaussiantalker_ns.viewer import tracks as soundtracks
from gaussiantalker_ns.viewer.tracks import (
    MAX_LABEL_LENGTH,
    clip_soundtracks,
    safe_label,
    unique_label,
    uploaded_soundtrack,
)
from gaussiantalker_ns.viewer.waveform import NUM_BINS, curve_levels, loudness_levels

FRAMES = 33


@pytest.fixture(scope="module")
def layout(tmp_path_factory):
    root = tmp_path_factory.mktemp("soundtrack")
    return DatasetLayout(write_synthetic_talker(root / "data", num_frames=FRAMES, size=32))


@pytest.fixture
def bank(layout):
    parser = TalkingHeadDataParserConfig(data=layout.root, num_points=100).setup()
    track = parser.get_dataparser_outputs("train").metadata["track"]
    return FrameConditions(track, "expression", window_frames=8)


def wav_bytes(tmp_path, seconds, name="speech.wav"):
    samples = 0.1 * np.random.default_rng(0).standard_normal(int(16_000 * seconds))
    write_wav(tmp_path / name, samples)
    return (tmp_path / name).read_bytes()


def test_parts_of_the_clip_cover_it_without_overlap(bank, layout):
    train, held_out = clip_soundtracks(bank, layout)
    assert (train.label, train.first_frame, train.num_frames) == ("Training track", 0, 30)
    assert (held_out.label, held_out.first_frame, held_out.num_frames) == ("Held-out part", 30, 3)
    assert held_out.model_frame(2) == 32 and held_out.position(32) == 2
    assert held_out.model_frame(99) == 32 and train.position(99) == 29


def test_sound_belongs_to_its_frames(bank, layout):
    train, held_out = clip_soundtracks(bank, layout)
    together = np.concatenate([train.samples, held_out.samples])
    assert len(together) == FRAMES * SAMPLES_PER_FRAME
    assert np.array_equal(held_out.samples, together[30 * SAMPLES_PER_FRAME :])
    assert np.abs(held_out.samples).max() > 0


def test_a_clip_without_sound_is_silent(bank, layout, tmp_path):
    silent = DatasetLayout(tmp_path)
    train, _ = clip_soundtracks(bank, silent)
    assert train.num_frames == 30 and not train.samples.any()


def test_an_upload_is_what_drive_would_play(bank, tmp_path):
    content = wav_bytes(tmp_path, 1.0)
    track = uploaded_soundtrack(bank, "speech.wav", content)
    assert track.num_frames == 25 and track.label == "speech.wav"
    set_bank_audio(bank, tmp_path / "speech.wav")
    expected = bank.condition(torch.arange(25))
    bank.set_audio(track.rows, track.source_frames)
    found = bank.condition(torch.arange(25))
    assert torch.equal(found.audio, expected.audio)
    assert torch.equal(found.viewpoint, expected.viewpoint)


def test_a_part_of_a_frame_is_filled_with_silence(bank, tmp_path):
    track = uploaded_soundtrack(bank, "a", wav_bytes(tmp_path, 1.03))
    assert track.num_frames == 26 == len(track.rows) == len(track.source_frames)


@pytest.mark.parametrize("content", [b"", b"no sound", b"<svg onload=alert(1)>" * 50])
def test_what_is_no_recording_is_refused_by_its_own_name(bank, content):
    with pytest.raises(ValueError, match=r"^notes\.wav .*; expected"):
        uploaded_soundtrack(bank, "notes.wav", content)


def test_a_picture_without_sound_is_refused(bank):
    from PIL import Image

    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "PNG")
    with pytest.raises(ValueError, match=r"^face\.png has no audio stream"):
        uploaded_soundtrack(bank, "face.png", file.getvalue())


def test_limits_of_uploads(bank, tmp_path, monkeypatch):
    content = wav_bytes(tmp_path, 1.0)
    monkeypatch.setattr(soundtracks, "MAX_UPLOAD_BYTES", 1000)
    with pytest.raises(ValueError, match="long.wav has 0 MiB; expected at most"):
        uploaded_soundtrack(bank, "long.wav", content)
    monkeypatch.undo()
    monkeypatch.setattr(soundtracks, "MAX_UPLOAD_SECONDS", 0.5)
    with pytest.raises(ValueError, match="long.wav lasts more than 0 minutes; expected at most"):
        uploaded_soundtrack(bank, "long.wav", content)


def test_a_recording_that_does_not_say_its_length_is_measured(bank, tmp_path, monkeypatch):
    """Browsers record files without a length in the header."""
    path = tmp_path / "live.mka"
    with av.open(str(path), "w", format="matroska", options={"live": "1"}) as container:
        stream = container.add_stream("aac", rate=16_000)
        for block in range(16):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
            frame.sample_rate, frame.pts = 16_000, 1024 * block
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with av.open(str(path)) as container:
        assert container.duration is None
    assert len(uploaded_soundtrack(bank, "live.mka", path.read_bytes()).samples) > 16_000
    monkeypatch.setattr(soundtracks, "MAX_UPLOAD_SECONDS", 0.5)
    with pytest.raises(ValueError, match="live.mka lasts more than"):
        uploaded_soundtrack(bank, "live.mka", path.read_bytes())


def test_labels_are_short_plain_text():
    assert safe_label("a/b\u202e\nc.wav") == "b c.wav"
    assert safe_label("C:\\music\\song.mp3") == "song.mp3"
    assert safe_label("\x00\u200b ") == "recording"
    long = safe_label("x" * 500 + ".wav")
    assert len(long) == MAX_LABEL_LENGTH and long.endswith("x.wav")
    assert unique_label("a", ["a", "a (2)"]) == "a (3)"


def test_levels_are_stretched_over_a_byte():
    samples = np.zeros(48_000, np.float32)
    samples[24_000:] = 0.5
    levels = loudness_levels(samples)
    assert len(levels) == NUM_BINS and set(levels[:240]) == {0} and set(levels[240:]) == {255}
    curve = curve_levels(np.linspace(-3, 1, 50).astype(np.float32))
    assert curve[0] == 0 and curve[-1] == 255 and curve == sorted(curve)
    assert set(curve_levels(np.ones(3, np.float32))) == {0}
