"""Bad input to the rasterizer gives a clear error, unusual input the documented behaviour."""

import pytest
import torch
from raster_scenes import RasterScene, draw_with_gradients, random_scene

CPU_BACKENDS = ("numba", "torch")


def changed(name: str, index: tuple[int, ...], value: float) -> RasterScene:
    scene = random_scene(600, b=2, per_frame=True)
    tensor = scene.tensors[name].clone()
    tensor[index] = value
    return scene.with_tensors(**{name: tensor})


@pytest.mark.parametrize("backend", CPU_BACKENDS)
@pytest.mark.parametrize(
    ("name", "index", "value", "message"),
    [
        ("means", (1, 577, 0), float("nan"), "`means` holds a value that is not finite"),
        ("means", (0, 3, 2), float("inf"), "`means` holds a value that is not finite"),
        ("quats", (0, 5, 1), float("nan"), "`quats` holds a value that is not finite"),
        ("quats", (1, 5), 0.0, "`quats` holds a quaternion of length zero"),
        ("scales", (0, 9, 2), -0.1, "`scales` holds a negative value"),
        ("scales", (0, 9, 2), float("nan"), "`scales` holds a value that is not finite"),
        ("opacities", (1, 0), 1.5, r"`opacities` holds a value outside \[0, 1\]"),
        ("opacities", (1, 0), -0.5, r"`opacities` holds a value outside \[0, 1\]"),
        ("opacities", (1, 0), float("nan"), r"`opacities` holds a value outside \[0, 1\]"),
        ("colors", (0, 2, 1), float("nan"), "`colors` holds a value that is not finite"),
        ("viewmats", (0, 0, 0), float("nan"), "`viewmats` or `Ks` holds a value"),
        ("Ks", (1, 0, 0), 0.0, "focal length that is not positive"),
    ],
)
def test_bad_values(backend: str, name: str, index: tuple[int, ...], value: float, message: str):
    with pytest.raises(ValueError, match=message):
        changed(name, index, value).draw(backend)


def test_the_fault_is_located():
    with pytest.raises(ValueError, match=r"frame 1, Gaussian 577"):
        changed("means", (1, 577, 0), float("nan")).draw("numba")


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("means", (200, 2), r"`means` has the shape \[200, 2\]; expected \[n, 3\] or \[2, n, 3\]"),
        ("means", (3, 200, 3), r"`means` has the shape \[3, 200, 3\]"),
        ("quats", (199, 4), r"`quats` has the shape \[1, 199, 4\]; expected \[200, 4\]"),
        ("scales", (200,), r"`scales` has the shape \[200\]"),
        ("opacities", (200, 1), r"`opacities` has the shape \[200, 1\]"),
        ("colors", (200, 0), r"`colors` has the shape \[200, 0\]"),
        ("viewmats", (2, 3, 4), r"`viewmats` has the shape \[2, 3, 4\]"),
        ("Ks", (1, 3, 3), r"`Ks` \[1, 3, 3\]"),
        ("backgrounds", (3,), r"`backgrounds` has the shape \[3\]; expected \[2, 3\]"),
    ],
)
def test_wrong_shapes(name: str, shape: tuple[int, ...], message: str):
    scene = random_scene(b=2).with_tensors(**{name: torch.ones(shape)})
    with pytest.raises(ValueError, match=message):
        scene.draw("numba")


def test_float64_is_for_the_reference_only():
    scene = random_scene().double()
    for backend in ("auto", "numba"):
        with pytest.raises(ValueError, match="is torch.float64; expected torch.float32"):
            scene.draw(backend)
    assert scene.draw("torch")[0].dtype == torch.float64


def test_mixed_types_are_refused():
    scene = random_scene()
    mixed = scene.with_tensors(scales=scene.tensors["scales"].double())
    with pytest.raises(ValueError, match=r"`scales` is torch.float64 on cpu, but `means` is"):
        mixed.draw("torch")


def test_other_things_than_tensors_are_refused():
    scene = random_scene()
    scene.tensors["quats"] = scene.tensors["quats"].numpy()  # pyright: ignore
    with pytest.raises(ValueError, match="`quats` is a ndarray; expected a torch.Tensor"):
        scene.draw("numba")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"render_mode": "XYZ"}, "`render_mode` is 'XYZ'"),
        ({"near_plane": 2.0, "far_plane": 1.0}, "expected near_plane < far_plane"),
        ({"eps2d": -1.0}, "`eps2d` is -1.0"),
        ({"radius_clip": float("nan")}, "`radius_clip` is nan"),
        ({"backend": "cuda"}, "`backend` is 'cuda'"),
    ],
)
def test_bad_options(options: dict, message: str):
    scene = random_scene()
    backend = options.pop("backend", "numba")
    with pytest.raises(ValueError, match=message):
        scene.draw(backend, **options)


@pytest.mark.parametrize("size", [(0, 61), (77, -1), (77.5, 61)])
def test_bad_picture_sizes(size: tuple):
    scene = random_scene()
    scene.width, scene.height = size
    with pytest.raises(ValueError, match="expected a positive whole number of pixels"):
        scene.draw("numba")


def test_gsplat_wants_a_gpu():
    with pytest.raises(ValueError, match=r"'gsplat' was asked for tensors on cpu"):
        random_scene().draw("gsplat")


def test_sh_degree_and_coefficients_must_fit():
    scene = random_scene().with_tensors(colors=torch.zeros(200, 4, 3))
    with pytest.raises(ValueError, match="4 SH coefficients per Gaussian; expected at least 9"):
        scene.draw("numba", sh_degree=2)
    with pytest.raises(ValueError, match="sh_degree is 4; expected 0 to 3"):
        scene.draw("numba", sh_degree=4)


def test_strided_tensors_are_taken():
    scene = random_scene(b=2, per_frame=True)
    strided = scene.with_tensors(
        **{k: v.mT.contiguous().mT if v.dim() > 2 else v for k, v in scene.tensors.items()}
    )
    assert not strided.tensors["means"].is_contiguous()
    mask = torch.ones(1)
    picture, _, gradients, _ = draw_with_gradients(scene, "numba", mask)
    other, _, other_gradients, _ = draw_with_gradients(strided, "numba", mask)
    assert torch.equal(picture, other)
    for name, gradient in gradients.items():
        assert torch.equal(gradient, other_gradients[name]), name


def test_huge_splats_and_far_away_ones_do_no_harm():
    scene = random_scene(60)
    scales = scene.tensors["scales"].clone()
    scales[:20] = 1e6
    scales[20:30] = 1e18
    means = scene.tensors["means"].clone()
    means[30:40] *= 1e9
    picture, alpha, _ = scene.with_tensors(scales=scales, means=means).draw("numba")
    assert torch.isfinite(picture).all() and torch.isfinite(alpha).all()
