"""The solvers that `benchmark.py solvers` compares minimise one and the same sum."""

import json
from pathlib import Path

import numpy as np
from synthetic_head import synthetic_head

from gaussiantalker_ns.preprocess.tracking.projection import pseudo_huber
from gaussiantalker_ns.scripts.dev.solver_benchmark import SolverConfig, robust, run_solvers


def test_half_squares_are_the_loss_and_derivatives_are_exact():
    rng = np.random.default_rng(0)
    residuals, jacobian = rng.normal(0, 3, (20, 2)), rng.normal(size=(20, 2, 4))
    found, derived = robust(residuals, jacobian, 2.0)
    np.testing.assert_allclose((found**2).sum(-1) / 2, pseudo_huber(residuals, 2.0))
    step = 1e-6 * rng.normal(size=4)
    moved = robust(residuals + jacobian @ step, jacobian, 2.0)[0]
    np.testing.assert_allclose(moved - found, derived @ step, atol=1e-10)


def test_solvers_reach_the_same_cost(tmp_path: Path):
    head = synthetic_head()
    head.landmarks().save(tmp_path / "landmarks.npz")
    (tmp_path / "talker.json").write_text(json.dumps({"size": [head.size, head.size]}))
    output = tmp_path / "solvers.json"
    run_solvers(SolverConfig(tmp_path, num_frames=3, num_keyframes=6, output=output))
    for timings in json.loads(output.read_text()).values():
        start, ours, *others = (timing["cost"] for timing in timings)
        assert ours < start
        for other in others:
            np.testing.assert_allclose(other, ours, rtol=2e-3)
