"""Steps that can be killed at any time."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from gaussiantalker_ns.dataparsers.dataset_layout import DatasetLayout
from gaussiantalker_ns.files import ordered_map
from gaussiantalker_ns.preprocess.step_runner import (
    WORK_FOLDER,
    Facts,
    Step,
    StepRunner,
    read_talker,
    write_talker,
)


class Recipe:
    """Three steps, a folder, a file made of it and a file beside; counts what runs."""

    def __init__(self, root: Path, first: int = 1, second: int = 2) -> None:
        self.ran: list[str] = []
        self.fail_in = ""
        self.runner = StepRunner(
            root,
            [
                Step("first", ("numbers",), (), {"value": first}, self.make_first(first)),
                Step("second", ("sum.txt",), ("first",), {"plus": second}, self.make_sum(second)),
                Step("aside", ("aside.txt",), (), {}, self.make_aside),
            ],
        )

    def note(self, name: str) -> None:
        self.ran.append(name)
        if self.fail_in == name:
            raise RuntimeError("killed")

    def make_first(self, value: int):
        def run(_: DatasetLayout, output: DatasetLayout) -> Facts:
            folder = output.root / "numbers"
            folder.mkdir()
            for index in range(3):
                (folder / f"{index}.txt").write_text(str(value))
            self.note("first")
            return {"count": 3}

        return run

    def make_sum(self, plus: int):
        def run(dataset: DatasetLayout, output: DatasetLayout) -> Facts:
            files = (dataset.root / "numbers").iterdir()
            total = sum(int(path.read_text()) for path in files) + plus
            (output.root / "sum.txt").write_text(str(total))
            self.note("second")
            return {"sum": total}

        return run

    def make_aside(self, _: DatasetLayout, output: DatasetLayout) -> Facts:
        (output.root / "aside.txt").write_text("beside")
        self.note("aside")
        return {}

    def run(self, overwrite: bool = False) -> list[str]:
        skipped: list[str] = []
        self.runner.run_all(overwrite, skipped.append)
        return skipped


def test_everything_runs_once(tmp_path: Path):
    recipe = Recipe(tmp_path)
    assert recipe.run() == []
    assert recipe.ran == ["first", "second", "aside"]
    assert (tmp_path / "sum.txt").read_text() == "5"
    assert not (tmp_path / WORK_FOLDER).exists()
    talker = read_talker(DatasetLayout(tmp_path))
    assert (talker["sum"], talker["count"]) == (5, 3)
    again = Recipe(tmp_path)
    assert again.run() == ["first", "second", "aside"]
    assert again.ran == []


def test_other_settings_redo_the_step_and_what_reads_from_it(tmp_path: Path):
    Recipe(tmp_path).run()
    changed = Recipe(tmp_path, first=10)
    assert changed.run() == ["aside"]
    assert changed.ran == ["first", "second"]
    assert (tmp_path / "sum.txt").read_text() == "32"


def test_a_missing_output_is_made_again(tmp_path: Path):
    Recipe(tmp_path).run()
    (tmp_path / "sum.txt").unlink()
    again = Recipe(tmp_path)
    again.run()
    assert again.ran == ["second"]


@pytest.mark.parametrize("step", ["first", "second", "aside"])
def test_an_interrupted_step_is_done_again(tmp_path: Path, step: str):
    broken = Recipe(tmp_path)
    broken.fail_in = step
    with pytest.raises(RuntimeError, match="killed"):
        broken.run()
    again = Recipe(tmp_path)
    again.run()
    assert again.ran[0] == step
    assert (tmp_path / "sum.txt").read_text() == "5"


def test_overwrite_runs_everything(tmp_path: Path):
    Recipe(tmp_path).run()
    again = Recipe(tmp_path)
    assert again.run(overwrite=True) == []
    assert again.ran == ["first", "second", "aside"]


def test_one_step_alone_makes_later_ones_stale(tmp_path: Path):
    Recipe(tmp_path).run()
    alone = Recipe(tmp_path, first=4)
    alone.runner.run_only("first")
    assert alone.ran == ["first"]
    after = Recipe(tmp_path, first=4)
    assert after.run() == ["first", "aside"]
    assert (tmp_path / "sum.txt").read_text() == "14"


def test_one_step_alone_needs_what_is_before(tmp_path: Path):
    with pytest.raises(ValueError, match="--only second needs the finished step 'first'"):
        Recipe(tmp_path).runner.run_only("second")


def test_damaged_description(tmp_path: Path):
    dataset = DatasetLayout(tmp_path)
    dataset.talker.write_text("{")
    with pytest.raises(ValueError, match="is damaged"):
        read_talker(dataset)
    write_talker(dataset, {"schema": 99})
    with pytest.raises(ValueError, match="schema 99"):
        read_talker(dataset)


KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_step_runner import Recipe
count = 0
replace = os.replace
def killing_replace(source, target):
    global count
    if count == {stop}:
        os.kill(os.getpid(), signal.SIGKILL)
    count += 1
    replace(source, target)
os.replace = killing_replace
Recipe(Path({root!r}), first=3).run()
"""


@pytest.mark.parametrize("stop", range(8))
def test_sigkill_while_outputs_are_moved(tmp_path: Path, stop: int):
    """The process is killed before its n-th move of a file; what it leaves is repaired."""
    Recipe(tmp_path).run()
    script = KILLED.format(tests=str(Path(__file__).parent), root=str(tmp_path), stop=stop)
    finished = subprocess.run([sys.executable, "-c", script], check=False, capture_output=True)
    assert finished.returncode in (-signal.SIGKILL, 0), finished.stderr.decode()
    Recipe(tmp_path, first=3).run()
    assert (tmp_path / "sum.txt").read_text() == "11"
    assert sorted(path.name for path in (tmp_path / "numbers").iterdir()) == [
        "0.txt",
        "1.txt",
        "2.txt",
    ]
    assert json.loads((tmp_path / "talker.json").read_text())["sum"] == 11
    assert not os.path.exists(tmp_path / WORK_FOLDER)


def test_ordered_map_keeps_order_and_few_results():
    started: list[int] = []

    def square(value: int) -> int:
        started.append(value)
        return value * value

    results = ordered_map(square, range(100), 2)
    assert next(results) == 0
    assert len(started) < 12
    assert [0, *results] == [value * value for value in range(100)]


def test_ordered_map_passes_errors_on():
    with pytest.raises(ZeroDivisionError):
        list(ordered_map(lambda value: 1 // value, [1, 0], 2))
