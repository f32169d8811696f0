"""Any video comes out as square pictures at 25 a second and sound in step; bad ones say why not."""

import wave
from pathlib import Path

import cv2
import numpy as np
import pytest
from small_videos import frame_number, level_picture, set_display_matrix, steady, write_video

from gaussiantalker_ns.audio.read import Recording
from gaussiantalker_ns.dataparsers.dataset_layout import DatasetLayout
from gaussiantalker_ns.face.landmarker import Face, FaceLandmarker
from gaussiantalker_ns.files import resize
from gaussiantalker_ns.preprocess.video import extract as extract_module
from gaussiantalker_ns.preprocess.video import scan
from gaussiantalker_ns.preprocess.video.crop import SquareCrop, crop_around, parse_crop
from gaussiantalker_ns.preprocess.video.extract import VideoConfig, VideoInfo, extract
from gaussiantalker_ns.preprocess.video.shots import changed_fraction, find_shots, split_takes
from gaussiantalker_ns.video.reader import ConstantFpsReader, upright_rgb


class FakeLandmarker(FaceLandmarker):
    """Sees one face, in the middle half of every picture brighter than black."""

    def __init__(self, *_: object) -> None:
        pass

    def __enter__(self) -> "FakeLandmarker":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def detect(self, image: np.ndarray) -> list[Face]:
        if image.max() == 0:
            return []
        height, width = image.shape[:2]
        points = np.zeros((478, 3), np.float32)
        points[:, 0] = np.linspace(0.4 * width, 0.6 * width, 478)
        points[:, 1] = np.linspace(0.3 * height, 0.7 * height, 478)
        return [Face(points, np.zeros(52, np.float32))]


@pytest.fixture(autouse=True)
def fake_faces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan, "FaceLandmarker", FakeLandmarker)


def grid_numbers(path: Path, start: int = 0, stop: int | None = None) -> list[tuple[int, int]]:
    grid = ConstantFpsReader(path)
    return [
        (index, frame_number(upright_rgb(frame, grid.height, grid.width)))
        for index, frame in grid.frames(start, stop)
    ]


def run(path: Path, output: Path, **settings: object) -> VideoInfo:
    settings = {"size": 64, "min_duration_s": 0.2, "num_workers": 2, **settings}
    return extract(path, output, VideoConfig(**settings))  # pyright: ignore[reportArgumentType]


# The time grid.


def test_25_fps_is_taken_frame_by_frame(tmp_path: Path):
    path = write_video(tmp_path / "a.mkv", steady(20))
    assert grid_numbers(path) == [(i, i) for i in range(20)]
    assert grid_numbers(path, 5, 8) == [(5, 5), (6, 6), (7, 7)]


def test_50_fps_keeps_every_second_picture(tmp_path: Path):
    path = write_video(tmp_path / "a.mkv", steady(40, 50), rate=50)
    assert grid_numbers(path) == [(i, 2 * i) for i in range(20)]


@pytest.mark.parametrize("rate", [10, 24, 30, 60])
def test_any_rate_takes_the_nearest_picture(tmp_path: Path, rate: int):
    times = steady(2 * rate, rate)
    path = write_video(tmp_path / "a.mkv", times, rate=rate)
    numbers = grid_numbers(path)
    assert len(numbers) == 50
    stored = np.round(np.array(times), 3)  # Matroska keeps milliseconds.
    for index, number in numbers:
        distance = np.abs(stored - index / 25)
        assert distance[number] <= distance.min() + 1e-3


def test_variable_rate_follows_the_time_stamps(tmp_path: Path):
    path = write_video(tmp_path / "a.mkv", [0, 0.04, 0.4, 0.44, 0.48])
    numbers = [number for _, number in grid_numbers(path)]
    assert numbers[:2] == [0, 1]
    assert numbers[2:6] == [1] * 4  # Up to the middle between .04 and .4 s.
    assert numbers[6:] == [2, 2, 2, 2, 2, 3, 4]


def test_late_first_picture_is_frame_zero_and_sound_stays_in_step(tmp_path: Path):
    path = write_video(tmp_path / "a.mkv", steady(30, start_s=0.2), click_s=0.5)
    assert ConstantFpsReader(path).t0 == pytest.approx(0.2)
    assert grid_numbers(path)[0] == (0, 0)
    run(path, tmp_path / "out", start=0.2, crop="0,0,96")
    with wave.open(str(tmp_path / "out" / "aud.wav")) as file:
        samples = np.frombuffer(file.readframes(file.getnframes()), np.int16)
        assert (file.getframerate(), file.getnchannels()) == (16_000, 1)
    assert len(samples) == 25 * 640
    assert np.flatnonzero(samples)[0] == pytest.approx(0.3 * 16_000, abs=16)


# Pictures.


def test_extract_writes_cropped_pictures_from_zero(tmp_path: Path):
    path = write_video(tmp_path / "a.mkv", steady(20))
    info = run(path, tmp_path / "out", start=0.2, end=0.6)
    layout = DatasetLayout(tmp_path / "out")
    files = sorted(file.name for file in layout.frames_dir.iterdir())
    assert files == sorted(f"{i}.jpg" for i in range(10))
    for frame in range(10):
        picture = cv2.imread(str(layout.frame(frame)))
        assert picture.shape == (64, 64, 3)
        assert frame_number(picture) == frame + 5
    assert (info.take, info.num_frames, info.size) == ((5, 14), 10, 64)
    assert sorted(p.name for p in layout.root.iterdir()) == ["aud.wav", "ori_imgs"]
    assert info.to_dict()["sha256"] == info.sha256


def test_second_run_replaces_a_longer_one(tmp_path: Path):
    path = write_video(tmp_path / "a.mkv", steady(20))
    run(path, tmp_path / "out")
    run(path, tmp_path / "out", end=0.4)
    assert len(list((tmp_path / "out" / "ori_imgs").iterdir())) == 10


@pytest.mark.parametrize(
    ("codec", "pix_fmt", "size"),
    [
        ("ffv1", "gray", (96, 128)),
        ("ffv1", "yuv420p10le", (96, 128)),
        ("ffv1", "bgr0", (97, 131)),
        ("mpeg4", "yuv420p", (96, 128)),
    ],
    ids=["8-bit grey", "10-bit", "odd size", "mpeg4"],
)
def test_unusual_formats(tmp_path: Path, codec: str, pix_fmt: str, size: tuple[int, int]):
    path = write_video(
        tmp_path / "a.mkv", steady(10), lambda i: level_picture(i, *size), codec, pix_fmt
    )
    run(path, tmp_path / "out")
    picture = cv2.imread(str(tmp_path / "out" / "ori_imgs" / "6.jpg"))
    assert picture.mean() == pytest.approx(22, abs=2.5)


def test_rotation_flag_is_honoured(tmp_path: Path):
    """A phone held upright stores lying pictures and a matrix that turns them clockwise."""
    lying = np.zeros((96, 128, 3), np.uint8)
    lying[:, :32] = 200  # The left edge of the stored picture is the top of the upright one.
    path = write_video(
        tmp_path / "a.mp4", steady(10), lambda _: lying, "mpeg4", "yuv420p", sound=False
    )
    set_display_matrix(path, (0, 1, -1, 0))
    grid = ConstantFpsReader(path)
    assert (grid.width, grid.height) == (96, 128)
    _, frame = next(grid.frames())
    picture = upright_rgb(frame, grid.height, grid.width)
    assert picture[:24].mean() > 150
    assert picture[64:].mean() < 30


def test_resize_keeps_the_mean():
    picture = np.random.default_rng(0).integers(0, 255, (96, 96, 3), np.uint8)
    assert resize(picture, 96) is picture
    assert resize(picture, 32).mean() == pytest.approx(picture.mean(), abs=1)
    assert resize(picture, 192).shape == (192, 192, 3)


# Cuts.


def two_scenes(index: int) -> np.ndarray:
    picture = np.full((96, 128, 3), 60 if index < 12 else 190, np.uint8)
    picture[:, index : index + 4] = 120
    return picture


def test_longest_take_is_found_and_the_cut_named(tmp_path: Path):
    path = write_video(tmp_path / "a.mkv", steady(40), two_scenes)
    info = run(path, tmp_path / "out")
    assert info.cuts == [12]
    assert info.take == (12, 39)
    assert "12" in info.notices[0]
    assert run(path, tmp_path / "all", take="all").num_frames == 40


def test_take_without_a_face_is_not_chosen(tmp_path: Path):
    def paint(index: int) -> np.ndarray:
        return np.full((96, 128, 3), 0 if index < 25 else 190, np.uint8)

    info = run(write_video(tmp_path / "a.mkv", steady(40), paint), tmp_path / "out")
    assert info.take == (25, 39)


def test_only_a_lone_change_is_a_cut():
    still = [0.01] * 8
    assert find_shots(np.array([*still, 0.5, *still]), 100).cuts == [109]
    assert find_shots(np.array([*still, 0.3, 0.35, 0.3, *still])).cuts == []  # Fast motion.
    assert find_shots(np.array([*still, 0.6, 0.6, *still])).cuts == []  # A flash.
    jump = find_shots(np.array([*still, 0.15, *still]))
    assert (jump.cuts, jump.jumps) == ([], [9])
    assert find_shots(np.array([])).cuts == []


def test_change_is_measured_in_the_box():
    first = np.zeros((96, 96, 3), np.uint8)
    second = first.copy()
    second[:48, :48] = 255
    assert changed_fraction(first, second) == pytest.approx(0.25)
    assert changed_fraction(first, second, (0, 0, 48, 48)) == 1.0
    assert changed_fraction(first, second, (48, 48, 96, 96)) == 0.0


def test_split_takes():
    assert split_takes(0, 9, [4]) == [(0, 4), (4, 9)]
    assert split_takes(2, 9, []) == [(2, 9)]
    assert split_takes(5, 9, [3, 5, 7]) == [(5, 7), (7, 9)]


# Crop.


def test_crop_holds_the_head_in_all_frames():
    boxes = [np.array([900 + dx, 300, 1000 + dx, 440], np.float32) for dx in (0, 20, 40)]
    crop = crop_around(boxes, 1920, 1080, 256)
    assert crop.side == pytest.approx(1.9 * 140 + 40, abs=3)
    assert crop.x + crop.side / 2 == pytest.approx(970, abs=2)
    assert crop.y < 300 - 40 and crop.y + crop.side > 440 + 60


def test_crop_stays_in_the_picture_and_takes_all_of_it_when_close():
    corner = [np.array([0, 0, 100, 140], np.float32)]
    crop = crop_around(corner, 1920, 1080, 256)
    assert (crop.x, crop.y) == (0, 0)
    large = [np.array([100, 100, 350, 370], np.float32)]
    assert crop_around(large, 512, 512, 256) == SquareCrop(0, 0, 512)


def test_crop_does_not_enlarge_the_source():
    small = [np.array([200, 200, 260, 280], np.float32)]
    assert crop_around(small, 1920, 1080, 512).side == 512
    assert crop_around(small, 512, 512, 512) == SquareCrop(0, 0, 512)
    assert crop_around(small, 640, 480, 512).side == 480


def test_parse_crop():
    assert parse_crop("auto", 640, 480) is None
    assert parse_crop("none", 480, 480) == SquareCrop(0, 0, 480)
    assert parse_crop("10,20,300", 640, 480) == SquareCrop(10, 20, 300)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("none", "--crop none keeps all of it; expected a square"),
        ("middle", "expected 'auto', 'none' or three whole numbers"),
        ("10,20", "three whole numbers"),
        ("400,0,300", "does not lie in the picture of 640x480"),
    ],
)
def test_bad_crop(text: str, message: str):
    with pytest.raises(ValueError, match=message):
        parse_crop(text, 640, 480)


# What a user can get wrong.


def test_no_such_file(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match="No video at .*me.mp4"):
        extract(tmp_path / "me.mp4", tmp_path / "out")


@pytest.mark.parametrize("content", [b"", b"this is a text and no video\n" * 50])
def test_no_video_at_all(tmp_path: Path, content: bytes):
    path = tmp_path / "me.mp4"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="cannot be read as a video"):
        extract(path, tmp_path / "out")


def test_sound_only(tmp_path: Path):
    path = tmp_path / "me.wav"
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes(bytes(32_000))
    with pytest.raises(ValueError, match="no video stream .streams found: audio"):
        extract(path, tmp_path / "out")


def test_a_track_that_is_not_there(tmp_path: Path):
    path = write_video(tmp_path / "a.mkv", steady(20))
    with pytest.raises(ValueError, match="--audio-track is 4, .* 1 audio track"):
        run(path, tmp_path / "out", audio_track=4)
    assert run(path, tmp_path / "out", audio_track=1).num_frames == 20


def test_what_was_done_to_pictures_and_sound_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = write_video(tmp_path / "a.mkv", steady(20))
    assert run(path, tmp_path / "out").notices == []
    monkeypatch.setattr(ConstantFpsReader, "notices", lambda _: ["It was tone-mapped."])
    recording = Recording(np.zeros(12_800, np.float32), 2, ["Track 2 is used."])
    monkeypatch.setattr(extract_module, "read_recording", lambda *_, **__: recording)
    assert run(path, tmp_path / "out").notices == ["Track 2 is used.", "It was tone-mapped."]


def test_no_sound(tmp_path: Path):
    path = write_video(tmp_path / "a.mkv", steady(10), sound=False)
    with pytest.raises(ValueError, match="no audio stream"):
        run(path, tmp_path / "out")


def test_two_seconds_are_too_short(tmp_path: Path):
    path = write_video(tmp_path / "a.mkv", steady(50))
    with pytest.raises(ValueError, match=r"is 2\.0 s long; expected at least 3 s"):
        extract(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_truncated_mp4(tmp_path: Path):
    path = write_video(tmp_path / "a.mp4", steady(100), codec="mpeg4", pix_fmt="yuv420p")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ValueError, match="copy or export it again"):
        run(path, tmp_path / "out")


def test_truncated_where_the_index_comes_first(tmp_path: Path):
    """The end is missing but the file still declares its whole length: --end helps."""
    rng = np.random.default_rng(0)
    path = write_video(
        tmp_path / "a.mp4",
        steady(100),
        lambda _: rng.integers(0, 255, (96, 128, 3), np.uint8),
        "mpeg4",
        "yuv420p",
        options={"movflags": "faststart"},
    )
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ValueError, match=r"--end \d"):
        run(path, tmp_path / "out")
    assert run(path, tmp_path / "out", end=1.0, take="all").num_frames == 25


def test_time_stamps_that_jump(tmp_path: Path):
    path = write_video(tmp_path / "a.mkv", [0, 0.04, 90.0, 90.04], sound=False)
    with pytest.raises(ValueError, match=r"jump from 0\.0 s to 90\.0 s"):
        list(ConstantFpsReader(path).frames())


def test_start_behind_the_end(tmp_path: Path):
    path = write_video(tmp_path / "a.mkv", steady(30))
    with pytest.raises(ValueError, match="ends before --start 20"):
        run(path, tmp_path / "out", start=20.0)


def test_no_face(tmp_path: Path):
    path = write_video(tmp_path / "a.mkv", steady(10), lambda _: np.zeros((96, 128, 3), np.uint8))
    with pytest.raises(ValueError, match="No face was found"):
        run(path, tmp_path / "out")
    assert run(path, tmp_path / "out", crop="0,0,96").num_frames == 10


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"start": 5.0, "end": 2.0}, "leave nothing"),
        ({"start": -1.0}, "leave nothing"),
        ({"size": 8}, "expected at least 64"),
    ],
)
def test_bad_settings(settings: dict[str, object], message: str):
    with pytest.raises(ValueError, match=message):
        VideoConfig(**settings)  # pyright: ignore[reportArgumentType]
