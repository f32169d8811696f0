"""The benchmark's yardstick draws the same picture, and its commands run."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from synthetic_talker import write_synthetic_talker
from talker_runs import run, small_config

from gaussiantalker_ns.audio.read import write_wav
from gaussiantalker_ns.gaussians.raster_scene import RasterSettings
from gaussiantalker_ns.kernels import compile
from gaussiantalker_ns.rendering.rasterize import max_alpha, rasterize
from gaussiantalker_ns.scripts.dev import busy_benchmark, gpu_benchmark, profile_training
from gaussiantalker_ns.scripts.dev.busy_benchmark import BusyBenchmarkConfig, run_busy
from gaussiantalker_ns.scripts.dev.drive_benchmark import PARTS, DriveBenchmarkConfig, run_drive
from gaussiantalker_ns.scripts.dev.gpu_benchmark import TRAINING_PARTS, GpuBenchmarkConfig, run_gpu
from gaussiantalker_ns.scripts.dev.raster_benchmark import RasterConfig, head_scene, run_raster
from gaussiantalker_ns.scripts.dev.torch_tiles import rasterize_in_tiles


def test_plain_torch_draws_the_same_picture():
    scene, colors = head_scene(300, 40)
    settings = RasterSettings(40, 40, 0.01, 1e10, 0.0, 0.3, False, max_alpha())
    picture, alpha = rasterize_in_tiles(scene, colors[0], settings)
    ours, our_alpha, _ = rasterize(
        scene.means, scene.quats, scene.scales, scene.opacities, colors, scene.viewmats,
        scene.Ks, 40, 40,
    )  # fmt: skip
    # A threshold that flips changes a pixel by 4e-3 at most.
    assert (picture - ours[0]).abs().mean() < 1e-6
    assert (alpha - our_alpha[0, ..., 0]).abs().max() < 5e-3


def test_raster_writes_its_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(compile, "_num_threads", compile.num_threads())
    threads = torch.get_num_threads()
    output = tmp_path / "raster.json"
    run_raster(
        RasterConfig(cases=((200, 32),), threads=(1,), repetitions=2, torch_repetitions=1,
                     output=output)
    )  # fmt: skip
    torch.set_num_threads(threads)
    (row,) = json.loads(output.read_text())
    assert row["num_gaussians"] == 200 and row["both"] > row["forward"] > 0
    assert row["ratio"] == row["torch_both"] / row["both"]


def test_drive_times_every_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The parts add up to the wall time, and the talker is as before."""
    monkeypatch.setattr(compile, "_num_threads", compile.num_threads())
    threads = torch.get_num_threads()
    data = write_synthetic_talker(tmp_path / "data")
    trained = run(small_config(data, tmp_path / "run", 2, 4))
    speech = tmp_path / "speech.wav"
    write_wav(speech, np.sin(np.arange(16_000) * 0.2).astype(np.float32))
    output = tmp_path / "drive.json"
    run_drive(
        DriveBenchmarkConfig(
            load_config=trained.base_dir,
            audio=speech,
            sizes=(64,),
            threads=(1,),
            num_frames=80,
            output=output,
        )
    )
    torch.set_num_threads(threads)
    (row,) = json.loads(output.read_text())
    total = sum(row[part] for part in (*PARTS, "other"))
    assert total == pytest.approx(1e3 / row["fps"])
    assert all(row[part] > 0 for part in PARTS), row
    assert row["other"] >= 0


def test_busy_measures_both_kinds_of_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for name in busy_benchmark.OPENMP_SETTINGS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(compile, "_num_threads", compile.num_threads())
    threads = torch.get_num_threads()
    data = write_synthetic_talker(tmp_path / "data")
    config = small_config(data, tmp_path / "run", 2, 4)
    trained = run(config)
    speech = tmp_path / "speech.wav"
    write_wav(speech, np.sin(np.arange(16_000) * 0.2).astype(np.float32))
    monkeypatch.setattr(profile_training.gaussiantalker_cpu, "config", config)
    output = tmp_path / "busy.json"
    busy = BusyBenchmarkConfig(
        load_config=trained.base_dir, audio=speech, data=data, seconds=0.3, rounds=1, output=output
    )
    run_busy(busy)
    torch.set_num_threads(threads)
    for rates in json.loads(output.read_text()).values():
        assert len(rates["quiet"]) == len(rates["busy"]) == 1
        assert min(rates["quiet"] + rates["busy"]) > 0
    monkeypatch.setenv("OMP_WAIT_POLICY", "passive")
    with pytest.raises(ValueError, match="env -u OMP_WAIT_POLICY"):
        run_busy(busy)


def test_gpu_measures_driving_and_both_stages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """On a CPU, which nobody waits for: speeds, parts of a step, and the model as before."""
    monkeypatch.setattr(compile, "_num_threads", compile.num_threads())
    monkeypatch.setattr(gpu_benchmark, "WARM_UP_STEPS", 1)
    threads, backward = torch.get_num_threads(), torch.Tensor.backward
    data = write_synthetic_talker(tmp_path / "data")
    trained = run(small_config(data, tmp_path / "run", 2, 4))
    output = tmp_path / "gpu.json"
    run_gpu(
        GpuBenchmarkConfig(
            load_config=trained.base_dir, batches=(1, 2), seconds=0.05, num_steps=2, output=output
        )
    )
    torch.set_num_threads(threads)
    figures = json.loads(output.read_text())
    for speeds in (figures["driving"]["fps"], figures["driving"]["head_fps"]):
        assert set(speeds) == {"1", "2"} and all(value > 0 for value in speeds.values())
    for stage, batch in (("canonical", 1), ("deformation", 4)):
        row = figures[stage]
        assert row["batch"] == batch and row["waits"] == {} and row["ms"] > 0
        busy = {part: value for part, value in row["parts_ms"].items() if value > 0}
        idle = {"network"} if stage == "canonical" else set()
        assert set(busy) >= set(TRAINING_PARTS) - idle
    assert torch.Tensor.backward is backward
    assert "98 / 121" in capsys.readouterr().out
