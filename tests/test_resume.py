"""Checkpoints: a killed run goes on where it stood, with any number of Gaussians."""

import copy
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml
from synthetic_talker import write_synthetic_talker
from talker_runs import run, small_config, start

from gaussiantalker_ns.engine.optimizers import Stage
from gaussiantalker_ns.folder_lock import InUseError

CANONICAL_STEPS = 6


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_synthetic_talker(tmp_path_factory.mktemp("talker") / "data")


def all_tensors(trainer) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in trainer.pipeline.model.named_parameters()}


def resumed(config, output_dir: Path, load_dir: Path, num_steps: int):
    config = copy.deepcopy(config)
    config.output_dir = output_dir
    config.load_dir = load_dir
    config.max_num_iterations = num_steps
    return config


NOT_MOVED = "features_rest", "speech_codes"
"""The articulation code is fitted before the first step."""


@pytest.mark.parametrize("stop_at", [3, 9])
def test_a_resumed_run_equals_an_unbroken_one(data: Path, tmp_path: Path, stop_at: int):
    """With 12 steps in all; the schedules are told so before and after the break."""
    whole = small_config(data, tmp_path / "whole", CANONICAL_STEPS, 12)
    whole.pipeline.model.head.tokens.audio_encoder.feature_dropout = 0.0
    whole.pipeline.model.articulation.true_share = 0.0
    reference = run(whole)

    broken = start(resumed(whole, tmp_path / "first", None, 12))
    broken.config.max_num_iterations = stop_at
    broken.train()
    second = resumed(whole, tmp_path / "second", broken.checkpoint_dir, 12 - stop_at)
    trainer = start(second)
    assert trainer._start_step == stop_at
    stage = Stage.CANONICAL if stop_at < CANONICAL_STEPS else Stage.DEFORMATION
    before = all_tensors(trainer)
    assert trainer.pipeline.model.stage is stage
    trainer.train()

    after, expected = all_tensors(trainer), all_tensors(reference)
    for name, value in after.items():
        if value.numel() == 0 or any(part in name for part in NOT_MOVED):
            continue
        if stop_at < CANONICAL_STEPS or "gauss_params" in name:
            assert not torch.equal(before[name], value), f"{name} stands still after the resume"
        assert torch.allclose(value, expected[name], atol=1e-5), name
    assert trainer.pipeline.model.step == 11
    rates = [t.optimizers.optimizers["means"].param_groups[0]["lr"] for t in (trainer, reference)]
    assert rates[0] == pytest.approx(rates[1])


def test_another_number_of_gaussians_is_loaded_in_place(data: Path, tmp_path: Path):
    config = small_config(data, tmp_path / "first", 30, 30)
    densification = config.pipeline.model.densification
    densification.grow, densification.start, densification.every = True, 5, 10
    densification.grow_start = 5
    densification.stop, densification.gradient_threshold = 30, 1e-9
    densification.max_gaussians = 450
    first = run(config)
    count = len(first.pipeline.model.gauss_params["means"])
    assert 400 < count <= 450

    trainer = start(resumed(config, tmp_path / "second", first.checkpoint_dir, 5))
    model = trainer.pipeline.model
    assert len(model.gauss_params["means"]) == count
    statistics = model.densifier.state
    assert torch.equal(statistics["count"], first.pipeline.model.densifier.state["count"])
    for name, parameters in model.get_param_groups().items():
        held = trainer.optimizers.optimizers[name].param_groups[0]["params"]
        assert all(a is b for a, b in zip(held, parameters)), f"{name} lost its optimiser"
    before = all_tensors(trainer)
    trainer.train()
    for name, value in all_tensors(trainer).items():
        if "gauss_params" in name and "features_rest" not in name:
            assert not torch.equal(before[name], value), f"{name} stands still after the resume"


def test_a_save_that_breaks_leaves_the_checkpoint_before_it(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A full disk in the middle of a save: the older file stays, and it is what a resume loads."""
    trainer = run(small_config(data, tmp_path / "run", 3, 2))
    kept = list(trainer.checkpoint_dir.iterdir())
    assert [path.name for path in kept] == ["step-000000001.ckpt"]

    def half(state, path):
        Path(path).write_bytes(b"half")
        raise OSError("No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(torch, "save", half)
        with pytest.raises(OSError, match="No space"):
            trainer.save_checkpoint(7)
    assert list(trainer.checkpoint_dir.iterdir()) == kept
    trainer.save_checkpoint(8)
    assert [path.name for path in trainer.checkpoint_dir.iterdir()] == ["step-000000008.ckpt"]
    written = torch.load(trainer.checkpoint_dir / "step-000000008.ckpt", weights_only=True)
    assert written["step"] == 8


def test_a_second_training_into_a_run_is_refused(data: Path, tmp_path: Path):
    config = small_config(data, tmp_path, 3, 2)
    first = start(config)
    second = copy.deepcopy(config)
    second.max_num_iterations = 77
    with pytest.raises(InUseError, match=f"^{first.base_dir} is in use by"):
        start(second)
    first.train()
    assert [path.name for path in first.checkpoint_dir.iterdir()] == ["step-000000001.ckpt"]
    # The second one had written its own before it was refused, as `ns-train` does.
    kept = yaml.load((first.base_dir / "config.yml").read_text(), Loader=yaml.Loader)
    assert kept.max_num_iterations == 2
    assert not list(first.base_dir.glob(".*"))
    start(second)


SCRIPT = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from talker_runs import run, small_config
config = small_config(Path({data!r}), Path({output!r}), {canonical_steps}, 100_000)
config.steps_per_save = 5
run(config)
"""


@pytest.mark.slow
@pytest.mark.parametrize("canonical_steps", [100_000, 5], ids=["canonical", "deformation"])
def test_a_run_killed_without_warning_goes_on(data: Path, tmp_path: Path, canonical_steps: int):
    script = SCRIPT.format(
        tests=str(Path(__file__).parent),
        data=str(data),
        output=str(tmp_path / "killed"),
        canonical_steps=canonical_steps,
    )
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.DEVNULL)
    folder = tmp_path / "killed/synthetic/gaussiantalker-cpu/run/nerfstudio_models"
    deadline = time.monotonic() + 120
    try:
        while not (folder / "step-000000010.ckpt").exists() and not later_checkpoint(folder, 10):
            assert process.poll() is None, "training ended by itself"
            assert time.monotonic() < deadline, "no checkpoint within two minutes"
            time.sleep(0.2)
    finally:
        process.kill()
        process.wait()

    config = small_config(data, tmp_path / "second", canonical_steps, 5)
    trainer = start(resumed(config, tmp_path / "second", folder, 5))
    assert trainer._start_step > 10
    stage = Stage.CANONICAL if canonical_steps > 10 else Stage.DEFORMATION
    assert trainer.pipeline.model.stage is stage
    before = all_tensors(trainer)
    trainer.train()
    for name, value in all_tensors(trainer).items():
        trained = "gauss_params" in name and "features_rest" not in name
        if trained or (stage is Stage.DEFORMATION and "triplane" in name):
            assert not torch.equal(before[name], value), f"{name} stands still after the resume"


def later_checkpoint(folder: Path, step: int) -> bool:
    return any(int(path.stem.split("-")[1]) >= step for path in folder.glob("step-*.ckpt"))
