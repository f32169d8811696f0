"""gsplat's default strategy works on what the compiled rasterizer reports."""

import pytest
import torch
from gsplat.strategy import DefaultStrategy

from gaussiantalker_ns.gaussians.densification import DensificationConfig, DensificationStrategy
from gaussiantalker_ns.kernels import compile
from gaussiantalker_ns.scripts.dev.picture_fit import FitConfig, fit

PSNR_DB = 30.0
"""A fit whose statistics are wrong stays with 200 Gaussians, below 27 dB."""


@pytest.mark.slow
def test_a_picture_is_densified_and_fitted(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(compile, "_num_threads", 1)
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
    densifier = DensificationStrategy(DensificationConfig(start=start, every=every, stop=12), 64)
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


def four_gaussians() -> tuple[torch.nn.ParameterDict, dict[str, torch.optim.Optimizer]]:
    """The second is transparent, the fourth longer than half a unit; x counts them from 0."""
    means, scales = torch.zeros(4, 3), torch.full((4, 3), 0.1)
    means[:, 0] = torch.arange(4.0)
    scales[3, 1] = 0.6
    opacities = torch.tensor([0.5, 0.004, 0.9, 0.5]).logit()
    params = torch.nn.ParameterDict(
        {"means": means, "scales": scales.log(), "opacities": opacities[:, None]}
    )
    return params, {name: torch.optim.Adam([params[name]]) for name in params}


@pytest.mark.parametrize(
    ("settings", "kept"),
    [
        ({"prune_scale": 0.5}, [0, 2]),
        ({"prune_scale": 0.7}, [0, 2, 3]),
        ({"prune_scale": None}, [0, 2, 3]),
        ({"prune_scale": 0.5, "prune_scale_start": 2}, [0, 2, 3]),
        ({"prune_scale": 0.5, "prune": False}, [0, 1, 2, 3]),
    ],
)
def test_the_transparent_and_the_large_are_removed(
    settings: dict, kept: list[int], monkeypatch: pytest.MonkeyPatch
):
    settings = {"prune_scale_start": 0, **settings}
    densifier = DensificationStrategy(
        DensificationConfig(grow=False, start=0, every=2, **settings), 64
    )
    densifier.state.update(grad2d=torch.zeros(4), count=torch.arange(4.0))
    monkeypatch.setattr(densifier.strategy, "_update_state", lambda *arguments, **options: None)
    params, optimizers = four_gaussians()
    assert densifier.after_step(params, optimizers, 2, {}) == (len(kept) < 4)
    assert params["means"][:, 0].tolist() == kept
    assert optimizers["means"].param_groups[0]["params"] == [params["means"]]


def test_without_a_limit_on_sizes_gsplats_own_are_removed():
    """What `gaussiantalker-cpu` prunes is what it pruned before sizes could be limited."""
    ours, theirs = four_gaussians(), four_gaussians()
    strategy = DensificationStrategy(DensificationConfig(prune_scale=None), 64).strategy
    assert strategy._prune_gs(*ours, {"scene_scale": 1.0}, 300) == 1
    assert DefaultStrategy._prune_gs(strategy, *theirs, {"scene_scale": 1.0}, 300) == 1
    assert all(torch.equal(ours[0][name], theirs[0][name]) for name in ours[0])


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("every", 0, "at least 1"),
        ("start", -1, "at least 0"),
        ("stop", -5, "at least 0"),
        ("prune_scale", 0.0, "a size above 0, or None"),
    ],
)
def test_settings_out_of_range_are_refused(name: str, value: float, expected: str):
    with pytest.raises(ValueError, match=f"{name} is {value}; expected {expected}. Change --"):
        DensificationConfig(**{name: value})
