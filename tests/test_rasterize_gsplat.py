"""The GPU backend without a GPU: gsplat's wrappers over kernels in torch, against the reference."""

import importlib
import sys
from dataclasses import replace
from types import SimpleNamespace

import gsplat_on_cpu
import pytest
import torch
from raster_scenes import (
    RasterScene,
    clear_cut_pixels,
    draw_with_gradients,
    random_scene,
    relative_error,
)

from gaussiantalker_ns.gaussians.densification import DensificationConfig, DensificationStrategy
from gaussiantalker_ns.rendering import rasterize as rasterize_module

PICTURE_TOLERANCE = 2e-5
"""Both are in float32, but sum up in different orders."""
GRADIENT_TOLERANCE = 1e-3
"""The reference is in float64."""


@pytest.fixture(autouse=True)
def gsplat_on_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gsplat.cuda._wrapper._make_lazy_cuda_func", gsplat_on_cpu.KERNELS.get)
    monkeypatch.setattr("gsplat.cuda._wrapper._make_lazy_cuda_obj", str)
    monkeypatch.setattr(rasterize_module, "choose_backend", lambda backend, device: backend)
    monkeypatch.setattr(
        rasterize_module, "import_gsplat", lambda: importlib.import_module("gsplat")
    )


def scene_with_hidden(per_frame: bool) -> RasterScene:
    """A few Gaussians are behind the camera, beside the picture or too faint to be seen."""
    scene = random_scene(60, b=3, per_frame=per_frame, seed=4)
    means, opacities = scene.tensors["means"].clone(), scene.tensors["opacities"].clone()
    means[..., 0, :] = torch.tensor([0.0, 0.0, -30.0])
    means[..., 1, :] = torch.tensor([40.0, 0.0, 0.0])
    opacities[..., 2] = 1e-3
    return scene.with_tensors(means=means, opacities=opacities)


@pytest.mark.parametrize("per_frame", [False, True])
def test_pictures_and_gradients_are_those_of_the_reference(per_frame: bool):
    scene = scene_with_hidden(per_frame)
    background = torch.tensor([[0.1, 0.5, 0.9]]).expand(3, 3).clone()
    scene = scene.with_tensors(backgrounds=background)
    mask = clear_cut_pixels(scene)
    expected = draw_with_gradients(scene.double(), "torch", mask.double(), absgrad=True)
    found = draw_with_gradients(scene, "gsplat", mask.float(), absgrad=True)
    for i in range(2):
        assert float(((found[i] - expected[i]) * mask).abs().max()) < PICTURE_TOLERANCE
    drawn, reported = expected[3]["radii"] > 0, found[3]["radii"]
    assert reported.dtype == torch.int32 and reported.shape == drawn.shape
    assert torch.equal(reported > 0, drawn) and not (reported[:, :3] > 0).any()
    for name, gradient in expected[2].items():
        assert torch.isfinite(found[2][name]).all(), name
        assert relative_error(found[2][name], gradient) < GRADIENT_TOLERANCE, name


@pytest.mark.parametrize("mode", ["D", "ED", "RGB+D", "RGB+ED"])
def test_depths_of_what_is_not_drawn_do_not_show(mode: str):
    scene = scene_with_hidden(per_frame=True)
    expected, found = (scene.draw(backend, render_mode=mode)[0] for backend in ("torch", "gsplat"))
    mask = clear_cut_pixels(scene)
    assert float(((found - expected) * mask).abs().max()) < 1e-3


def harmonic_scene(per_frame: bool) -> RasterScene:
    """Colours that depend on the direction, of Gaussians some of which are hidden."""
    scene = scene_with_hidden(per_frame)
    lead = (3, 60) if per_frame else (60,)
    coefficients = torch.randn(*lead, 16, 3, generator=torch.Generator().manual_seed(0)) * 0.3
    return scene.with_tensors(colors=coefficients)


@pytest.mark.parametrize("per_frame", [False, True])
@pytest.mark.parametrize("degree", [0, 3])
def test_harmonics_of_frames(per_frame: bool, degree: int):
    scene = replace(harmonic_scene(per_frame), options={"sh_degree": degree})
    mask = clear_cut_pixels(scene)
    expected = draw_with_gradients(scene.double(), "torch", mask.double(), absgrad=True)
    found = draw_with_gradients(scene, "gsplat", mask.float(), absgrad=True)
    assert float(((found[0] - expected[0]) * mask).abs().max()) < 1e-4
    # The centre of a camera is taken from a rotation, and only there is its gradient that of a
    # general matrix's inverse.
    del expected[2]["viewmats"]
    for name, gradient in expected[2].items():
        assert torch.isfinite(found[2][name]).all(), name
        assert relative_error(found[2][name], gradient) < GRADIENT_TOLERANCE, name


def test_frames_that_share_some_tensors():
    """Positions of their own with shared sizes, and the reverse."""
    own = scene_with_hidden(per_frame=True).tensors
    for names in (("means",), ("quats", "scales"), ("scales",)):
        scene = scene_with_hidden(per_frame=False)
        scene = scene.with_tensors(**{name: own[name] for name in names})
        mask = clear_cut_pixels(scene)
        expected = draw_with_gradients(scene.double(), "torch", mask.double(), absgrad=True)
        found = draw_with_gradients(scene, "gsplat", mask.float(), absgrad=True)
        assert float(((found[0] - expected[0]) * mask).abs().max()) < PICTURE_TOLERANCE
        for name, gradient in expected[2].items():
            assert found[2][name].shape == gradient.shape
            assert relative_error(found[2][name], gradient) < GRADIENT_TOLERANCE, name


def test_all_frames_are_projected_by_one_call(monkeypatch: pytest.MonkeyPatch):
    calls = []
    kernels = {
        name: lambda *arguments, name=name: (calls.append(name), gsplat_on_cpu.KERNELS[name])[1](
            *arguments
        )
        for name in gsplat_on_cpu.KERNELS
    }
    monkeypatch.setattr("gsplat.cuda._wrapper._make_lazy_cuda_func", kernels.get)
    scene = replace(harmonic_scene(per_frame=True), options={"sh_degree": 3})
    draw_with_gradients(scene, "gsplat", torch.ones(1), absgrad=True)
    assert calls.count("proj_fwd") == calls.count("proj_bwd") == 1
    assert not any(name.startswith("fully_fused") for name in calls)


def test_densification_reads_what_is_reported():
    """The statistics count the cameras that see a Gaussian; hidden ones have none."""
    scene = scene_with_hidden(per_frame=False)
    _, _, _, info = draw_with_gradients(scene, "gsplat", torch.ones(1), absgrad=True)
    densifier = DensificationStrategy(DensificationConfig(start=10**6, absolute_gradient=True), 64)
    params = torch.nn.ParameterDict({"means": torch.nn.Parameter(scene.tensors["means"])})
    assert not densifier.after_step(params, {}, 1, info)
    assert torch.equal(densifier.state["count"], (info["radii"] > 0).sum(0).float())
    assert densifier.state["grad2d"][:3].tolist() == [0, 0, 0]
    assert torch.isfinite(densifier.state["grad2d"]).all()
    assert (densifier.state["grad2d"] > 0).any()


def test_a_gsplat_without_kernels_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.undo()
    monkeypatch.setitem(sys.modules, "gsplat.cuda._backend", SimpleNamespace(_C=None))
    with pytest.raises(ImportError, match="no `nvcc` on the PATH"):
        rasterize_module.import_gsplat()
