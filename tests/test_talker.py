"""The run-time object on a head trained for a minute of steps: streams, files, scenes, threads."""

import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from synthetic_talker import write_synthetic_talker
from talker_runs import moved_run, run, small_config

from gaussiantalker_ns.audio.silence import silence_fractions
from gaussiantalker_ns.inference.checkpoint import find_config, known_encoder, load_checkpoint
from gaussiantalker_ns.inference.motion import MotionConfig
from gaussiantalker_ns.inference.scene import Scene
from gaussiantalker_ns.inference.talker import Talker
from gaussiantalker_ns.timebase import SAMPLE_RATE_HZ, num_frames_of

GAIN = 1.3


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    root = tmp_path_factory.mktemp("talker")
    data = write_synthetic_talker(root / "data", num_frames=33, size=64)
    run(small_config(data, root / "outputs", canonical_steps=10, num_steps=20))
    return root


@pytest.fixture(scope="module")
def talker(trained):
    return Talker.load(trained / "outputs")


@pytest.fixture(scope="module")
def speech():
    """Two seconds of noise in bursts, with silence from 0.8 to 1.6 s."""
    generator = np.random.default_rng(0)
    samples = 0.1 * generator.standard_normal(2 * SAMPLE_RATE_HZ)
    samples[12_800:25_600] = 0.0
    return samples.astype(np.float32)


def stream_all(talker, samples, chunk, **options):
    stream = talker.stream(gain=GAIN, **options)
    frames = []
    for start in range(0, len(samples), chunk):
        stream.push_audio(samples[start : start + chunk], SAMPLE_RATE_HZ)
        frames.extend(stream.frames())
    stream.flush()
    return [*frames, *stream.frames()]


@pytest.mark.parametrize("chunk", [320, 5000])
def test_stream_equals_file(talker, speech, chunk):
    offline = list(talker.render(speech, gain=GAIN))
    streamed = stream_all(talker, speech, chunk)
    assert len(offline) == len(streamed) == 50
    assert all(np.array_equal(*pair) for pair in zip(offline, streamed, strict=True))


@pytest.mark.parametrize("num_threads", [1, 2])
def test_threads_change_no_frame(talker, speech, monkeypatch, num_threads):
    """With two of them features, backgrounds and frames are made side by side."""
    offline = list(talker.render(speech, gain=GAIN))
    for module in ("talker", "frame_renderer"):
        monkeypatch.setattr(
            f"gaussiantalker_ns.inference.{module}.num_threads", lambda: num_threads
        )
    again = list(talker.render(speech, gain=GAIN))
    assert len(again) == 50
    assert all(np.array_equal(*pair) for pair in zip(offline, again, strict=True))
    begun = talker.render(speech, gain=GAIN)
    assert np.array_equal(next(begun), offline[0])
    begun.close()


def test_on_a_gpu_blocks_are_submitted_ahead(talker, speech, monkeypatch):
    """The next block is begun before this one is finished; background are read by threads."""
    offline = list(talker.render(speech[:7680], gain=GAIN))
    monkeypatch.setattr("gaussiantalker_ns.inference.frame_renderer.on_gpu", lambda device: True)
    stream = talker.stream(gain=GAIN)
    renderer, order = stream._renderer, []
    submit, paint = renderer.submit, renderer._paint

    def submitted(windows, frames):
        order.append(f"submit {frames[0]}")
        return submit(windows, frames)

    def painted(block, parts, index):
        order.append(f"paint {block.frames[index]}")
        return paint(block, parts, index)

    renderer.submit, renderer._paint = submitted, painted
    stream.push_audio(speech[:7680], SAMPLE_RATE_HZ)
    stream.flush()
    streamed = list(stream.frames())
    renderer.close()
    assert order[:4] == ["submit 0", "submit 4", "paint 0", "paint 1"]
    assert order[6] == "submit 8" and order[-1] == f"paint {len(offline) - 1}"
    assert all(np.array_equal(*pair) for pair in zip(offline, streamed, strict=True))


@pytest.mark.parametrize(
    "motion", [None, MotionConfig(lip_smoothing_frames=0.0, silence_gate=False)]
)
def test_a_video_can_be_begun_anywhere(talker, speech, motion, monkeypatch):
    """Also beyond what the encoder's window sees; what is far before it is not encoded."""
    long = np.concatenate([speech, 0.5 * speech, 0.2 * speech])
    whole = list(talker.render(long, motion, gain=GAIN))
    encoded = []
    encode_window = talker.encoder.encode_window

    def counted(window):
        encoded.append(len(window))
        return encode_window(window)

    monkeypatch.setattr(talker.encoder, "encode_window", counted)
    for first_frame in (4, 20, 84, 116, 148):
        encoded.clear()
        rest = list(talker.render(long, motion, gain=GAIN, first_frame=first_frame))
        assert all(np.array_equal(*pair) for pair in zip(whole[first_frame:], rest, strict=True))
        assert len(encoded) <= (len(whole) - first_frame + 2 * 8) // 8 + 1


def test_frames_arrive_before_the_end_with_the_stated_delay(talker, speech):
    stream = talker.stream(gain=GAIN)
    stream.push_audio(speech[: int(stream.delay_s * SAMPLE_RATE_HZ)], SAMPLE_RATE_HZ)
    assert len(list(stream.frames())) >= 1


@pytest.mark.parametrize(("seconds", "frames"), [(0.2, 5), (0.001, 1), (1.01, 25), (1.03, 26)])
def test_number_of_frames(talker, seconds, frames):
    samples = np.zeros(int(seconds * SAMPLE_RATE_HZ), np.float32)
    assert num_frames_of(len(samples)) == frames
    assert len(list(talker.render(samples))) == frames


def test_a_caller_may_take_one_frame_at_a_time(talker, speech):
    offline = list(talker.render(speech[:7680], gain=GAIN))
    stream = talker.stream(gain=GAIN)
    stream.push_audio(speech[:7680], SAMPLE_RATE_HZ)
    stream.flush()
    singly = [next(stream.frames()) for _ in offline]
    assert all(np.array_equal(*pair) for pair in zip(offline, singly, strict=True))
    assert next(stream.frames(), None) is None


def test_the_silence_gate_hears_what_the_encoder_hears(talker, speech):
    """Speech at -53 dBFS is nearly silence until the stream has learned its level."""
    quiet = np.tile(speech[:12_800] * np.float32(10 ** (-33 / 20)), 30)
    stream = talker.stream()
    powers = []
    stream._features.push_powers = powers.extend
    for start in range(0, len(quiet), 5000):
        stream.push_audio(quiet[start : start + 5000], SAMPLE_RATE_HZ)
    stream.flush()
    shares = silence_fractions(np.array(powers))
    assert len(powers) == num_frames_of(len(quiet))
    assert shares[5:20].min() > 0.5 and shares[-50:-5].max() == 0


def test_other_sample_rates_are_resampled(talker):
    stream = talker.stream(gain=1.0)
    stream.push_audio(np.zeros(48_000, np.int16), 48_000)
    stream.flush()
    assert len(list(stream.frames())) == 25


def test_threads_do_not_disturb_each_other(talker, speech):
    expected = [frame.copy() for frame in talker.render(speech, gain=GAIN)]
    results = {}
    threads = [
        threading.Thread(
            target=lambda name=name: results.update({name: stream_all(talker, speech, 2000)})
        )
        for name in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for frames in results.values():
        assert all(np.array_equal(*pair) for pair in zip(expected, frames, strict=True))
    assert len(results) == 2


def test_scenes(talker, speech, tmp_path):
    short = speech[:3200]

    def first(**options):
        return next(iter(talker.render(short, scene=Scene(**options))))

    plain = first()
    assert plain.shape == (64, 64, 3)
    assert first(size=96).shape == (96, 96, 3)
    green = first(background="#00ff00")
    assert (green[0, 0] == (0, 255, 0)).all() and not (plain[0, 0] == (0, 255, 0)).all()
    transparent = first(background="alpha")
    assert transparent.shape == (64, 64, 4)
    assert transparent[0, 0, 3] == 0 and transparent[28, 32, 3] > 200
    assert first(torso_mode="paste-back").shape == (64, 64, 3)


@pytest.mark.parametrize(
    ("scene", "error", "message"),
    [
        ({"size": 65}, ValueError, "even number"),
        ({"background": "nowhere.png"}, FileNotFoundError, "neither an image file nor a colour"),
        ({"background": "#00ff0"}, ValueError, "expected six hexadecimal digits"),
        ({"torso_mode": "gaussians"}, ValueError, "trained with 'layer'"),
        ({"torso_mode": "paste-back", "background": "#000000"}, ValueError, "paste-back"),
    ],
)
def test_impossible_scenes(talker, speech, scene, error, message):
    with pytest.raises(error, match=message):
        next(iter(talker.render(speech, scene=Scene(**scene))))


@pytest.mark.parametrize("mode", ["a file", "smoothed"])
def test_paste_back_needs_the_poses_of_the_clip(talker, speech, tmp_path, mode):
    pose = talker.checkpoint.model.bank.poses[:1].numpy()
    np.save(tmp_path / "poses.npy", pose)
    options = {"pose": tmp_path / "poses.npy"}
    options = {"pose_smoothing_frames": 1.0} if mode == "smoothed" else options
    scene = Scene(torso_mode="paste-back")
    with pytest.raises(ValueError, match="expected poses of the clip, `track` without smoothing"):
        next(iter(talker.render(speech[:3200], MotionConfig(**options), scene)))


@pytest.mark.parametrize("pose", ["track", "still"])
def test_paste_back_shows_the_clip_beside_the_head(talker, speech, pose):
    modes = ("layer", "paste-back")
    motion = MotionConfig(pose=pose)
    layer, blended = (
        next(iter(talker.render(speech[:3200], motion, Scene(torso_mode=mode)))) for mode in modes
    )
    assert not np.array_equal(layer, blended)


def test_blinks_change_the_eyes(talker, speech, tmp_path):
    np.savetxt(tmp_path / "shut.txt", [1.0])
    short = speech[:3200]
    opened = next(iter(talker.render(short, MotionConfig(blink="none"))))
    shut = next(iter(talker.render(short, MotionConfig(blink=tmp_path / "shut.txt"))))
    assert not np.array_equal(opened, shut)


def test_missing_runs_and_data_are_named(trained, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"No config\.yml"):
        find_config(tmp_path)
    with pytest.raises(FileNotFoundError, match="--data"):
        load_checkpoint(trained / "outputs", data=tmp_path / "gone")


def test_a_run_loads_from_everywhere_and_wherever_it_was_moved(trained, tmp_path, monkeypatch):
    moved_run(find_config(trained / "outputs"), tmp_path / "moved")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match="data-of-the-training.* Name it with --data"):
        load_checkpoint(Path("moved"))
    loaded = load_checkpoint(Path("moved"), trained / "data")
    assert loaded.path == tmp_path / "moved" / "nerfstudio_models" / "step-000000019.ckpt"
    assert loaded.step == 19 and loaded.layout.root == trained / "data"


def test_an_encoder_that_is_gone_is_named():
    """Early versions had `mel`."""
    checkpoint = Path("step-000000019.ckpt")
    assert known_encoder("deepspeech", checkpoint) == "deepspeech"
    with pytest.raises(ValueError, match=r"ckpt was trained on .* 'mel', which .* train again\."):
        known_encoder("mel", checkpoint)


def test_missing_checkpoints_are_named(trained, tmp_path):
    config_path = moved_run(find_config(trained / "outputs"), tmp_path / "moved")
    models = config_path.parent / "nerfstudio_models"
    next(models.iterdir()).rename(models / "step-000000019.ckpt.partial")
    with pytest.raises(FileNotFoundError, match=r"models holds no checkpoint; .*Copy the whole"):
        load_checkpoint(config_path, trained / "data")
    shutil.rmtree(models)
    with pytest.raises(FileNotFoundError, match="models is not there"):
        load_checkpoint(config_path, trained / "data")


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (np.zeros((2, 100), np.float32), "one row of mono samples"),
        (np.array([0.0, np.nan], np.float32), "NaN"),
    ],
)
def test_bad_audio_is_refused(talker, samples, message):
    with pytest.raises(ValueError, match=message):
        talker.stream().push_audio(samples, SAMPLE_RATE_HZ)


def test_rendering_leaves_no_gradients(talker, speech):
    next(iter(talker.render(speech)))
    assert all(parameter.grad is None for parameter in talker.checkpoint.model.parameters())
    assert torch.is_grad_enabled()
