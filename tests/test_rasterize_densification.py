"""gsplat's default strategy works on what the compiled rasterizer reports."""

import pytest
import torch

from gaussiantalker_ns import numba_runtime
from gaussiantalker_ns.densification import DensificationConfig, Densifier
from gaussiantalker_ns.scripts.picture_fit import FitConfig, fit

PSNR_DB = 30.0
"""A fit whose statistics are wrong stays with 200 Gaussians, below 27 dB."""


@pytest.mark.slow
def test_a_picture_is_densified_and_fitted(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(numba_runtime, "_num_threads", 1)
    torch_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        result = fit(FitConfig(steps=1500))
    finally:
        torch.set_num_threads(torch_threads)
    assert result.counts[0] == 200 and max(result.counts) > 2000
    assert result.num_cloned > 0 and result.num_split > 0 and result.num_pruned > 0
    assert result.psnr[0] < 15 and result.psnr[-1] > PSNR_DB


@pytest.mark.parametrize(("start", "every"), [(0, 1), (2, 3), (5, 5)])
def test_it_is_known_when_gaussians_change(start: int, every: int, monkeypatch: pytest.MonkeyPatch):
    """Steps at which gsplat grows Gaussians are those that `refines_at` tells beforehand."""
    densifier = Densifier(DensificationConfig(start=start, every=every, stop=12))
    densifier.state.update(grad2d=torch.zeros(4), count=torch.zeros(4))
    params = torch.nn.ParameterDict({"means": torch.nn.Parameter(torch.zeros(4, 3))})
    grown = []
    strategy = densifier.strategy
    monkeypatch.setattr(strategy, "_update_state", lambda *arguments, **options: None)
    monkeypatch.setattr(strategy, "_grow_gs", lambda *arguments: (grown.append(True), 0))
    monkeypatch.setattr(strategy, "_prune_gs", lambda *arguments: 0)
    for step in range(15):
        grown.clear()
        densifier.after_step(params, {}, step, {})
        assert bool(grown) == densifier.refines_at(step), step
