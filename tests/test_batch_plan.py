"""The plan of `batch`: what rows share, what is missing, and ten thousand rows of it."""

import re
import tracemalloc
from pathlib import Path

import pytest

from gaussiantalker_ns.batch.inputs import address_of, base_of
from gaussiantalker_ns.batch.plan import (
    DriveWork,
    EvaluateWork,
    PackWork,
    Planned,
    Planner,
    ProcessWork,
    TrainWork,
)
from gaussiantalker_ns.batch.table import BadRow, read_rows


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("anna.mp4", "ben.mp4", "a.wav", "b.wav", "her.talker", "blinks.txt"):
        (tmp_path / name).write_text(name)
    (tmp_path / "run").mkdir()
    return tmp_path


def planned(folder: Path, text: str, finished: set[str] | None = None, **options):
    (folder / "jobs.csv").write_text(text)
    planner = Planner(str(folder), finished or set(), **options)
    return planner, list(planner.plan(read_rows(folder / "jobs.csv")))


def keys(row: Planned | BadRow) -> dict[type, str]:
    assert isinstance(row, Planned)
    return {type(work): work.key for work in row.works}


def test_rows_share_what_is_equal(folder: Path):
    _, (one, two, other_steps, licence, other_video) = planned(
        folder,
        "name,video,audio,train.steps,pack.licence\n"
        "one,anna.mp4,a.wav,,\n"
        "two,./anna.mp4,b.wav,,\n"
        "three,anna.mp4,a.wav,9000,\n"
        "four,anna.mp4,a.wav,,CC0\n"
        "five,ben.mp4,a.wav,,\n",
    )
    shared = (ProcessWork, TrainWork, PackWork, EvaluateWork)
    assert [keys(one)[kind] for kind in shared] == [keys(two)[kind] for kind in shared]
    assert keys(one)[DriveWork] != keys(two)[DriveWork]
    assert (
        keys(one)[ProcessWork] == keys(other_steps)[ProcessWork] != keys(other_video)[ProcessWork]
    )
    assert keys(one)[TrainWork] != keys(other_steps)[TrainWork]
    assert keys(one)[TrainWork] == keys(licence)[TrainWork]
    assert keys(one)[PackWork] != keys(licence)[PackWork]
    assert keys(one)[ProcessWork].startswith("anna-")


def test_only_what_is_missing_is_done(folder: Path):
    text = "video,audio\nanna.mp4,a.wav\n"
    planner, (row,) = planned(folder, text)
    stages = [work.stage for work in planner.missing(row)]
    assert stages == ["process", "train", "pack", "evaluate", "drive", "measure"]
    records = {work.stage: work.record for work in row.works}
    for finished, missing in (
        ({"process"}, ["train", "pack", "evaluate", "drive", "measure"]),
        ({"process", "train", "pack"}, ["evaluate", "drive", "measure"]),
        ({"pack", "drive", "measure", "evaluate"}, []),
        ({"drive", "measure"}, ["process", "train", "evaluate"]),
        ({"pack", "evaluate", "drive"}, ["measure"]),
    ):
        planner, (row,) = planned(folder, text, {records[stage] for stage in finished})
        assert [work.stage for work in planner.missing(row)] == missing, finished
    planner, (row,) = planned(folder, text, evaluate=False)
    assert [work.stage for work in planner.missing(row)] == ["process", "train", "pack", "drive"]


def test_a_changed_file_or_option_is_other_work(folder: Path):
    text = "name,talker,audio,drive.blink\nx,her.talker,a.wav,blinks.txt\n"
    _, (before,) = planned(folder, text)
    for name in ("a.wav", "her.talker", "blinks.txt"):
        (folder / name).write_text("something else")
        _, (after,) = planned(folder, text)
        assert keys(after) != keys(before), name
        before = after
    assert before.drive.options.blink == str(folder / "blinks.txt")


def test_a_video_that_was_made_otherwise_is_kept(folder: Path):
    text = "name,talker,audio\nx.y,her.talker,{}\n"
    _, (made,) = planned(folder, text.format("a.wav"))
    records = {work.record for work in made.works}
    _, (refused,) = planned(folder, text.format("b.wav"), records)
    assert isinstance(refused, BadRow) and "made of other files or with" in refused.reason
    planner, (again,) = planned(folder, text.format("b.wav"), records, overwrite=True)
    assert [work.stage for work in planner.missing(again)] == ["drive", "measure"]
    assert set(planner.older_records(again.drive)) == records


def test_rows_that_cannot_be_planned(folder: Path):
    _, found = planned(
        folder,
        "name,video,talker,audio,consent,drive.pose,drive.size\n"
        "a,gone.mp4,,a.wav,yes,,\n"
        "b,anna.mp4,,gone.wav,yes,,\n"
        "c,,gone.talker,a.wav,,,\n"
        "d,,run,a.wav,,,\n"
        "e,,anna.mp4,a.wav,,,\n"
        "f,anna.mp4,,a.wav,,,\n"
        "g,anna.mp4,,a.wav,yes,gone.npy,\n"
        "h,anna.mp4,,a.wav,yes,,333\n"
        "i,nope://x/me.mp4,,a.wav,yes,,\n"
        "fine,anna.mp4,,a.wav,yes,,\n"
        "FINE,anna.mp4,,b.wav,yes,,\n",
        require_consent=True,
    )
    *bad, fine, twice = found
    reasons = [row.reason for row in [*bad, twice] if isinstance(row, BadRow)]
    for reason, message in zip(
        reasons,
        [
            "video is .*gone.mp4, which is not there",
            "audio is .*gone.wav, which is not there",
            "talker is .*gone.talker, which is not there",
            "run is a folder; .* `gaussiantalker pack`",
            "anna.mp4; expected a .talker file",
            "no consent of the person in the video",
            "drive.pose is .*gone.npy, which is not there",
            "--size is 333; expected an even number",
            "nope://x/me.mp4 cannot be reached",
            "has the name FINE of line 11",
        ],
        strict=True,
    ):
        assert re.search(message, reason), (message, reason)
    assert isinstance(fine, Planned)


def test_addresses():
    assert address_of("a/../me.mp4", "/jobs") == "/jobs/me.mp4"
    assert address_of("/data/me.mp4", "/jobs") == "/data/me.mp4"
    assert address_of("me.mp4", "s3://bucket/jobs") == "s3://bucket/jobs/me.mp4"
    assert address_of("s3://other/me.mp4", "/jobs") == "s3://other/me.mp4"
    assert base_of("s3://bucket/jobs/table.csv") == "s3://bucket/jobs"
    assert base_of("/jobs/table.csv") == "/jobs"


def write_many(folder: Path, count: int) -> Path:
    table = folder / f"{count}.csv"
    lines = [
        f"row {k},{'anna' if k % 2 else 'ben'}.mp4,{'ab'[k % 2]}.wav,{k}" for k in range(count)
    ]
    table.write_text("name,video,audio,drive.seed\n" + "\n".join(lines) + "\n")
    return table


def plan_many(folder: Path, count: int, finished: set[str]) -> int:
    """Plan a table and return the number of pieces of work to do."""
    planner, num_missing = Planner(str(folder), finished), 0
    for row in planner.plan(read_rows(write_many(folder, count))):
        assert isinstance(row, Planned)
        num_missing += len(planner.missing(row))
    return num_missing


def peak_bytes(folder: Path, count: int) -> int:
    """Memory that planning takes."""
    tracemalloc.start()
    plan_many(folder, count, set())
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak


def test_what_is_kept_of_a_row_is_small(folder: Path):
    """Its name, its line, and the line's text."""
    plan_many(folder, 10, set())  # Loads what is loaded once.
    assert (peak_bytes(folder, 1000) - peak_bytes(folder, 200)) / 800 < 2000


def test_ten_thousand_rows_are_planned_and_resumed(folder: Path):
    assert plan_many(folder, 10_000, set()) == 10_000 * 6
    rows = Planner(str(folder), set()).plan(read_rows(folder / "10000.csv"))
    records = {work.record for row in rows if isinstance(row, Planned) for work in row.works}
    assert len(records) == 2 * 4 + 10_000 * 2
    assert plan_many(folder, 10_000, records) == 0
    half = set(sorted(records)[: len(records) // 2])
    assert 0 < plan_many(folder, 10_000, half) < 10_000 * 6
