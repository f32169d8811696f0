"""Where tensors are: the model in torch's fake CUDA mode, which knows devices but has no numbers.

Any operation that mixes main memory and GPU raises there as on a real GPU, and so does reading a
number back; gsplat's own wrappers check shapes, types and contiguity. Only its kernels are missing.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from nerfstudio.data.scene_box import OrientedBox
from synthetic_talker import write_synthetic_talker
from talker_runs import small_config
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from gaussiantalker_ns.evaluation.image_metrics import decibels
from gaussiantalker_ns.fields.attention import SpatialAudioAttentionConfig
from gaussiantalker_ns.fields.canonical import CanonicalFieldConfig
from gaussiantalker_ns.losses import PerceptualLossConfig
from gaussiantalker_ns.model import GaussianTalkerModel
from gaussiantalker_ns.objective import Objective, ObjectiveConfig
from gaussiantalker_ns.rendering import rasterize as rasterize_module
from gaussiantalker_ns.rendering.splatting import Views
from gaussiantalker_ns.schedule import Stage

HEIGHT, WIDTH, BATCH = 48, 32, 3
NUM_INTERSECTIONS = 100


def on_gpu(*tensors: Any) -> None:
    """What the kernels check: `GSPLAT_CHECK_INPUT` in gsplat's bindings."""
    for tensor in tensors:
        if tensor is not None:
            assert tensor.device.type == "cuda" and tensor.is_contiguous()


def project(means, covars, quats, scales, viewmats, Ks, *settings) -> tuple[Any, ...]:
    on_gpu(means, covars, quats, scales, viewmats, Ks)
    assert {x.dtype for x in (means, quats, scales, viewmats, Ks)} == {torch.float32}
    shape = (len(viewmats), len(means))
    radii = torch.empty(shape, dtype=torch.int32, device="cuda")
    return radii, means.new_empty(*shape, 2), means.new_empty(shape), means.new_empty(*shape, 3), 0


def covariances(quats, scales, covar, preci, triu) -> tuple[Any, None]:
    on_gpu(quats, scales)
    assert covar and not preci and not triu
    return quats.new_empty(len(quats), 3, 3), None


def proj(means, covars, Ks, *settings) -> tuple[Tensor, Tensor]:
    on_gpu(means, covars, Ks)
    assert {x.dtype for x in (means, covars, Ks)} == {torch.float32}
    return means.new_empty(*means.shape[:2], 2), means.new_empty(*means.shape[:2], 2, 2)


def harmonics(degree, dirs, coeffs, masks) -> Tensor:
    on_gpu(dirs, coeffs, masks)
    return torch.empty_like(dirs)


def find_tiles(means2d, radii, depths, camera_ids, gaussian_ids, *settings) -> tuple[Any, ...]:
    on_gpu(means2d, radii, depths)
    assert radii.dtype == torch.int32
    ids = torch.empty(NUM_INTERSECTIONS, dtype=torch.int64, device="cuda")
    return torch.empty_like(radii), ids, ids.int()


def encode_offsets(ids: Tensor, num_cameras: int, columns: int, rows: int) -> Tensor:
    on_gpu(ids)
    return torch.empty(num_cameras, rows, columns, dtype=torch.int32, device="cuda")


def draw(means2d, conics, colors, opacities, backgrounds, masks, width, height, *rest) -> Any:
    on_gpu(means2d, conics, colors, opacities, backgrounds, rest[1], rest[2])
    size = (len(means2d), height, width)
    pictures = colors.new_empty(*size, colors.shape[-1])
    return pictures, colors.new_empty(*size, 1), torch.empty(size, device="cuda")


KERNELS: dict[str, Callable[..., Any]] = {
    "fully_fused_projection_fwd": project,
    "quat_scale_to_covar_preci_fwd": covariances,
    "proj_fwd": proj,
    "compute_sh_fwd": harmonics,
    "isect_tiles": find_tiles,
    "isect_offset_encode": encode_offsets,
    "rasterize_to_pixels_fwd": draw,
}


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory):
    """The paper's network: two layers, all attributes from the tri-plane; the data are tiny."""
    folder = tmp_path_factory.mktemp("talker")
    config = small_config(write_synthetic_talker(folder / "data"), folder, 2, 2).pipeline
    config.model.rest_share = 0.0
    config.model.head.canonical = CanonicalFieldConfig()
    config.model.head.attention = SpatialAudioAttentionConfig()
    return config.setup(device="cpu", test_mode="val")


@pytest.fixture()
def model(pipeline, monkeypatch: pytest.MonkeyPatch) -> Iterator[GaussianTalkerModel]:
    """The model with its parameters and buffers on a GPU that does not exist."""
    model = pipeline.model
    monkeypatch.setattr("gsplat.cuda._wrapper._make_lazy_cuda_func", KERNELS.__getitem__)
    monkeypatch.setattr("gsplat.cuda._wrapper._make_lazy_cuda_obj", str)
    monkeypatch.setattr(rasterize_module, "import_gsplat", lambda: __import__("gsplat"))
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        kept = [(module, dict(module._parameters), dict(module._buffers)) for module in walk(model)]
        for module, parameters, buffers in kept:
            for name, value in parameters.items():
                module._parameters[name] = nn.Parameter(mode.from_tensor(value.detach()).cuda())
            for name, value in buffers.items():
                module._buffers[name] = mode.from_tensor(value).cuda()
        yield model
    for module, parameters, buffers in kept:
        module._parameters.update(parameters)
        module._buffers.update(buffers)
    model._still = None


def walk(model: nn.Module) -> list[nn.Module]:
    return list(model.modules())


def fake_views() -> Views:
    eye = torch.eye(4, device="cuda").expand(BATCH, 4, 4)
    return Views(eye, eye[:, :3, :3], WIDTH, HEIGHT)


def fake_batch() -> dict[str, Tensor]:
    boxes = torch.tensor([[4, 5, 20, 30]] * BATCH, device="cuda")
    picture = torch.zeros(BATCH, HEIGHT, WIDTH, 3, dtype=torch.uint8, device="cuda")
    return {
        "image": picture, "background": picture, "head_mask": picture[..., 0],
        "face_box": boxes, "lips_box": boxes, "eyes_box": boxes,
        "frame": torch.tensor([1, 2, 3], device="cuda"),
    }  # fmt: skip


@pytest.mark.parametrize("stage", Stage)
def test_a_training_step_stays_on_the_gpu(
    model, pipeline, stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    model.train()
    model.stage, model.step = stage, 700
    model.densifier.enabled = True
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    camera = pipeline.datamanager.train_dataset.cameras[0:BATCH]
    batch = fake_batch()
    outputs = model.get_outputs(camera, batch)
    objective = Objective(ObjectiveConfig(perceptual_loss=PerceptualLossConfig()))
    with pytest.warns(UserWarning, match="LPIPS needs"):
        terms = objective(outputs["rgb"], outputs["accumulation"], outputs["deltas"], batch)
    wanted = {"l1", "dssim", "mask", "ms-ssim+gradient"}
    assert set(terms) == wanted | ({"lips", "delta"} if stage is Stage.DEFORMATION else set())
    assert {term.device.type for term in terms.values()} == {"cuda"}
    assert model.get_metrics_dict(outputs, batch)["psnr"].device.type == "cuda"
    assert model._info["radii"].dtype == torch.int32


@torch.no_grad()
def test_every_output_of_the_viewer_stays_on_the_gpu(
    model, pipeline, monkeypatch: pytest.MonkeyPatch
):
    # The size of the cameras' pictures would be a number read from the GPU.
    monkeypatch.setattr(model, "views_of", lambda camera: fake_views(), raising=False)
    model.eval()
    model.stage, model.step = Stage.DEFORMATION, 700
    model.crop_box = OrientedBox.from_params((0.0, 5.0, 0.0), (0.0, 0.0, 0.0), (20.0, 10.0, 20.0))
    model.bank.overrides.blink = 0.5
    try:
        outputs = model.get_outputs(pipeline.datamanager.train_dataset.cameras[0:3], fake_batch())
        shapes = {name: (x.device.type, *x.shape[:3]) for name, x in outputs.items()}
    finally:
        model.crop_box, model.bank.overrides.blink = None, None
    assert {"rgb", "depth", "canonical", "attention_audio"} <= set(shapes)
    assert set(shapes.values()) == {("cuda", BATCH, HEIGHT, WIDTH)}


def test_replaced_audio_goes_where_the_model_is(model):
    bank = model.bank
    bank.drive(torch.zeros(101, *bank.audio.shape[1:]))
    try:
        condition = bank.condition(torch.tensor([0, 50, 100], device="cuda"))
        frames = bank.frames_at(torch.tensor([0.5], device="cuda"))
    finally:
        bank.drive(None)
    assert {frames.device.type, condition.audio.device.type, condition.eye.device.type} == {"cuda"}


def test_decibels_need_no_number_from_the_gpu():
    with FakeTensorMode():
        assert decibels(torch.ones((), device="cuda")).device.type == "cuda"
