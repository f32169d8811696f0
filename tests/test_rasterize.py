"""The compiled rasterizer against the dense float64 reference, forward and backward."""

from dataclasses import replace

import pytest
import torch
from raster_scenes import (
    RasterScene,
    clear_cut_pixels,
    draw_with_gradients,
    random_scene,
    relative_error,
)

IMAGE_TOLERANCE = 2e-6
"""Largest error of a pixel: the exponential is good to 2.5e-6, a splat's share to less."""
GRADIENT_TOLERANCE = 2e-5
"""Largest error of a gradient, norm over norm."""


def elongated() -> RasterScene:
    scene = random_scene(120, seed=3)
    scales = scene.tensors["scales"] * torch.tensor([8.0, 0.3, 0.02])
    return scene.with_tensors(scales=scales)


def single_pixels() -> RasterScene:
    """Kept below 32 pixels: a float32 position at 64 is rounded by 4e-6, and these are steep."""
    scene = random_scene(300, seed=4)
    K = torch.tensor([[[60.0, 0.0, 15.0], [0.0, 62.0, 14.0], [0.0, 0.0, 1.0]]])
    scene = scene.with_tensors(scales=scene.tensors["scales"] * 1e-3, Ks=K)
    return replace(scene, width=31, height=29)


def clamped_opacity() -> RasterScene:
    scene = random_scene(150, seed=5)
    opacities = torch.where(torch.arange(150) % 2 == 0, 0.9999, scene.tensors["opacities"])
    return scene.with_tensors(opacities=opacities)


def faint() -> RasterScene:
    scene = random_scene(150, seed=6)
    return scene.with_tensors(opacities=scene.tensors["opacities"] * 0.02)


def around_the_camera() -> RasterScene:
    """Behind the camera, before the near plane, outside the picture, and where x / z is clamped."""
    scene = random_scene(250, seed=8)
    means = scene.tensors["means"] * torch.tensor([4.0, 4.0, 3.5])
    return scene.with_tensors(means=means, scales=scene.tensors["scales"] * 4)


def with_backgrounds(scene: RasterScene) -> RasterScene:
    b = scene.tensors["viewmats"].shape[0]
    return scene.with_tensors(backgrounds=torch.linspace(0.1, 0.9, 3 * b).reshape(b, 3))


def with_channels(count: int) -> RasterScene:
    generator = torch.Generator().manual_seed(count)
    return random_scene().with_tensors(colors=torch.rand(200, count, generator=generator))


def with_sh(per_frame: bool) -> RasterScene:
    scene = random_scene(150, b=2, per_frame=per_frame, seed=9)
    shape = (*scene.tensors["means"].shape[:-1], 16, 3)
    coefficients = 0.3 * torch.randn(shape, generator=torch.Generator().manual_seed(1))
    scene = scene.with_tensors(colors=coefficients)
    scene.options["sh_degree"] = 3
    return scene


def with_mode(mode: str) -> RasterScene:
    scene = with_backgrounds(random_scene(seed=10))
    scene.options["render_mode"] = mode
    return scene


SCENES = {
    "plain": random_scene(),
    "background": with_backgrounds(random_scene(seed=1)),
    "one set, three cameras": with_backgrounds(random_scene(b=3, seed=2)),
    "three sets, three cameras": with_backgrounds(random_scene(b=3, per_frame=True, seed=2)),
    "elongated": elongated(),
    "single pixels": single_pixels(),
    "clamped opacity": clamped_opacity(),
    "faint": faint(),
    "around the camera": around_the_camera(),
    "one channel": with_channels(1),
    "five channels": with_channels(5),
    "SH": with_sh(per_frame=False),
    "SH per frame": with_sh(per_frame=True),
    "depth": with_mode("D"),
    "expected depth": with_mode("ED"),
    "colour and depth": with_mode("RGB+D"),
    "colour and expected depth": with_mode("RGB+ED"),
}


@pytest.mark.parametrize("scene", SCENES.values(), ids=SCENES.keys())
def test_matches_the_reference(scene: RasterScene):
    mask = clear_cut_pixels(scene)
    assert mask.float().mean() > 0.97
    picture, alpha, found, info = draw_with_gradients(scene, "numba", mask, absgrad=True)
    wanted_picture, wanted_alpha, wanted, wanted_info = draw_with_gradients(
        scene.double(), "torch", mask, absgrad=True
    )
    error = (picture - wanted_picture).abs() * mask
    if scene.options.get("render_mode", "").endswith("ED"):
        # Expected depth divides by alpha, and so its error.
        error[..., -1:] *= wanted_alpha
    scale = max(1.0, wanted_picture.abs().max().item())
    assert error.max() <= IMAGE_TOLERANCE * scale
    assert ((alpha - wanted_alpha) * mask).abs().max() <= IMAGE_TOLERANCE
    assert torch.equal(info["radii"], wanted_info["radii"])
    assert found.keys() == wanted.keys()
    for name, expected in wanted.items():
        assert found[name].shape == expected.shape, name
        assert relative_error(found[name], expected) <= GRADIENT_TOLERANCE, name


def test_some_gaussians_are_left_out_around_the_camera():
    radii = SCENES["around the camera"].draw("numba")[2]["radii"]
    assert 0 < (radii > 0).sum() < 200


@pytest.mark.parametrize("backend", ["numba", "torch"])
def test_no_gaussians_leave_the_background(backend: str):
    scene = with_backgrounds(random_scene(0))
    picture, alpha, gradients, _ = draw_with_gradients(scene, backend, torch.ones(1))
    assert torch.equal(picture, scene.tensors["backgrounds"].expand_as(picture))
    assert not alpha.any()
    assert gradients["means"].shape == (0, 3)
    assert gradients["backgrounds"].abs().sum() > 0


@pytest.mark.parametrize("backend", ["numba", "torch"])
def test_nothing_visible_leaves_the_background_and_no_gradients(backend: str):
    scene = with_backgrounds(random_scene(40))
    means = scene.tensors["means"] + torch.tensor([0.0, 0.0, -50.0])
    scene = scene.with_tensors(means=means)
    picture, alpha, gradients, info = draw_with_gradients(scene, backend, torch.ones(1))
    assert torch.equal(picture, scene.tensors["backgrounds"].expand_as(picture))
    assert not alpha.any() and not info["radii"].any()
    assert not gradients["means"].any() and not gradients["viewmats"].any()


def test_one_splat_by_hand():
    """A round Gaussian on the axis: variance (f s / z)^2 + 0.3 = 4.3, centre at pixel (8, 8).

    The pixel whose centre lies at (8.5, 8.5) has alpha = 0.8 exp(-(0.25 + 0.25) / (2 * 4.3)).
    """
    alpha = 0.8 * torch.tensor(-0.5 / 8.6).exp()
    scene = RasterScene(
        {
            "means": torch.tensor([[0.0, 0.0, 5.0]]),
            "quats": torch.tensor([[2.0, 0.0, 0.0, 0.0]]),
            "scales": torch.full((1, 3), 0.5),
            "opacities": torch.tensor([0.8]),
            "colors": torch.tensor([[1.0, 0.5, 0.0]]),
            "viewmats": torch.eye(4)[None],
            "Ks": torch.tensor([[[20.0, 0.0, 8.0], [0.0, 20.0, 8.0], [0.0, 0.0, 1.0]]]),
            "backgrounds": torch.tensor([[0.0, 0.0, 1.0]]),
        },
        width=16,
        height=16,
    )
    for backend in ("numba", "torch"):
        picture, found, info = scene.draw(backend)
        assert found[0, 8, 8, 0].item() == pytest.approx(alpha.item(), abs=1e-6)
        expected = [alpha.item(), 0.5 * alpha.item(), 1 - alpha.item()]
        assert picture[0, 8, 8].tolist() == pytest.approx(expected, abs=1e-6)
        assert info["means2d"][0, 0].tolist() == [8.0, 8.0]


def test_finite_differences_agree():
    """Guards against the reference and the kernels sharing a mistake."""
    scene = with_backgrounds(random_scene(60, seed=11))
    mask = clear_cut_pixels(scene)
    _, _, gradients, _ = draw_with_gradients(scene, "numba", mask)
    generator = torch.Generator().manual_seed(7)
    shapes = (1, scene.height, scene.width, 3), (1, scene.height, scene.width, 1)
    weights = [torch.randn(shape, generator=generator).double() * mask for shape in shapes]

    def loss(name: str, step: torch.Tensor) -> float:
        moved = scene.double()
        moved.tensors[name] = moved.tensors[name] + step
        picture, alpha, _ = moved.draw("torch")
        return ((picture * weights[0]).sum() + (alpha * weights[1]).sum()).item()

    for name in ("means", "quats", "scales", "opacities", "colors", "viewmats", "backgrounds"):
        direction = torch.randn(scene.tensors[name].shape, generator=generator).double()
        if name == "viewmats":
            direction[:, 3] = 0
        step = 1e-7 * direction
        slope = (loss(name, step) - loss(name, -step)) / 2e-7
        found = (gradients[name].double() * direction).sum().item()
        assert found == pytest.approx(slope, rel=2e-3, abs=1e-3), name


def test_a_batch_is_the_stack_of_its_frames():
    scene = random_scene(b=3, per_frame=True, seed=12)
    together = scene.draw("numba")[0]
    for i in range(3):
        alone = scene.with_tensors(**{k: v[i : i + 1] for k, v in scene.tensors.items()})
        assert torch.equal(alone.draw("numba")[0], together[i : i + 1])


def test_the_order_of_gaussians_does_not_matter():
    scene = random_scene(seed=13)
    order = torch.randperm(200, generator=torch.Generator().manual_seed(0))
    names = ("means", "quats", "scales", "opacities", "colors")
    shuffled = scene.with_tensors(**{name: scene.tensors[name][order] for name in names})
    mask = torch.ones(1)
    picture, _, gradients, _ = draw_with_gradients(scene, "numba", mask)
    other, _, other_gradients, _ = draw_with_gradients(shuffled, "numba", mask)
    assert torch.equal(picture, other)
    for name in names:
        assert torch.equal(gradients[name][order], other_gradients[name]), name


def test_radius_clip_and_planes_leave_gaussians_out():
    scene = random_scene(seed=14)
    scene.options.update(radius_clip=8.0, near_plane=5.5, far_plane=6.5)
    mask = clear_cut_pixels(scene)
    picture, _, info = scene.draw("numba")
    wanted, _, wanted_info = scene.double().draw("torch")
    assert ((picture - wanted) * mask).abs().max() <= IMAGE_TOLERANCE
    assert torch.equal(info["radii"], wanted_info["radii"])
    drawn = info["radii"] > 0
    assert 0 < drawn.sum() < 200
    depths = info["depths"][drawn]
    assert depths.min() >= 5.5 and depths.max() <= 6.5
