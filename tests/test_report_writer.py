"""Tables, pictures, alignment files and the page of an evaluation, on small made-up results."""

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from gaussiantalker_ns.evaluation.evaluator import UNDEFINED, Evaluation
from gaussiantalker_ns.evaluation.options import other_folder
from gaussiantalker_ns.evaluation.report.figures import (
    MouthStrip,
    WorstFrames,
    caption,
    difference,
    fidelity_plot,
    lips_plot,
    occupied,
    plane_colors,
    side_by_side,
    spread_frames,
    square_crop,
    triplane_row,
)
from gaussiantalker_ns.evaluation.report.page import Images, WorstFrame, page
from gaussiantalker_ns.evaluation.report.phoneme_alignment import (
    Spoken,
    frames_of_speech,
    read_alignment,
)
from gaussiantalker_ns.evaluation.report.tables import (
    OFFLINE_COLUMNS,
    PAPER_COLUMNS,
    as_json,
    csv_of_frames,
    csv_of_values,
    markdown,
    reasons,
    rich_table,
)
from gaussiantalker_ns.evaluation.report.writer import (
    PICTURE_FILES,
    PairRecorder,
    Videos,
    remove_images,
)
from gaussiantalker_ns.metrics.face_motion import FaceTrack
from gaussiantalker_ns.metrics.frame_pairs import FramePair, from_pixels, video_frames
from gaussiantalker_ns.metrics.registry import ALL, MEASURES, shown


@pytest.fixture
def result() -> Evaluation:
    found = Evaluation(
        not_measured={"lpips": "needs A", "face_lpips": "needs A", "sync": "needs B"}
    )
    found.add_frame(7, {"face_psnr": 30.0, "psnr": 28.0})
    found.add_frame(8, {"face_psnr": 32.0, "psnr": 29.0, "face_ssim": 0.9})
    found.add({"lips_open_correlation": float("nan"), "jitter_px": 0.5})
    found.ground_truth["jitter_px"] = float("nan")
    found.rendered = found.real = FaceTrack([7, 8], [None, None])
    found.finish()
    return found


def test_figures_are_means_over_the_frames_that_have_them(result):
    assert result.metrics == {"face_psnr": 31, "psnr": 28.5, "face_ssim": 0.9, "jitter_px": 0.5}
    assert list(result.metrics) == [key for key in MEASURES if key in result.metrics]
    assert result.not_measured["lips_open_correlation"] == UNDEFINED
    assert result.ground_truth == {"face_ssim": 1.0}


def test_every_key_is_there_once_and_columns_exist():
    assert len({measure.key for measure in ALL}) == len(ALL)
    assert {key for _, key in PAPER_COLUMNS + OFFLINE_COLUMNS} <= set(MEASURES)
    assert shown("psnr", 31.0718) == "31.072" and shown("sync", None) == "-"


def test_json_has_no_numbers_that_json_lacks(result):
    text = json.dumps(as_json(result, {"method": "m"}), allow_nan=False)
    assert json.loads(text)["metrics"]["face_psnr"] == 31


def test_csv_files(result):
    rows = list(csv.DictReader(io.StringIO(csv_of_values(result))))
    values = {row["key"]: row for row in rows}
    assert float(values["face_psnr"]["value"]) == 31 and values["sync"]["value"] == ""
    assert values["sync"]["not_measured"] == "needs B"
    frames = list(csv.DictReader(io.StringIO(csv_of_frames(result))))
    assert [row["frame"] for row in frames] == ["7", "8"]
    assert frames[0]["face_ssim"] == "" and frames[1]["face_ssim"] == "0.9"


def test_rows_for_papers(result):
    above, _, *lines = markdown(result, "a|b", "8 train\nframes").splitlines()
    assert above == "a/b: 8 train frames."
    assert lines[2].startswith("| real video | - | 1.000 | - |")
    assert lines[3].startswith("| a/b | 31.000 | 0.900 | - |")
    for block in (lines[:4], lines[5:9]):
        assert len({line.count("|") for line in block}) == 1


def test_names_from_outside_cannot_break_out_of_a_markdown_cell(result):
    evil = "a|b\n| c | <img src=x onerror=alert(1)> &amp; `d`"
    lines = markdown(result, evil, evil).splitlines()
    assert len(lines) == len(markdown(result, "plain", "plain").splitlines())
    above, row = lines[0], lines[5]
    assert row.count("|") == lines[4].count("|") and "|" not in above
    for line in (above, row):
        assert "<" not in line and "&amp;amp;" in line


def test_pictures_of_an_earlier_evaluation_go(tmp_path):
    """What a user put beside them stays, and so does all that is no evaluation of this command."""
    table, own = tmp_path / "evaluation.json", tmp_path / "notes.png"
    images = [tmp_path / name for name in PICTURE_FILES]

    def left_by(earlier: str | None, measured: list[Path]) -> set[Path]:
        for path in (*images, own):
            path.touch()
        table.unlink(missing_ok=True)
        if earlier is not None:
            table.write_text(earlier)
        remove_images(tmp_path, measured)
        assert own.exists()
        return {path for path in images if path.exists()}

    videos = [tmp_path / "render.mp4", tmp_path / "truth.mp4"]
    assert left_by('{"split": "test"}', []) == set()
    assert left_by('{"split": "test"}', videos) == set(videos)
    assert left_by('{"render": "a.mp4", "truth": "truth.mp4"}', []) == set(videos)
    assert left_by(None, []) == left_by("{", []) == set(images)


def test_recordings_of_one_name_have_folders_of_their_own(tmp_path):
    first, second = "1" * 64, "2" * 64
    audio = Path("a/speech.wav")
    assert other_folder(tmp_path, audio, first).name == "evaluation-speech"
    results = tmp_path / "evaluation-speech" / "evaluation.json"
    results.parent.mkdir()
    results.write_text(json.dumps({"driven_by": "speech.wav", "audio_sha256": first}))
    assert other_folder(tmp_path, audio, first).name == "evaluation-speech"
    assert other_folder(tmp_path, Path("speech.mp3"), second).name == "evaluation-speech-22222222"
    for unknown in ('{"driven_by": "speech.wav"}', "{", "[]"):
        results.write_text(unknown)
        assert other_folder(tmp_path, audio, first).name == "evaluation-speech-11111111"
    assert other_folder(tmp_path, Path("train.wav"), first).name == "evaluation-train-11111111"


def test_reasons_are_said_once(result):
    said = reasons(result)
    assert "LPIPS, face box; LPIPS, whole frame: not measured: needs A" in said
    assert rich_table(result, "[red]title").row_count == 4 + 4


def test_worst_frames_are_kept_in_order():
    worst = WorstFrames(count=2)
    picture = torch.zeros(4, 4, 3)
    for frame, score in ((0, 30.0), (1, 20.0), (2, 25.0), (3, 40.0)):
        worst.watch(FramePair(frame, picture, picture), {"face_psnr": score, "psnr": 0.0})
    assert [(seen.frame, seen.psnr) for seen in worst.found] == [(1, 20.0), (2, 25.0)]


def test_videos_keep_time_over_a_frame_that_is_not_measured(tmp_path):
    """Frame 7 shows no face: in the videos of frames 5, 6, 8 its place shows frame 6 again."""
    with Videos(tmp_path) as videos:
        recorder = PairRecorder(videos, MouthStrip({}))
        for frame in (5, 6, 8):
            picture = from_pixels(np.full((32, 32, 3), 20 * frame, np.uint8))
            recorder.watch(FramePair(frame, picture, picture), {"psnr": float(frame)})
        paths = videos.finish(None)
    for name in ("comparison", "render", "truth"):
        shown = [int(image[:, :32].mean().round()) for image in video_frames(paths[name])]
        assert shown == pytest.approx([100, 120, 120, 160], abs=2), name
    worst = {frame.caption.split(",")[0]: frame.seconds for frame in recorder.worst_frames()}
    assert worst == pytest.approx({"Frame 5": 0.02, "Frame 6": 0.06, "Frame 8": 0.14})


def test_difference_and_side_by_side():
    dark, light = np.full((7, 9, 3), 100, np.uint8), np.full((7, 9, 3), 110, np.uint8)
    assert (difference(light, dark) == 148).all() and (difference(dark, dark) == 128).all()
    row = side_by_side(light, dark, 7)
    assert row.shape == (6, 24, 3)
    assert (row[:, :8] == 100).all() and (row[:, 8:16] == 110).all() and (row[:, 16:] == 148).all()


def test_square_crops_repeat_the_border():
    image = np.zeros((40, 40, 3), np.uint8)
    image[10:20, 10:20] = 200
    enlarged = square_crop(image, (10, 10, 20, 20), 0.0, 20)
    assert enlarged.shape == (20, 20, 3) and (enlarged[5:-5, 5:-5] == 200).all()
    outside = square_crop(np.full((40, 40, 3), 50, np.uint8), (30, 30, 50, 50), 0.5, 16)
    assert (outside == 50).all()


def test_mouth_strip_takes_the_labelled_frames():
    strip = MouthStrip({3: "up", 5: "so"})
    assert strip.picture() is None
    for frame in range(6):
        real = from_pixels(np.full((32, 32, 3), 10 * frame, np.uint8))
        boxes = {} if frame == 5 else {"lips": (10, 10, 20, 20)}
        strip.watch(FramePair(frame, real, real, boxes), {})
    picture = strip.picture()
    assert picture is not None and picture.shape[1] == 128 and (picture[:256] == 30).all()
    assert caption("w\u00f6rd that is far too long for its place", 60).min() < 200


def test_spread_frames():
    assert spread_frames([3, 4, 5, 6, 7], 3) == [3, 5, 7]
    assert spread_frames([3, 4], 5) == [3, 4]


def test_planes_are_shown_as_one_sees_the_head():
    unit = torch.tensor([[0.9, 0.5, 0.1]])
    cells = occupied(unit, 11)
    # x = .9, y = .5, z = .1; planes xy, yz, zx with the first of the two along the columns.
    for plane, (row, column) in zip(cells, ((5, 9), (1, 5), (9, 1))):
        assert plane[row, column] and plane.sum() == 9
    planes = torch.rand(3, 11, 11, 4)
    colors = plane_colors(planes[0], cells[0])
    assert (colors[~cells[0].numpy()] == 255).all() and (colors[cells[0].numpy()] < 255).any()
    row = triplane_row(np.zeros((11, 11, 3), np.uint8), planes, unit, 44)
    assert row.shape == (44 + 26, 4 * 44, 3)
    used = (row[:44] < 200).any(axis=-1)
    centres = [np.argwhere(used[:, 44 * k : 44 * (k + 1)]).mean(axis=0) / 44 for k in (1, 2, 3)]
    # In front: right, half way up. From above: right and, as z is small, far from the nose: up.
    # From aside: left, as the nose is on the right.
    assert centres[0] == pytest.approx([0.5, 0.86], abs=0.08)
    assert centres[1] == pytest.approx([0.14, 0.86], abs=0.08)
    assert centres[2] == pytest.approx([0.5, 0.14], abs=0.08)


def test_alignment_files(tmp_path):
    lab, table = tmp_path / "words.txt", tmp_path / "words.csv"
    lab.write_text("0.0\t0.4\tsil\n0.4\t0.6\tup\n0.6\t1.0\tnot now\n")
    table.write_text("Begin,End,Label,Type,Speaker\n0.4,0.6,up,words,a\n0.6,1.0,not now,words,a\n")
    expected = [Spoken(0.4, 0.6, "up"), Spoken(0.6, 1.0, "not now")]
    assert read_alignment(lab) == expected and read_alignment(table) == expected
    assert frames_of_speech(expected, range(25), 5) == {12: "up", 20: "not now"}
    assert frames_of_speech(expected, range(15), 5) == {12: "up"}
    assert frames_of_speech(expected, range(25), 1) == {12: "up"}
    lab.write_text("zero 0.4 up\n")
    with pytest.raises(ValueError, match="Entry 1 of"):
        read_alignment(lab)
    with pytest.raises(FileNotFoundError, match="No alignment file"):
        read_alignment(tmp_path / "none.txt")


def test_plots_are_pictures(result):
    for uri in (fidelity_plot(result), lips_plot(result)):
        assert uri.startswith("data:image/png;base64,")


def test_the_page_escapes_what_is_not_ours(result):
    evil = "</script><script>alert(1)</script>"
    images = Images(
        video="data:video/mp4;base64,AA",
        worst=[WorstFrame(f'"{evil}', "data:,", 0.02)],
        paper=[(evil, evil, "data:,")],
    )
    result.not_measured["lpips"] = evil
    content = page(evil, evil, result, {"driven_by": evil}, images)
    assert "alert(1)</script>" not in content and content.count("<script>") == 1
    assert '"&quot;' in content
