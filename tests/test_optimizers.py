"""Rates over the stages, and checkpoints of their schedules."""

import io

import pytest
import torch
from nerfstudio.engine.optimizers import Optimizers

from gaussiantalker_ns.engine.optimizers import FusedAdamConfig, StageDecaySchedulerConfig
from gaussiantalker_ns.engine.trainer import bind_schedules


def make_optimizers(**settings) -> Optimizers:
    parameter = torch.nn.Parameter(torch.zeros(3))
    config = {
        "means": {
            "optimizer": FusedAdamConfig(lr=0.1),
            "scheduler": StageDecaySchedulerConfig(**settings),
        }
    }
    return Optimizers(config, {"means": [parameter]})


def rates(optimizers: Optimizers, num_steps: int) -> list[float]:
    found = []
    for step in range(num_steps):
        found.append(optimizers.optimizers["means"].param_groups[0]["lr"])
        optimizers.parameters["means"][0].grad = torch.ones(3)
        optimizers.optimizer_step("means")
        optimizers.scheduler_step_all(step)
    return found


def test_each_stage_starts_at_its_own_rate_and_falls():
    optimizers = make_optimizers(deformation_factor=0.5)
    bind_schedules(optimizers, canonical_steps=10, num_steps=30)
    found = rates(optimizers, 30)
    assert found[0] == pytest.approx(0.1)
    assert found[5] == pytest.approx(0.1 * 0.1**0.5)
    assert found[10] == pytest.approx(0.05)
    assert found[20] == pytest.approx(0.05 * 0.1**0.5)
    assert all(type(rate) is float for rate in found)


def test_a_resumed_schedule_goes_on_and_loads_without_trust():
    first = make_optimizers()
    bind_schedules(first, 10, 30)
    whole = rates(make_bound(), 20)
    rates(first, 12)
    file = io.BytesIO()
    torch.save(
        {
            "optimizers": {k: v.state_dict() for k, v in first.optimizers.items()},
            "schedulers": {k: v.state_dict() for k, v in first.schedulers.items()},
        },
        file,
    )
    file.seek(0)
    state = torch.load(file, weights_only=True)
    second = make_optimizers()
    second.load_optimizers(state["optimizers"])
    second.load_schedulers(state["schedulers"])
    bind_schedules(second, 10, 30)
    assert rates(second, 8) == pytest.approx(whole[12:])


def make_bound() -> Optimizers:
    optimizers = make_optimizers()
    bind_schedules(optimizers, 10, 30)
    return optimizers


def test_a_single_stage_starts_with_the_deformation_rate():
    optimizers = make_optimizers(deformation_factor=0.5)
    bind_schedules(optimizers, canonical_steps=0, num_steps=20)
    assert rates(optimizers, 1) == pytest.approx([0.05])
