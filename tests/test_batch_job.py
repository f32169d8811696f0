"""`batch` with stages that take no time: sharing, failures, resuming, places, locks, report."""

import json
import os
import signal
import subprocess
import sys
import time
from io import StringIO
from pathlib import Path
from typing import Any

import fsspec
import pytest
from batch_work import FAKES, MARKS, SLOW, counts
from rich.console import Console

from gaussiantalker_ns.batch.inputs import find_input, forget_listings
from gaussiantalker_ns.batch.job import BatchJob, BatchOptions
from gaussiantalker_ns.batch.stages import Settings
from gaussiantalker_ns.batch.status import Status, status_view
from gaussiantalker_ns.batch.store import FolderStore, UrlStore, open_store
from gaussiantalker_ns.folder_lock import InUseError
from gaussiantalker_ns.scheduler.processes import Processes
from gaussiantalker_ns.scheduler.run import ThisProcess
from gaussiantalker_ns.scripts import batch, cli

TESTS = Path(__file__).parent


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Inputs, a table of two videos and four recordings, and a place for marks."""
    monkeypatch.setenv(MARKS, str(tmp_path / "marks"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "marks").mkdir()
    for name in ("anna.mp4", "ben.mp4"):
        (tmp_path / name).write_text(name)
    lines = ["video,audio"]
    for k in range(4):
        (tmp_path / f"say{k}.wav").write_text(" ".join(f"word{k}{j}" for j in range(3 + 4 * k)))
        lines += [f"{name}.mp4,say{k}.wav" for name in ("anna", "ben")]
    (tmp_path / "jobs.csv").write_text("\n".join(lines) + "\n")
    forget_listings()
    return tmp_path


def job_of(folder: Path, output: str = "out", table: str = "jobs.csv", **options: Any) -> BatchJob:
    place = output if "://" in output else str(folder / output)
    address = table if "://" in table else str(folder / table)
    return BatchJob(address, place, FakeOptions(**options), functions=FAKES)


class FakeOptions(BatchOptions):
    """Parts of five frames, which are words here."""

    def settings(self) -> Settings:
        return Settings(1, 5, self.require_consent)


def videos(job: BatchJob) -> dict[str, str]:
    names = [name for name in job.store.names("videos") if name.endswith(".mp4")]
    return {name: job.store.read(f"videos/{name}").decode() for name in sorted(names)}


def plain_videos(folder: Path) -> dict[str, str]:
    """What the videos are when one process makes them one after another."""
    job = job_of(folder, "plain")
    assert job.run(Status(), ThisProcess()) == []
    for path in (folder / "marks").iterdir():
        path.unlink()
    return videos(job)


def test_rows_share_their_talkers_and_nothing_is_done_twice(folder: Path):
    job, status = job_of(folder), Status()
    assert job.run(status, ThisProcess()) == []
    made = videos(job)
    assert len(made) == 8 and status.rows_done == status.num_rows == 8
    assert len(made["anna-say3.mp4"].splitlines()) == 15, "three parts and no seam"
    lines = made["anna-say3.mp4"].splitlines()
    assert [line.split()[2] for line in lines] == [f"word3{j}" for j in range(15)]
    found = counts(folder / "marks")
    for stage in ("process", "train", "pack", "evaluate"):
        assert sum(name.startswith(f"{stage}-") for name in found) == 2
    begun_long = [n for n in found if n.startswith("drive-") and found[n] == (1, 1)]
    assert len(begun_long) == 8 and all(found[name] == (1, 1) for name in found)
    assert sum(name.startswith("part") for name in found) == 2 * (2 + 3 + 3)
    assert not (folder / "out" / "work").exists() or not any(
        path.is_file() for path in (folder / "out" / "work").rglob("*")
    )
    assert job_of(folder).run(Status(), ThisProcess()) == []
    assert counts(folder / "marks") == found


def test_processes_make_the_same_also_if_they_are_killed(folder: Path):
    (folder / "deadly.mp4").write_text("deadly.mp4")
    with (folder / "jobs.csv").open("a") as table:
        table.write("deadly.mp4,say1.wav\n")
    job = job_of(folder)
    assert job.run(Status(), Processes(2)) == []
    found = counts(folder / "marks")
    (deadly,) = [name for name in found if name.startswith("train-deadly")]
    assert found.pop(deadly) == (3, 1)
    assert all(count == (1, 1) for count in found.values())
    assert videos(job) == plain_videos(folder) | {"deadly-say1.mp4": videos(job)["deadly-say1.mp4"]}


def test_a_failed_row_is_shown_and_the_others_go_on(folder: Path):
    (folder / "no-face.mp4").write_text("x")
    with (folder / "jobs.csv").open("a") as table:
        table.write("no-face.mp4,say0.wav\ngone.mp4,say0.wav\n")
    job, status = job_of(folder), Status()
    bad = job.run(status, ThisProcess())
    assert [row.name for row in bad] == ["no-face-say0", "gone-say0"]
    assert bad[0].reason.startswith("No face was found in") and bad[1].number == 11
    assert len(videos(job)) == 8 and status.failed["process"] == 1 and status.bad_rows == 1
    page = (folder / "out" / "report.html").read_text()
    assert "8 of 10 videos" in page and 'href="videos/anna-say0.mp4"' in page
    assert "&lt;b&gt;expected&lt;/b&gt; one." in page and "<b>expected</b>" not in page
    (log,) = (folder / "out" / "logs").iterdir()
    assert "Traceback" in log.read_text() and f'href="logs/{log.name}"' in page
    assert "30.00" in page and ">12<" in page
    listed = json.loads((folder / "out" / "failures.json").read_text())
    assert [row["name"] for row in listed] == ["no-face-say0", "gone-say0"]
    # What has failed is tried again, and nothing else.
    before = counts(folder / "marks")
    assert len(job_of(folder).run(Status(), ThisProcess())) == 2
    after = counts(folder / "marks")
    assert {name for name in after if after[name] != before.get(name)} == {
        name for name in after if name.startswith("process-no-face")
    }


def test_names_and_texts_cannot_break_the_page(folder: Path):
    (folder / "jobs.csv").write_text(
        'name,video,text\n"a (1)",anna.mp4,"<script>alert(1)</script> & \'x\'"\n'
    )
    job = job_of(folder)
    assert job.run(Status(), ThisProcess()) == []
    page = (folder / "out" / "report.html").read_text()
    assert "<script" not in page and "&lt;script&gt;alert(1)" in page
    assert 'src="videos/a%20%281%29.jpg"' in page


def test_a_changed_row_replaces_its_video_when_it_is_asked_for(folder: Path):
    assert job_of(folder).run(Status(), ThisProcess()) == []
    time.sleep(0.01)
    (folder / "say0.wav").write_text("other words")
    bad = job_of(folder).run(Status(), ThisProcess())
    assert [row.name for row in bad] == ["anna-say0", "ben-say0"]
    job = job_of(folder, overwrite=True)
    assert job.run(Status(), ThisProcess()) == []
    assert len(videos(job)["anna-say0.mp4"].splitlines()) == 2
    assert len(job.store.names("records")) == 2 * 4 + 2 * 8
    assert job_of(folder).run(Status(), ThisProcess()) == []


@pytest.mark.parametrize("kind", ["memory", "file"])
def test_inputs_and_results_may_be_anywhere(folder: Path, kind: str):
    fs = fsspec.filesystem(kind)
    base = f"memory://jobs-{folder.name}" if kind == "memory" else f"file://{folder}/remote"
    fs.makedirs(base, exist_ok=True)
    for path in folder.iterdir():
        if path.is_file() and path.suffix != ".wav":
            fs.pipe(f"{base}/{path.name}", path.read_bytes())
    table = (folder / "jobs.csv").read_text().replace("say", f"{folder}/say")
    fs.pipe(f"{base}/jobs.csv", table.encode())
    job = job_of(folder, f"{base}/out", f"{base}/jobs.csv")
    assert isinstance(job.store, UrlStore)
    # Nobody but this process has this memory.
    workers = ThisProcess() if kind == "memory" else Processes(2)
    assert job.run(Status(), workers) == []
    found = {name: text.replace(f"{base}/", "") for name, text in videos(job).items()}
    expected = plain_videos(folder)
    assert found == {name: text.replace(f"{folder}/", "") for name, text in expected.items()}
    assert job.store.exists("report.html") and not job.store.exists("in-use.json")
    assert job_of(folder, f"{base}/out", f"{base}/jobs.csv").run(Status(), ThisProcess()) == []
    assert counts(folder / "marks") == {}


@pytest.mark.parametrize("address", ["folder", "memory"])
def test_the_second_batch_in_one_place_is_refused(folder: Path, address: str):
    output = "out" if address == "folder" else f"memory://locked-{folder.name}"
    first = job_of(folder, output)
    with first.store.lock(), pytest.raises(InUseError, match="is in use by"):
        job_of(folder, output).run(Status(), ThisProcess())
    assert first.run(Status(), ThisProcess()) == []


def test_a_store_is_whole_or_absent(folder: Path):
    stores = [open_store(str(folder / "store")), open_store(f"memory://store-{folder.name}")]
    assert isinstance(stores[0], FolderStore)
    for store in stores:
        assert store.names("a") == set() and not store.exists("a/b.txt")
        store.write("a/b.txt", b"one")
        store.write("a/b.txt", b"two")
        assert store.read("a/b.txt") == b"two" and store.names("a") == {"b.txt"}
        made = folder / "made"
        made.mkdir()
        (made / "x.txt").write_text("x")
        store.put(made, "runs/me")
        assert not made.exists()
        assert (store.get("runs/me", folder / "copy") / "x.txt").read_text() == "x"
        store.remove("runs/me")
        store.remove("a/b.txt")
        store.remove("a/never")
        assert store.names("a") == set() and store.names("runs") == set()
    with pytest.raises(ValueError, match="is a file; expected a folder"):
        open_store(str(folder / "jobs.csv"))


def test_inputs_change_with_their_content(folder: Path):
    fs = fsspec.filesystem("memory")
    url = f"memory://inputs-{folder.name}/a.wav"
    fs.pipe(url, b"one")
    first = find_input("audio", url)
    forget_listings()
    assert find_input("audio", url) == first and first.stem == "a"
    fs.pipe(url, b"other")
    forget_listings()
    assert find_input("audio", url).version != first.version
    with pytest.raises(FileNotFoundError, match="audio is memory://.*, which is not there"):
        find_input("audio", url.replace("a.wav", "b.wav"))


INTERRUPTED = """
import sys, signal
sys.path.insert(0, {tests!r})
from pathlib import Path
from test_batch_job import FakeOptions, FAKES, BatchJob, Status, Processes
if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)
    job = BatchJob({table!r}, {output!r}, FakeOptions(), functions=FAKES)
    job.run(Status(), Processes(2))
"""


def test_ctrl_c_leaves_what_can_be_gone_on_with(folder: Path):
    script = folder / "interrupted.py"
    arguments = {"table": str(folder / "jobs.csv"), "output": str(folder / "out")}
    script.write_text(INTERRUPTED.format(tests=str(TESTS), **arguments))
    environment = {**os.environ, SLOW: "600"}
    process = subprocess.Popen([sys.executable, str(script)], env=environment, cwd=TESTS.parent)
    deadline = time.monotonic() + 120
    while not any(name.startswith("train") for name in counts(folder / "marks")):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) != 0
    job = job_of(folder)
    assert job.run(Status(), ThisProcess()) == []
    found = counts(folder / "marks")
    assert all(ends == 1 for _, ends in found.values())
    assert all(count == (1, 1) for name, count in found.items() if name.startswith("process"))
    assert videos(job) == plain_videos(folder)


def test_options():
    with pytest.raises(ValueError, match="--threads is 0; expected at least 1"):
        BatchOptions(threads=0)
    with pytest.raises(ValueError, match="--part-seconds is 5.0"):
        BatchOptions(part_seconds=5.0)
    assert BatchOptions(part_seconds=59.0).settings() == Settings(1, 1000)


def test_the_live_table():
    status = Status(num_rows=30, bad_rows=1)
    status.total["train"] = 3
    status.before["process"] = 2
    status.begin("train", "train-anna", 1)
    status.begin("train", "train-ben", 2)
    status.end("train", "train-anna", "no [bold]memory")
    console = Console(width=100, record=True, file=StringIO())
    console.print(status_view(status))
    shown = console.export_text()
    assert "30 rows, 1 of them cannot be done" in shown and "train-ben (attempt 2)" in shown
    assert "train-anna: no [bold]memory" in shown
    (line,) = [line for line in shown.splitlines() if " train " in line]
    assert [cell.strip() for cell in line.strip("\u2502").split("\u2502")][1:] == list("--111")


def test_the_command_line(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys):
    table, output = str(folder / "jobs.csv"), str(folder / "out")
    assert cli.run_command("batch", [table, "--output-dir", output, "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert "anna-say0: process, train, pack, evaluate, drive, measure" in shown
    assert "ben-say1: drive, measure (the rest is shared with rows above)" in shown
    assert "8 rows, 0 finished. To do: 2 process, 2 train, 2 pack, 2 evaluate, 8 drive" in shown
    assert not (folder / "out").exists()
    monkeypatch.setattr(batch.Config, "job", lambda config: job_of(folder))
    monkeypatch.setattr(BatchOptions, "workers", lambda options: ThisProcess())
    assert cli.run_command("batch", [table, "--output-dir", output]) == 0
    assert "8 rows; 8 videos are there" in capsys.readouterr().out
    with (folder / "jobs.csv").open("a") as file:
        file.write("gone.mp4,say0.wav\n")
    assert cli.run_command("batch", [table, "--output-dir", output]) == 1
    shown = capsys.readouterr().out
    assert "line 10, gone-say0: video is" in shown.replace("\n", " ")
    assert cli.run_command("batch", [str(folder / "no.csv"), "--output-dir", output]) == 1
