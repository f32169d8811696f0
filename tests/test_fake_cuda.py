"""Where tensors are: the model in torch's fake CUDA mode, which knows devices but has no numbers.

Any operation that mixes main memory and GPU raises there as on a real GPU, and so does reading a
number back; gsplat's own wrappers check shapes, types and contiguity. Only its kernels are missing.
"""

import copy
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from fake_gsplat import KERNELS
from host_waits import HostWaits
from nerfstudio.data.scene_box import OrientedBox
from synthetic_talker import write_synthetic_talker
from talker_runs import small_config
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from gaussiantalker_ns.config import gaussiantalker
from gaussiantalker_ns.engine.optimizers import FusedAdamConfig, Stage
from gaussiantalker_ns.fields.attention import SpatialAudioAttentionConfig
from gaussiantalker_ns.fields.canonical import CanonicalFieldConfig
from gaussiantalker_ns.losses import PerceptualLossConfig
from gaussiantalker_ns.losses.objective import Objective, ObjectiveConfig
from gaussiantalker_ns.metrics.image import decibels
from gaussiantalker_ns.model import GaussianTalkerModel
from gaussiantalker_ns.rendering import rasterize as rasterize_module
from gaussiantalker_ns.rendering.splatting import Views

HEIGHT, WIDTH, BATCH = 48, 32, 3


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory):
    """The paper's network: two layers, all attributes from the tri-plane; the data are tiny."""
    folder = tmp_path_factory.mktemp("talker")
    config = small_config(write_synthetic_talker(folder / "data"), folder, 2, 2).pipeline
    config.model.silence_prob = 0.0
    config.model.head.canonical = CanonicalFieldConfig()
    config.model.head.attention = SpatialAudioAttentionConfig()
    return config.setup(device="cpu", test_mode="val")


@pytest.fixture()
def model(pipeline, monkeypatch: pytest.MonkeyPatch) -> Iterator[GaussianTalkerModel]:
    """The model with its parameters and buffers on a GPU that does not exist."""
    with on_fake_gpu(pipeline.model, monkeypatch) as model:
        yield model


@contextmanager
def on_fake_gpu(
    model: GaussianTalkerModel, monkeypatch: pytest.MonkeyPatch
) -> Iterator[GaussianTalkerModel]:
    monkeypatch.setattr("gsplat.cuda._wrapper._make_lazy_cuda_func", KERNELS.__getitem__)
    monkeypatch.setattr("gsplat.cuda._wrapper._make_lazy_cuda_obj", str)
    monkeypatch.setattr(rasterize_module, "import_gsplat", lambda: __import__("gsplat"))
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        kept = [(module, dict(module._parameters), dict(module._buffers)) for module in walk(model)]
        for module, parameters, buffers in kept:
            # A layer without a bias has None for it.
            for name, value in ((n, v) for n, v in parameters.items() if v is not None):
                module._parameters[name] = nn.Parameter(mode.from_tensor(value.detach()).cuda())
            for name, value in buffers.items():
                module._buffers[name] = mode.from_tensor(value).cuda()
        yield model
    for module, parameters, buffers in kept:
        module._parameters.update(parameters)
        module._buffers.update(buffers)
    model._cached_canonical = None


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
def test_a_training_step_stays_on_the_gpu(model, pipeline, stage: Stage):
    model.train()
    model.stage, model.step = stage, 700
    model.densifier.enabled = True
    camera = pipeline.datamanager.train_dataset.cameras[0:BATCH]
    batch = fake_batch()
    outputs = model.get_outputs(camera, batch)
    offline = PerceptualLossConfig(network="ms-ssim")
    objective = Objective(ObjectiveConfig(perceptual_loss=offline, delta=1e-3), HEIGHT * WIDTH)
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
    bank.set_audio(torch.zeros(101, *bank.audio.shape[1:]))
    try:
        condition = bank.condition(torch.tensor([0, 50, 100], device="cuda"))
        frames = bank.frames_at(torch.tensor([0.5], device="cuda"))
    finally:
        bank.set_audio(None)
    assert {frames.device.type, condition.audio.device.type, condition.eye.device.type} == {"cuda"}


def test_decibels_need_no_number_from_the_gpu():
    with FakeTensorMode():
        assert decibels(torch.ones((), device="cuda")).device.type == "cuda"


WAITS_OF_A_STEP = {
    # gsplat sizes the list of pairs of Gaussians and tiles by their number; there is no kernel of
    # its without that.
    "gsplat's number of intersections": 1,
}
"""Every wait of a training step for the GPU, with its reason."""


@pytest.fixture(scope="module")
def paper_pipeline(tmp_path_factory: pytest.TempPathFactory):
    """`gaussiantalker` on tiny data, with frames whose audio is silence."""
    folder = tmp_path_factory.mktemp("paper")
    config = copy.deepcopy(gaussiantalker.config).pipeline
    manager, model = config.datamanager, config.model
    manager.data = write_synthetic_talker(folder / "data")
    manager.dataparser.image_size, manager.dataparser.num_points = 64, 400
    model.head.triplane.resolutions = (16, 32)
    model.silence_prob = 0.15
    # The comparing network's weights are not on every machine; it has no wait of its own.
    model.objective.perceptual = 0.0
    config.deformation_batch_size, config.canonical_steps = BATCH, 100
    pipeline = config.setup(device="cpu", test_mode="val")
    bank = pipeline.model.bank
    bank.closed_lips[:] = True
    bank.num_closed_lips = len(bank.closed_lips)
    bank.silence_features = torch.zeros(
        5, *bank.condition(torch.tensor([0])).audio.shape[1:]
    ).half()
    return pipeline


@pytest.mark.parametrize("stage", Stage)
@pytest.mark.parametrize("room_on_gpu", [True, False])
def test_a_training_step_waits_for_nothing_but(
    paper_pipeline, stage: Stage, room_on_gpu: bool, monkeypatch: pytest.MonkeyPatch
):
    """Data manager, network, rasterizer, losses and optimisers, with silent frames."""
    pipeline, step = paper_pipeline, 90 if stage is Stage.CANONICAL else 150
    monkeypatch.setattr(Tensor, "pin_memory", lambda self, device=None: self)
    memory = 2**30 if room_on_gpu else 0
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (memory, memory))
    manager = pipeline.datamanager
    monkeypatch.setattr(manager, "device", "cuda")
    pipeline.enter_stage_of(step)
    pipeline.train()
    with on_fake_gpu(pipeline.model, monkeypatch) as model:
        groups = model.get_param_groups()
        optimizers = [FusedAdamConfig().setup(params=group) for group in groups.values()]
        model.update_to_step(step)
        for number in (step, step + 1):  # The first one brings the crops and states of Adam.
            with HostWaits() as waits:
                _, losses, _ = pipeline.get_train_loss_dict(number)
                assert all(loss.device.type == "cuda" for loss in losses.values())
                # Autograd has no engine for a GPU that does not exist; its own operations and
                # gsplat's gradients only start kernels.
                for parameter in model.parameters():
                    parameter.grad = torch.empty_like(parameter)
                for optimizer in optimizers:
                    optimizer.step()
                    optimizer.zero_grad()
        kept = manager._device_crops is not None
    manager._batches.close()
    manager._batches = manager._device_crops = manager._crops = None
    assert kept == room_on_gpu
    assert len(losses) == (3 if stage is Stage.CANONICAL else 4)
    assert waits.found == WAITS_OF_A_STEP


def test_waits_are_found():
    """What the step above is free of is seen where it is."""
    with FakeTensorMode() as mode, HostWaits() as waits:
        on_gpu, here = torch.zeros(4, 3, device="cuda"), mode.from_tensor(torch.zeros(4, 3))
        on_gpu.new_tensor([1.0, 2.0, 3.0])
        here.to("cuda")
        here.to("cuda", non_blocking=True)
        on_gpu.cpu()
        on_gpu[:, [0, 2]]
    assert sum(waits.found.values()) == 4
