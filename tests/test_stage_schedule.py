"""Stages and rates as functions of the step."""

import math

import pytest

from gaussiantalker_ns.engine.optimizers import Stage, StageDecay, exponential_decay, stage_at


def test_stages() -> None:
    assert stage_at(0, 100) is Stage.CANONICAL
    assert stage_at(99, 100) is Stage.CANONICAL
    assert stage_at(100, 100) is Stage.DEFORMATION
    assert stage_at(0, 0) is Stage.DEFORMATION


def test_decay_by_hand() -> None:
    """From 1 at step 50 to 0.01 at step 150: 0.1 half-way, constant outside."""
    values = [exponential_decay(step, 50, 100, 0.01) for step in (0, 50, 100, 150, 1000)]
    assert values == pytest.approx([1.0, 1.0, 0.1, 0.01, 0.01])
    assert exponential_decay(7, 0, 0) == 1.0


def test_rates_start_anew_with_the_second_stage() -> None:
    decay = StageDecay(100, 200, canonical_factor=1.0, deformation_factor=0.3)
    assert decay.factor(0) == pytest.approx(1.0)
    assert decay.factor(50) == pytest.approx(math.sqrt(0.1))
    assert decay.factor(99) == pytest.approx(0.1, rel=0.03)
    assert decay.factor(100) == pytest.approx(0.3)
    assert decay.factor(300) == pytest.approx(0.03)
    assert decay.factor(10_000) == pytest.approx(0.03)


def test_groups_can_wait_for_the_second_stage() -> None:
    decay = StageDecay(100, 200, canonical_factor=0.0)
    assert decay.factor(99) == 0.0
    assert decay.factor(100) == 1.0


def test_single_stage_decays_from_the_first_step() -> None:
    assert StageDecay(0, 200).factor(0) == 1.0
    assert StageDecay(0, 200).factor(200) == pytest.approx(0.1)


def test_factors_are_python_floats() -> None:
    """NumPy's floats end up in checkpoints that torch then refuses to load."""
    decay = StageDecay(100, 200)
    assert all(type(decay.factor(step)) is float for step in (0, 50, 100, 250, 999))
