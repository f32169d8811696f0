"""The one way from Gaussians to pixels: `rasterize`, with gsplat's names, shapes and semantics.

Backends: `gsplat` (CUDA), `numba` (CPU) and `torch` (dense reference, any device, float64 too).
They agree on what is drawn: alpha below 1/255 is skipped, a pixel stops before its transmittance
falls to 1e-4, and one splat's alpha is limited as in the installed gsplat.
"""

import functools
import importlib
from collections.abc import Callable
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from gaussiantalker_ns.gaussians.raster_scene import RasterSettings, Scene
from gaussiantalker_ns.kernels.compile import set_num_threads
from gaussiantalker_ns.rendering import gsplat_backend, validation
from gaussiantalker_ns.rendering.gsplat_backend import gsplat_version
from gaussiantalker_ns.rendering.spherical_harmonics import evaluate_sh

__all__ = ["Backend", "RenderMode", "choose_backend", "rasterize", "set_num_threads", "warm_up"]

Backend = Literal["auto", "gsplat", "numba", "torch"]
RenderMode = Literal["RGB", "D", "ED", "RGB+D", "RGB+ED"]


def max_alpha() -> float:
    """Largest alpha of one splat in one pixel, as in the installed gsplat."""
    return 0.999 if gsplat_version() < (1, 6) else 0.99


def choose_backend(backend: str, device: torch.device) -> str:
    """Resolve `auto`: gsplat for tensors on a GPU, numba for those on the CPU."""
    if backend not in get_args(Backend):
        raise ValueError(f"`backend` is {backend!r}; expected one of {get_args(Backend)}.")
    if backend == "auto":
        return "gsplat" if device.type == "cuda" else "numba"
    needed = {"gsplat": "cuda", "numba": "cpu"}.get(backend, device.type)
    if needed != device.type:
        raise ValueError(
            f"The backend {backend!r} was asked for tensors on {device}; expected tensors on"
            f' {needed}. Move them, or use backend="auto".'
        )
    return backend


def rasterize(
    means: Tensor,
    quats: Tensor,
    scales: Tensor,
    opacities: Tensor,
    colors: Tensor,
    viewmats: Tensor,
    Ks: Tensor,
    width: int,
    height: int,
    *,
    near_plane: float = 0.01,
    far_plane: float = 1e10,
    radius_clip: float = 0.0,
    eps2d: float = 0.3,
    sh_degree: int | None = None,
    backgrounds: Tensor | None = None,
    render_mode: RenderMode = "RGB",
    absgrad: bool = False,
    backend: Backend = "auto",
) -> tuple[Tensor, Tensor, dict[str, Any]]:
    """Draw 3D Gaussians into a batch of pictures, each camera with its own or with shared ones.

    Every Gaussian tensor may lack the leading b, or have 1 there: the cameras then share it.
    Tensors need not be contiguous. On the CPU values are checked; on a GPU only types and shapes
    are, because looking at values would wait for the device.

    Args:
        means: Centres [b, n, 3] or [n, 3].
        quats: Rotations wxyz [b, n, 4], of any length but zero.
        scales: Standard deviations [b, n, 3], after the exponential.
        opacities: [b, n] in [0, 1], after the sigmoid.
        colors: [b, n, D], or SH coefficients [b, n, s, 3] when `sh_degree` is given.
        viewmats: World-to-camera matrices [b, 4, 4], OpenCV axes.
        Ks: Intrinsics [b, 3, 3] in pixels; skew is ignored.
        width: Of the pictures, in pixels.
        height: Of the pictures, in pixels.
        near_plane: Smallest depth drawn.
        far_plane: Largest depth drawn.
        radius_clip: Splats whose half extents are at most this many pixels are left out.
        eps2d: Added to the variances in the picture, in square pixels.
        sh_degree: 0 to 3; the colour is max(0, SH + 0.5).
        backgrounds: Colours [b, D] behind everything; depth channels have 0 there.
        render_mode: Colours, accumulated depth D, expected depth ED, or colours and one of them.
        absgrad: Whether the backward pass sets `info["means2d"].absgrad`.
        backend: Which implementation; `auto` goes by the device.

    Returns:
        Pictures [b, h, wd, D'], alphas [b, h, wd, 1], and what gsplat's strategies read: `means2d`
        [b, n, 2] (a node of the graph), `radii` (int32 [b, n], or [b, n, 2] next to gsplat 1.5 and
        later; 0 is not drawn), `depths` [b, n], `width`, `height`, `n_cameras`, and
        `gaussian_ids` (None: nothing is packed).

    Raises:
        ValueError: What was found, and what was expected, for any input that makes no sense.
    """
    if render_mode not in get_args(RenderMode):
        raise ValueError(f"`render_mode` is {render_mode!r}; expected {get_args(RenderMode)}.")
    validation.check_size(width, height)
    settings = RasterSettings(
        width, height, near_plane, far_plane, radius_clip, eps2d, absgrad, max_alpha()
    )
    validation.check_settings(settings)
    tensors = {
        "means": means, "quats": quats, "scales": scales, "opacities": opacities,
        "colors": colors, "viewmats": viewmats, "Ks": Ks,
    }  # fmt: skip
    if backgrounds is not None:
        tensors["backgrounds"] = backgrounds
    validation.check_tensors(tensors, float64_allowed=backend == "torch")
    chosen = choose_backend(backend, means.device)
    scene, colors, backgrounds = _arrange(tensors, sh_degree)
    if chosen == "torch":
        validation.check_gaussians(scene)
    project, sh_colors, composite_splats = _implementation(chosen)

    projected = project(scene, settings)
    means2d, depths, radii, *_ = projected
    if sh_degree is not None:
        visible = radii > 0 if radii.dim() == 2 else (radii > 0).all(-1)
        colors = sh_colors(scene, colors, sh_degree, visible)
    channels, backgrounds = _channels(colors, depths, backgrounds, render_mode)
    pictures, alphas = composite_splats(scene, projected, channels, backgrounds, settings)
    alphas = alphas[..., None]
    if render_mode.endswith("ED"):
        expected = pictures[..., -1:] / alphas.clamp_min(1e-10)
        pictures = torch.cat([pictures[..., :-1], expected], -1)
    if radii.dim() == 3 and gsplat_version() < (1, 5):
        radii = radii.amax(-1)
    info = {
        "means2d": means2d, "radii": radii, "depths": depths, "width": width, "height": height,
        "n_cameras": viewmats.shape[0], "gaussian_ids": None,
    }  # fmt: skip
    return pictures, alphas, info


def _arrange(
    tensors: dict[str, Tensor], sh_degree: int | None
) -> tuple[Scene, Tensor, Tensor | None]:
    """Check the shapes; give every Gaussian tensor a leading axis."""
    viewmats, Ks = tensors["viewmats"].contiguous(), tensors["Ks"].contiguous()
    validation.check_cameras(viewmats, Ks)
    b = viewmats.shape[0]
    means = validation.batched("means", tensors["means"], b, None, (3,))
    n = means.shape[1]
    quats = validation.batched("quats", tensors["quats"], b, n, (4,))
    scales = validation.batched("scales", tensors["scales"], b, n, (3,))
    opacities = validation.batched("opacities", tensors["opacities"], b, n, ())
    tail = (-1,) if sh_degree is None else (-1, 3)
    colors = validation.batched("colors", tensors["colors"], b, n, tail)
    backgrounds = tensors.get("backgrounds")
    num_channels = colors.shape[-1]
    if backgrounds is not None and backgrounds.shape != (b, num_channels):
        raise ValueError(
            f"`backgrounds` has the shape {list(backgrounds.shape)}; expected"
            f" [{b}, {num_channels}], one colour per camera."
        )
    if means.device.type == "cpu":
        validation.check_finite("colors", colors)
        if backgrounds is not None:
            validation.check_finite("backgrounds", backgrounds)
    scene = Scene(means, quats, scales, opacities, viewmats, Ks)
    return scene, colors, backgrounds


def _implementation(backend: str) -> tuple[Callable[..., Any], ...]:
    """The three stages of a backend, imported when first needed: project, colours, composite."""
    if backend == "gsplat":
        stages = (
            gsplat_backend.project, gsplat_backend.sh_colors, gsplat_backend.composite_splats
        )  # fmt: skip
        return tuple(functools.partial(stage, import_gsplat()) for stage in stages)
    name = {"numba": "kernels.rasterizer", "torch": "rendering.torch_backend"}[backend]
    module = importlib.import_module(f"gaussiantalker_ns.{name}")
    return module.project, _sh_colors, module.composite_splats


@functools.cache
def import_gsplat() -> Any:
    """gsplat with its CUDA kernels, which it compiles at the first use where the wheel has none.

    Raises:
        ImportError: The kernels are not there and there is no compiler for them.
    """
    if importlib.import_module("gsplat.cuda._backend")._C is None:
        raise ImportError(
            "gsplat has no CUDA kernels: its wheel carries none, and there is no `nvcc` on the PATH"
            " to compile them; expected one of the two. Install the CUDA toolkit or a wheel of"
            " gsplat for your CUDA, or work on the CPU: --machine.device-type cpu."
        )
    return importlib.import_module("gsplat")


def _sh_colors(scene: Scene, coefficients: Tensor, degree: int, visible: Tensor) -> Tensor:
    """Colours [b, n, 3] of the visible Gaussians as the cameras see them."""
    R, t = scene.viewmats[:, :3, :3], scene.viewmats[:, :3, 3:]
    # On a GPU a look at the matrices would wait for the device.
    centres = -torch.linalg.solve_ex(R, t, check_errors=R.device.type == "cpu").result
    directions = scene.means - centres.mT
    return (evaluate_sh(degree, directions, coefficients, visible) + 0.5).clamp_min(0.0)


def _channels(
    colors: Tensor, depths: Tensor, backgrounds: Tensor | None, render_mode: str
) -> tuple[Tensor, Tensor]:
    """What is composited [b, n, D'], and what lies behind it [b, D']."""
    b, n = depths.shape
    colors = colors.expand(b, n, colors.shape[-1])
    if render_mode in ("D", "ED"):
        return depths[..., None].contiguous(), depths.new_zeros(b, 1)
    if backgrounds is None:
        backgrounds = colors.new_zeros(b, colors.shape[-1])
    if render_mode != "RGB":
        colors = torch.cat([colors, depths[..., None]], -1)
        backgrounds = torch.cat([backgrounds, backgrounds.new_zeros(b, 1)], -1)
    return colors.contiguous(), backgrounds.contiguous()


def warm_up() -> None:
    """Compile the CPU kernels for colours, with and without `absgrad`, if none lie on disk.

    It takes about half a minute, once; `kernels.compile` says so.
    """
    from gaussiantalker_ns.kernels.rasterizer import is_compiled

    if is_compiled():
        return
    one = torch.ones
    for absgrad in (False, True):
        means = torch.tensor([[0.0, 0.0, 2.0]], requires_grad=True)
        pictures, _, _ = rasterize(
            means, one(1, 4), one(1, 3), one(1) / 2, one(1, 16, 3), torch.eye(4)[None],
            torch.tensor([[[16.0, 0.0, 8.0], [0.0, 16.0, 8.0], [0.0, 0.0, 1.0]]]), 16, 16,
            sh_degree=3, absgrad=absgrad, backend="numba",
        )  # fmt: skip
        pictures.sum().backward()
