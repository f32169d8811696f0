"""The compiled CPU rasterizer against gsplat's CUDA kernels on one scene."""

import pytest
import torch
from raster_scenes import RasterScene, draw_with_gradients, random_scene

MEAN_ERROR = 1e-5
PERCENTILE_ERROR = 1e-3
"""99.9 % of the values are better; a threshold that flips changes a pixel by 4e-3."""


@pytest.mark.gpu
@pytest.mark.parametrize("per_frame", [False, True])
def test_numba_agrees_with_gsplat(per_frame: bool):
    scene = random_scene(2000, b=2, per_frame=per_frame, seed=30)
    on_gpu = RasterScene(
        {k: v.cuda() for k, v in scene.tensors.items()}, scene.width, scene.height, scene.options
    )
    mask = torch.ones(1)
    cpu = draw_with_gradients(scene, "numba", mask, absgrad=True)
    gpu = draw_with_gradients(on_gpu, "gsplat", mask.cuda(), absgrad=True)
    for found, expected in zip(cpu[:2], gpu[:2]):
        error = (found - expected.cpu()).abs().flatten()
        assert error.mean() < MEAN_ERROR
        assert error.quantile(0.999) < PERCENTILE_ERROR
    for name, on_gpu_gradient in gpu[2].items():
        found, expected = (x.cpu().flatten().double() for x in (cpu[2][name], on_gpu_gradient))
        assert torch.cosine_similarity(found, expected, dim=0) > 0.9999, name
        assert (found.norm() / expected.norm()).item() == pytest.approx(1, abs=1e-3), name
