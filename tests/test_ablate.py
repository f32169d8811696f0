"""`gaussiantalker ablate` on the synthetic head: trains, resumes, fails in the open, farms out."""

import importlib
import json
import os
import re
import signal
from pathlib import Path
from typing import Any, cast
from urllib.error import URLError

import pytest
import torch
from synthetic_talker import write_synthetic_talker
from talker_runs import small_config
from torchvision.models import alexnet

from gaussiantalker_ns.ablation import runner
from gaussiantalker_ns.ablation.runner import Result
from gaussiantalker_ns.ablation.study import PRESETS, REFERENCE, plan
from gaussiantalker_ns.folder_lock import InUseError, OwnerLock
from gaussiantalker_ns.scheduler.processes import Processes
from gaussiantalker_ns.scheduler.ray_cluster import LOCAL_RAY, RayWorkers
from gaussiantalker_ns.scheduler.tasks import Failure
from gaussiantalker_ns.scripts import ablate, cli

SAME = 1e-6
"""Tolerance of figures of two equal runs: the rasterizer's sums do not depend on chance."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_synthetic_talker(tmp_path_factory.mktemp("talker") / "data", num_frames=22)


@pytest.fixture
def small_preset(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config: Any = small_config(data, tmp_path, 2, 6)
    monkeypatch.setitem(PRESETS, "cpu", config)


def options(data_dir: Path, tmp_path: Path, **changes: Any) -> ablate.Config:
    settings: dict[str, Any] = {
        "data": data_dir,
        "table": ("5", "6"),
        "rows": ("reference", "without-eye", "single-stage"),
        "seeds": 1,
        "output_dir": tmp_path / "study",
    }
    return ablate.Config(**{**settings, **changes})


@pytest.fixture(autouse=True)
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of weights, whatever this machine has."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    return tmp_path / "hub" / "checkpoints"


@pytest.mark.usefixtures("small_preset")
def test_trains_writes_tables_and_resumes(data, tmp_path, monkeypatch, capsys):
    config = options(data, tmp_path)
    assert ablate.run(config) == 0
    folder = config.output_dir
    printed = capsys.readouterr().out
    assert "3 runs, 0 of them finished already" in printed
    assert "| w/o eye feature |" in printed and "## Table 6: stage-wise training" in printed
    written = {path.name for path in folder.iterdir()}
    assert written == {
        "ablation.md",
        "ablation.json",
        "ablation.csv",
        "ablation.png",
        "stages.png",
        "runs",
    }
    run_folder = folder / "runs" / "single-stage" / "gaussiantalker-cpu" / "seed-42"
    stored = json.loads((run_folder / "result.json").read_text())
    assert [point["step"] for point in stored["curve"]] == stored["identity"]["measured_at"]
    assert stored["curve"][-1]["metrics"]["face_psnr"] > 10
    assert {"face_lpips", "face_fid", "lmd", "sync"} <= stored["curve"][-1]["not_measured"].keys()
    assert "face LPIPS: not measured: needs torchvision's AlexNet weights" in printed
    assert list(run_folder.rglob("step-000000005.ckpt")) and (run_folder / "config.yml").is_file()
    assert "Training Finished" in (run_folder / "log.txt").read_text()

    def refuse(run: Any) -> Any:
        raise AssertionError(f"{run.name} was finished and is trained again")

    monkeypatch.setattr(runner, "perform", refuse)
    assert ablate.run(options(data, tmp_path, table=("6",), rows=())) == 0
    assert "2 runs, 2 of them finished already" in capsys.readouterr().out
    # Another number of steps must not be mixed in with what is there.
    with pytest.raises(ValueError, match="with num_steps 6.* Choose another --output-dir"):
        ablate.run(options(data, tmp_path, num_steps=7))
    # An interrupted run has a folder without result.json, and is trained again.
    (run_folder / "result.json").unlink()
    assert ablate.run(config) == 1
    assert "AssertionError: single-stage was finished" in capsys.readouterr().out
    assert ablate.run(options(data, tmp_path, overwrite=True)) == 1
    assert "AssertionError: reference was finished" in capsys.readouterr().out
    assert list(tmp_path.rglob("result.json")), "results go when their rows are trained, no sooner"


@pytest.mark.usefixtures("small_preset")
def test_equal_seeds_give_equal_runs_and_others_do_not(data, tmp_path):
    study = options(data, tmp_path).study()
    first, _, other, _ = plan(study, ["6"], (), 2, 1)
    assert (first.name, first.seed, other.name, other.seed) == (REFERENCE, 42, REFERENCE, 43)
    outcomes = [runner.perform(run) for run in (first, first, other)]
    values = []
    for outcome in outcomes:
        assert isinstance(outcome, Result)
        values.append(outcome.final.metrics["face_psnr"])
    assert values[0] == pytest.approx(values[1], abs=SAME)
    assert abs(values[0] - values[2]) > 1e-3


@pytest.mark.usefixtures("small_preset")
def test_a_failed_row_is_shown_and_the_others_go_on(data, tmp_path, monkeypatch, capsys):
    original = runner.train

    def train(run: Any) -> Any:
        if run.name == "without-eye":
            raise ValueError("no eyes | here\nsecond line")
        return original(run)

    monkeypatch.setattr(runner, "train", train)
    config = options(data, tmp_path, table=("5",), rows=("without-eye", "without-null"))
    assert ablate.run(config) == 1
    printed = capsys.readouterr().out
    assert "without-eye, seed 42, failed: ValueError: no eyes | here" in printed
    assert "without-null, seed 42, finished" in printed
    assert "1 of 2 runs failed: without-eye (seed 42)" in printed.replace("\n", " ")
    assert "**failed**" in (config.output_dir / "ablation.md").read_text()
    folder = config.output_dir / "runs" / "without-eye" / "gaussiantalker-cpu" / "seed-42"
    assert "second line" in (folder / "log.txt").read_text()
    assert not (folder / "result.json").exists()


@pytest.mark.usefixtures("small_preset")
def test_lpips_is_measured_where_its_weights_are_and_changes_no_training(data, tmp_path, hub):
    study = options(data, tmp_path).study()
    run = plan(study, ["6"], (), 1, 1)[0]
    assert len(run.measured_at) > 1, "measured on the way, too"
    without = runner.perform(run)
    hub.mkdir(parents=True)
    torch.save(alexnet(weights=None).state_dict(), hub / "alexnet-owt-7be5be79.pth")
    found = runner.perform(run)
    assert isinstance(found, Result) and isinstance(without, Result)
    assert found.final.metrics["lpips"] > 0 and "lpips" not in without.final.metrics
    assert found.final.metrics["face_psnr"] == without.final.metrics["face_psnr"]


@pytest.mark.usefixtures("small_preset")
def test_the_perceptual_term_needs_its_weights_before_the_first_row(
    data, tmp_path, monkeypatch, capsys
):
    def refuse(url: str, *arguments: Any, **options: Any) -> None:
        raise URLError("no route to host")

    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    cast(Any, PRESETS["cpu"]).pipeline.model.objective.perceptual = 0.01
    asked = {"table": ("3",), "rows": ("reference",), "num_steps": 3}
    with pytest.raises(FileNotFoundError, match=r"(?s)no route.*, or add --perceptual-network ms"):
        ablate.run(options(data, tmp_path, **asked))
    assert not list(tmp_path.rglob("result.json"))
    assert ablate.run(options(data, tmp_path, **asked, perceptual_network="ms-ssim")) == 0
    assert "| random init. (reference) |" in capsys.readouterr().out


@pytest.mark.usefixtures("small_preset")
def test_table_3_can_be_trained(data, tmp_path, capsys):
    config = options(data, tmp_path, table=("3",), rows=(), num_steps=3, canonical_steps=2)
    assert ablate.run(config) == 0
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    labels = {line.split(" | ")[0].strip("| ") for line in rows}
    wanted = {"s, r, SH, \u03b1", "SH, \u03b1", "r, s", "random init. (reference)"}
    assert wanted <= labels and not any("not run" in row or "failed" in row for row in rows)


def die_without_eyes(run: Any) -> Any:
    if run.name == "without-eye":
        os.kill(os.getpid(), signal.SIGKILL)
    return Failure("did not die")


@pytest.mark.usefixtures("small_preset")
def test_a_killed_worker_takes_no_other_run_with_it(data, tmp_path, monkeypatch):
    runs = plan(options(data, tmp_path).study(), ["5"], ("without-eye", "without-null"), 1, 1)
    monkeypatch.setattr(runner, "perform", die_without_eyes)
    reasons = {run.name: outcome for run, outcome in runner.perform_all(runs, Processes(1))}
    reasons = {name: outcome.reason for name, outcome in reasons.items()}
    assert "worker process was lost (SIGKILL)" in reasons["without-eye"]
    assert reasons["without-null"] == "did not die"


@pytest.mark.usefixtures("small_preset")
def test_folders_in_use_are_left_alone(data, tmp_path):
    config = options(data, tmp_path)
    study = config.study()
    with OwnerLock.of_folder(study.output_dir), pytest.raises(InUseError, match="is in use by"):
        ablate.run(config)
    run, *_ = plan(study, ["6"], (), 1, 1)
    run.folder.mkdir(parents=True)
    (run.folder / "config.yml").write_text("of a worker whose study was killed")
    with OwnerLock.of_folder(run.folder):
        outcome = runner.perform(run)
    assert isinstance(outcome, Failure) and "is in use by" in outcome.reason
    assert [path.name for path in run.folder.iterdir()] == ["config.yml"]


def test_bad_options(data, tmp_path):
    for changes, message in (
        ({"data": tmp_path / "absent"}, "expected a data set made by `gaussiantalker process`"),
        ({"seeds": 0}, "--seeds is 0; expected at least 1"),
        ({"num_workers": 0}, "--num-workers is 0; expected at least 1"),
        ({"canonical_steps": 9, "num_steps": 9}, "has 9 of 9 steps; expected at least 0"),
        ({"rows": ("dance",)}, "--rows names dance; expected some of without-null"),
    ):
        with pytest.raises((ValueError, FileNotFoundError), match=re.escape(message)):
            ablate.run(options(data, tmp_path, **changes))
    assert not (tmp_path / "study").exists()


def test_ray_is_an_extra(data, tmp_path, monkeypatch):
    def missing(name: str) -> Any:
        raise ModuleNotFoundError(f"No module named '{name}'")

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(ValueError, match=r'pip install "gaussiantalker-ns\[ray\]"'):
        ablate.run(options(data, tmp_path, num_workers=2, ray="local"))


def test_the_command_line(monkeypatch):
    seen = []
    monkeypatch.setattr(ablate, "run", lambda config: seen.append(config) or 0)
    arguments = ["ablate", "--data", "d", "--table", "3", "fusion", "--rows", "concat"]
    with pytest.raises(SystemExit) as status:
        cli.main([*arguments, "--seeds", "2", "--num-workers", "2", "--num-steps", "100"])
    assert status.value.code == 0
    (config,) = seen
    assert config.table == ("3", "fusion") and config.rows == ("concat",)
    assert (config.seeds, config.num_workers, config.num_steps) == (2, 2, 100)
    assert config.canonical_steps is None and config.preset == "cpu"


@pytest.mark.slow
@pytest.mark.usefixtures("small_preset")
@pytest.mark.parametrize("kind", ["processes", "ray"])
def test_two_workers_give_what_one_process_gives(data, tmp_path, kind):
    study = options(data, tmp_path).study()
    runs = plan(study, ["5"], ("reference", "without-eye", "without-null"), 1, 1)
    broken = runs[2]
    broken.config.pipeline.datamanager.data = tmp_path / "absent"
    if kind == "ray":
        pytest.importorskip("ray")
    try:
        workers = RayWorkers(2, LOCAL_RAY) if kind == "ray" else Processes(2)
        farmed = {run.name: outcome for run, outcome in runner.perform_all(runs, workers)}
    except ValueError as error:
        # Ray's own limit of 30 s, which a loaded machine exceeds; nothing else is let through.
        if "timed out during startup" in str(error):
            pytest.skip("the machine is too busy to start Ray")
        raise
    failure = farmed[broken.name]
    assert isinstance(failure, Failure) and "absent" in failure.reason
    for run in runs[:2]:
        outcome, here = farmed[run.name], runner.perform(run)
        assert isinstance(outcome, Result) and isinstance(here, Result)
        assert outcome.identity == run.identity
        for key in ("face_psnr", "head_psnr", "psnr"):
            assert outcome.final.metrics[key] == pytest.approx(here.final.metrics[key], abs=SAME)


@pytest.mark.slow
@pytest.mark.usefixtures("small_preset")
def test_every_row_can_be_trained(data, tmp_path):
    config = options(data, tmp_path, table=("3", "4", "5", "6", "fusion"), rows=())
    assert ablate.run(config) == 0
    assert "not run" not in (config.output_dir / "ablation.md").read_text()
