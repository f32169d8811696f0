"""`gaussiantalker evaluate`: a trained head, another voice, two videos; files, page and errors."""

import json
import shutil
from html.parser import HTMLParser
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import torch
from synthetic_talker import write_synthetic_talker
from talker_runs import run as train
from talker_runs import small_config
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.summary.writer.record_writer import RecordWriter

from gaussiantalker_ns.assets import asset_path
from gaussiantalker_ns.audio.read import read_audio
from gaussiantalker_ns.evaluation import evaluate as evaluate_module
from gaussiantalker_ns.evaluation.cost import training_minutes
from gaussiantalker_ns.evaluation.driven import mean_values
from gaussiantalker_ns.evaluation.evaluator import Metrics, evaluate_pairs
from gaussiantalker_ns.evaluation.report.figures import MOUTH_SIDE
from gaussiantalker_ns.face.landmarker import Face, FaceLandmarker
from gaussiantalker_ns.files import sha256_of
from gaussiantalker_ns.folder_lock import InUseError, OwnerLock
from gaussiantalker_ns.metrics.frame_pairs import (
    FramePair,
    count_frames,
    fitted,
    from_pixels,
    video_frames,
    video_pairs,
)
from gaussiantalker_ns.metrics.perceptual import ImageFidelity
from gaussiantalker_ns.metrics.registry import MEASURES, NotMeasured
from gaussiantalker_ns.scripts import evaluate

NUM_FRAMES = 100
"""Four seconds of the sample: enough for a lag between sound and lips."""

SHIFT_FRAMES = 4


@pytest.fixture(scope="module")
def sample() -> list[np.ndarray]:
    frames = video_frames(asset_path("sample/presenter.mp4"), NUM_FRAMES + SHIFT_FRAMES)
    return [fitted(frame, 256, 256) for frame in frames]


@pytest.fixture(scope="module")
def sound() -> np.ndarray:
    return read_audio(asset_path("sample/presenter.mp4"))


def core_metrics() -> Metrics:
    """The metrics that need no weights."""
    found = Metrics.find("cpu")
    return Metrics(found.present[:1], found.not_measured)


def pairs(rendered: list[np.ndarray], real: list[np.ndarray]) -> list[FramePair]:
    return [
        FramePair(frame, from_pixels(a), from_pixels(b))
        for frame, (a, b) in enumerate(zip(rendered, real))
    ]


@pytest.fixture(scope="module")
def identical(sample, sound):
    real = sample[:NUM_FRAMES]
    return evaluate_pairs(pairs(real, real), core_metrics(), samples=sound)


def test_identical_videos_are_perfect(identical):
    for key, value in identical.metrics.items():
        perfect = MEASURES[key].perfect
        if perfect is not None:
            assert value == pytest.approx(perfect, abs=1e-4), key
    assert identical.metrics["lips_num_frames"] == NUM_FRAMES
    for key in ("audio_lip_lag_ms", "audio_lip_correlation", "jitter_px"):
        assert identical.metrics[key] == pytest.approx(identical.ground_truth[key]), key
    measured = set(identical.metrics) & {
        key for key, m in MEASURES.items() if m.perfect is not None
    }
    assert {"face_psnr", "ssim", "lips_open_correlation", "blendshape_error_lower"} <= measured


def test_blur_makes_pictures_and_lips_worse(sample, sound):
    real = sample[:20]
    blurred = [cv2.GaussianBlur(image, (0, 0), 2) for image in real]
    metrics = evaluate_pairs(pairs(blurred, real), core_metrics()).metrics
    assert metrics["face_psnr"] < 40 and metrics["face_ssim"] < 0.97
    assert metrics["lips_landmark_distance"] > 0.05
    assert metrics["blendshape_error_lower"] > 0
    assert "audio_lip_lag_ms" not in metrics


def test_a_shift_in_time_is_seen_in_lips_and_lag(sample, sound, identical):
    late, real = sample[SHIFT_FRAMES:], sample[:NUM_FRAMES]
    shifted = evaluate_pairs(pairs(late, real), core_metrics(), samples=sound)
    assert shifted.metrics["lips_open_correlation"] < 0.8
    assert shifted.metrics["face_psnr"] < 60
    assert shifted.metrics["jitter_ratio"] == pytest.approx(1, abs=0.2)
    # The lips come 160 ms too early, so the sound is late by that much.
    lag = shifted.metrics["audio_lip_lag_ms"] - shifted.ground_truth["audio_lip_lag_ms"]
    assert lag == pytest.approx(40 * SHIFT_FRAMES, abs=60)
    assert shifted.metrics["lips_lag_ms"] == pytest.approx(-40 * SHIFT_FRAMES, abs=5)


def test_a_shift_in_space_costs_fidelity_but_not_lips(sample):
    real = sample[:10]
    moved = [np.roll(image, 4, axis=1) for image in real]
    metrics = evaluate_pairs(pairs(moved, real), core_metrics()).metrics
    assert metrics["face_psnr"] < 35
    assert metrics["lips_open_correlation"] > 0.95


def test_what_is_missing_is_named_with_its_place(tmp_path, monkeypatch, sample):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    result = evaluate_pairs(pairs(sample[:2], sample[:2]), Metrics.find("cpu"))
    for key in ("face_lpips", "lpips", "face_fid", "csim", "lmd", "aue", "sync"):
        assert key not in result.metrics
        assert result.not_measured[key].startswith("needs "), key
    assert (
        str(tmp_path / "checkpoints" / "alexnet-owt-7be5be79.pth") in result.not_measured["lpips"]
    )
    assert not set(result.metrics) & set(result.not_measured)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose held-out frames are 30, 32 and 33: no face was found in frame 31."""
    data = write_synthetic_talker(tmp_path_factory.mktemp("talker") / "data", num_frames=34)
    description = json.loads((data / "talker.json").read_text())
    (data / "talker.json").write_text(json.dumps({**description, "invalid_frames": [31]}))
    config = small_config(data, tmp_path_factory.mktemp("outputs"), 2, 4)
    train(config)
    return config.get_base_dir() / "config.yml"


def test_measure_returns_the_figures_of_the_held_out_frames(trained: Path, monkeypatch):
    # In 64 painted pixels the landmarker sees a face now and then; here it never does.
    monkeypatch.setattr(FaceLandmarker, "detect", lambda self, image: [])
    found = evaluate.measure(trained)
    assert found["method"] == "gaussiantalker-cpu" and found["step"] == 3 and found["frames"] == 3
    metrics = found["metrics"]
    expected = {"psnr", "ssim", "face_psnr", "face_ssim", "head_psnr", "head_ssim", "lips_psnr"}
    assert expected <= set(metrics) and metrics["psnr"] > 5
    assert metrics["gaussian_count"] > 100 and metrics["model_megabytes"] > 0.01
    assert all(np.isfinite(value) for value in metrics.values())
    assert metrics["lips_num_frames"] == 0
    assert found["not_measured"]["lips_open_correlation"].startswith("undefined on these frames")


class Addresses(HTMLParser):
    """Collects what a page refers to."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag, attrs) -> None:
        self.found += [value for name, value in attrs if name in ("src", "href") and value]


def test_a_run_leaves_tables_videos_and_a_page_of_its_own(trained: Path, tmp_path: Path, capsys):
    config = evaluate.Config(trained, output_dir=tmp_path, speed=False, sync=(5.0, 8.0))
    assert evaluate.run(config) == 0
    printed = capsys.readouterr().out
    assert "PSNR, face box" in printed and "not measured: needs" in printed
    content = json.loads((tmp_path / "evaluation.json").read_text(), parse_constant=pytest.fail)
    assert content["split"] == "test" and content["ground_truth"]["ssim"] == 1
    assert content["metrics"]["sync"] == 5 and content["ground_truth"]["sync"] == 8
    rows = (tmp_path / "frames.csv").read_text().splitlines()
    assert rows[0].startswith("frame,face_psnr")
    assert [row.partition(",")[0] for row in rows[1:]] == ["30", "32", "33"]
    for name, row in (("md", "| gaussiantalker-cpu, step 3 |"),):
        rows = (tmp_path / f"evaluation.{name}").read_text()
        assert row in rows and "3 test frames, driven by their own audio" in rows
    assert "psnr" in (tmp_path / "evaluation.csv").read_text()
    for name, width in (("comparison", 192), ("render", 64), ("truth", 64)):
        with av.open(str(tmp_path / f"{name}.mp4")) as container:
            frames = list(container.decode(video=0))
            assert len(frames) == 4 and frames[0].width == width, "the lost frame keeps its time"
            images = [frame.to_ndarray(format="gray").astype(int) for frame in frames]
            assert np.abs(images[1] - images[0]).max() <= 8
            assert container.streams.audio
    for name in ("attention", "triplane", "mouths"):
        assert cv2.imread(str(tmp_path / f"{name}.png")) is not None
    page = (tmp_path / "evaluation.html").read_text()
    addresses = Addresses()
    addresses.feed(page)
    assert addresses.found and all(value.startswith("data:") for value in addresses.found)
    assert sum(value.startswith("data:video/mp4;base64,") for value in addresses.found) == 1
    assert not list(tmp_path.glob(".p*")), "partial files are gone"


def test_figures_alone_leave_no_pictures_and_training_frames_a_folder(trained: Path):
    folder = trained.parent / "evaluation-train"
    folder.mkdir()
    (folder / "evaluation.json").write_text("{}")
    (folder / "evaluation.html").write_text("of an earlier evaluation")
    config = evaluate.Config(trained, speed=True, images=False, max_frames=2, split="train")
    assert evaluate.run(config) == 0
    assert not (trained.parent / "evaluation").exists()
    content = json.loads((folder / "evaluation.json").read_text())
    assert content["frames"] == 2 and content["split"] == "train"
    assert content["metrics"]["fps_single"] > 0 and content["metrics"]["fps_batch"] > 0
    assert not list(folder.glob("*.mp4")) and not (folder / "evaluation.html").exists()
    assert "2 train frames" in (folder / "evaluation.md").read_text()


def test_another_voice(trained: Path, tmp_path: Path):
    audio = asset_path("sample/speech.wav")
    config = evaluate.Config(
        trained, audio=(audio,), output_dir=tmp_path, speed=False, max_frames=8
    )
    assert evaluate.run(config) == 0
    content = json.loads((tmp_path / "evaluation.json").read_text())
    assert content["driven_by"] == "speech.wav" and content["frames"] == 8
    assert content["audio_sha256"] == sha256_of(audio)
    assert "psnr" not in content["metrics"]
    with av.open(str(tmp_path / "render.mp4")) as container:
        assert len(list(container.decode(video=0))) == 8
    assert not (tmp_path / "truth.mp4").exists()
    assert "data:video/mp4" in (tmp_path / "evaluation.html").read_text()


def test_several_voices_get_a_table_with_their_mean(trained: Path, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(FaceLandmarker, "detect", some_face)
    recordings = asset_path("sample/presenter.mp4"), tmp_path / "b|<b>.mp4", tmp_path / "sound.wav"
    shutil.copy(recordings[0], recordings[1])
    shutil.copy(asset_path("sample/speech.wav"), recordings[2])
    config = evaluate.Config(
        trained,
        audio=recordings,
        output_dir=tmp_path / "out",
        speed=False,
        images=False,
        max_frames=30,
    )
    assert evaluate.run(config) == 0
    content = json.loads((tmp_path / "out" / "recordings.json").read_text())
    rows = content["recordings"]
    assert [row["recording"] for row in rows] == [path.name for path in recordings]
    # The second one is the first one again; the sound alone has no lips to compare with.
    assert rows[0]["metrics"] == rows[1]["metrics"]
    assert "lips_open_correlation_lagged" in rows[0]["metrics"]
    assert "lips_open_correlation_lagged" not in rows[2]["metrics"]
    assert "lips_open_correlation_lagged" not in content["mean"]
    for row in rows:
        own = json.loads((tmp_path / "out" / row["folder"] / "evaluation.json").read_text())
        assert own["metrics"] == row["metrics"]
    table = (tmp_path / "out" / "recordings.md").read_text()
    assert "b/&lt;b&gt;.mp4" in table and "**mean**" in table


def test_the_mean_of_recordings_is_over_what_all_of_them_have():
    first = {"lips_open_correlation": 0.25, "lips_width_correlation": 1.0, "jitter_px": 1.0}
    second = {"lips_open_correlation": 0.75, "jitter_px": 1.0}
    assert mean_values([first, second]) == {"lips_open_correlation": 0.5}


def some_face(_finder: FaceLandmarker, image: np.ndarray) -> list[Face]:
    """A face that depends on the picture, also where it is too small and rough to have one."""
    generator = np.random.default_rng(int(image.astype(np.int64).sum()))
    points = generator.uniform(0, len(image), (478, 3)).astype(np.float32)
    return [Face(points, generator.random(52, np.float32))]


def test_another_speaker_lends_lips_to_compare_with(trained: Path, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(FaceLandmarker, "detect", some_face)
    audio = asset_path("sample/presenter.mp4")
    config = evaluate.Config(
        trained, audio=(audio,), output_dir=tmp_path, speed=False, max_frames=4
    )
    assert evaluate.run(config) == 0
    content = json.loads((tmp_path / "evaluation.json").read_text())
    assert content["frames"] == content["metrics"]["lips_num_frames"] == 4
    assert content["ground_truth"]["lips_open_correlation"] == 1
    assert abs(content["metrics"]["lips_open_correlation"]) < 1
    # The two mouths belong to different people, and there is no real frame to compare with.
    assert not {"psnr", "lips_landmark_distance"} & set(content["metrics"])
    with av.open(str(tmp_path / "comparison.mp4")) as container:
        frame = next(container.decode(video=0))
        assert frame.width > frame.height


def test_two_videos(tmp_path: Path, sample):
    evil = tmp_path / "<img src=x onerror=alert(1)>.mp4"
    write(evil, sample[:6])
    write(tmp_path / "truth.mp4", sample[:6])
    config = evaluate.Config(videos=(evil, tmp_path / "truth.mp4"), output_dir=tmp_path / "out")
    assert evaluate.run(config) == 0
    content = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert content["metrics"]["face_psnr"] == 100 and content["frames"] == 6
    assert "6 frames, compared with" in (tmp_path / "out" / "evaluation.md").read_text()
    page = (tmp_path / "out" / "evaluation.html").read_text()
    assert "<img src=x" not in page and "&lt;img src=x" in page


def test_words_anywhere_in_two_videos_label_the_mouths(tmp_path: Path, monkeypatch):
    """The only word is spoken behind the first twenty seconds."""
    monkeypatch.setattr(FaceLandmarker, "detect", some_face)
    monkeypatch.setattr(Metrics, "find", lambda *_: Metrics([ImageFidelity()], {}))
    video, words = tmp_path / "both.mp4", tmp_path / "words.txt"
    write(video, [np.full((32, 32, 3), frame // 4, np.uint8) for frame in range(520)])
    assert count_frames(video) == 520 and count_frames(video, 9) == 9
    words.write_text("20.4\t20.6\tlate\n")
    config = evaluate.Config(videos=(video, video), alignment=words, output_dir=tmp_path / "out")
    assert evaluate.run(config) == 0
    assert cv2.imread(str(tmp_path / "out" / "mouths.png")).shape[1] == MOUTH_SIDE


def write(path: Path, frames: list[np.ndarray]) -> None:
    from gaussiantalker_ns.inference.video_writer import SegmentWriter

    with SegmentWriter(path, frames[0].shape[1], frames[0].shape[0]) as writer:
        for frame in frames:
            writer.write(frame)


def test_videos_that_do_not_fit(tmp_path: Path, sample):
    write(tmp_path / "long.mp4", sample[:4])
    write(tmp_path / "short.mp4", sample[:3])
    write(tmp_path / "small.mp4", [frame[:64, :64] for frame in sample[:3]])
    with pytest.raises(ValueError, match=r"short\.mp4 ends after 3 frames"):
        list(video_pairs(tmp_path / "long.mp4", tmp_path / "short.mp4"))
    assert len(list(video_pairs(tmp_path / "long.mp4", tmp_path / "short.mp4", 3))) == 3
    with pytest.raises(ValueError, match="expected one size"):
        list(video_pairs(tmp_path / "long.mp4", tmp_path / "small.mp4"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "expected one of them"),
        ({"load_config": Path("a"), "videos": (Path("a"), Path("b"))}, "expected one of them"),
        ({"videos": (Path("a"), Path("b"))}, "name a folder with --output-dir"),
        (
            {"videos": (Path("a"), Path("b")), "audio": (Path("c"),), "output_dir": Path("o")},
            "--audio would be ignored: --videos compares two finished videos",
        ),
        (
            {"videos": (Path("a"), Path("b")), "data": Path("d"), "output_dir": Path("o")},
            "--data would be ignored",
        ),
        (
            {"load_config": Path("a"), "audio": (Path("c"),), "split": "train"},
            "--split would be ignored: --audio drives the head",
        ),
        ({"load_config": Path("a"), "audio": (Path("c"), Path("c"))}, "names a recording twice"),
        (
            {"load_config": Path("a"), "audio": (Path("c"),), "csim_model": Path("n")},
            "--csim-model",
        ),
        ({"load_config": Path("a"), "audio": (Path("c"),), "alignment": Path("w")}, "--alignment"),
        (
            {"load_config": Path("a"), "images": False, "alignment": Path("w")},
            "--alignment would be ignored: --no-images",
        ),
        ({"load_config": Path("a"), "max_frames": 0}, "at least 1"),
    ],
)
def test_options_that_do_not_fit(options, message):
    with pytest.raises(ValueError, match=message):
        evaluate.Config(**options)


def test_a_full_disk_is_told_in_one_message(tmp_path: Path, monkeypatch):
    def is_full(config):
        raise OSError("page.png could not be written (No space left on device).")

    monkeypatch.setattr(evaluate_module, "evaluate", is_full)
    with pytest.raises(OSError, match="could not be written"):
        evaluate.run(evaluate.Config(tmp_path))


@pytest.mark.parametrize("asked", [{}, {"split": "train"}, {"output_dir": Path("results")}])
def test_a_folder_in_use_is_left_alone(tmp_path: Path, monkeypatch, asked):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.yml").write_text("no matter what")
    config = evaluate.Config(tmp_path, **asked)
    folder = evaluate_module.results_folder(config)
    with OwnerLock.of_folder(folder), pytest.raises(InUseError, match=f"^{folder} is in use by"):
        evaluate.run(config)
    assert not folder.exists()


def test_a_folder_without_a_run_is_an_error(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=r"No config\.yml"):
        evaluate.run(evaluate.Config(tmp_path))


def test_training_time_is_the_sum_of_all_starts(tmp_path: Path):
    with pytest.raises(NotMeasured, match="event files"):
        training_minutes(tmp_path)
    for name, times in (("first", (1000.0, 1020.0, 1090.0)), ("second", (5000.0, 5030.0))):
        path = tmp_path / f"events.out.tfevents.{name}"
        with path.open("wb") as file:
            writer = RecordWriter(file)
            for step, time in enumerate(times):
                writer.write(Event(wall_time=time, step=step).SerializeToString())
    assert training_minutes(tmp_path) == pytest.approx(2.0)
