"""The whole way on a GPU: both training stages, pictures like those of a CPU, driving."""

from pathlib import Path

import numpy as np
import pytest
import torch
from synthetic_talker import write_synthetic_talker
from talker_runs import run, small_config

from gaussiantalker_ns.fields.attention import SpatialAudioAttentionConfig
from gaussiantalker_ns.fields.canonical import CanonicalFieldConfig
from gaussiantalker_ns.inference.talker import Talker
from gaussiantalker_ns.scripts.dev.gpu_benchmark import host_waits
from gaussiantalker_ns.scripts.dev.profile_training import train_step

PICTURE_TOLERANCE = 2e-3
"""Mean difference of the two rasterizers' pictures: faint splats begin and end elsewhere."""


@pytest.mark.gpu
def test_a_head_is_trained_shown_and_driven_on_a_gpu(tmp_path: Path, device: str = "cuda"):
    data = write_synthetic_talker(tmp_path / "data", num_frames=24)
    config = small_config(data, tmp_path / "outputs", canonical_steps=20, num_steps=40)
    config.machine.device_type = device
    head = config.pipeline.model.head
    head.canonical, head.attention = CanonicalFieldConfig(), SpatialAudioAttentionConfig()
    densification = config.pipeline.model.densification
    densification.start, densification.every, densification.grow = 4, 5, True
    densification.grow_start = 4
    densification.gradient_threshold = 0.0
    trainer = run(config)
    model = trainer.pipeline.model.eval()
    assert model.device.type == device
    assert len(model.gauss_params["means"]) > 400
    for name, parameter in model.named_parameters():
        assert parameter.device.type == device and torch.isfinite(parameter).all(), name

    on_cpu = config.pipeline.setup(device="cpu", test_mode="test").model.eval()
    on_cpu.load_state_dict(model.state_dict())
    on_cpu.stage, on_cpu.step = model.stage, model.step
    camera = trainer.pipeline.datamanager.eval_dataset.cameras[0:1]
    shown, expected = (each.get_outputs_for_camera(camera) for each in (model, on_cpu))
    for name in expected:
        assert shown[name].device.type == device, name
        if name != "depth":
            assert float((shown[name].cpu() - expected[name]).abs().mean()) < PICTURE_TOLERANCE

    speech = 0.1 * np.random.default_rng(0).standard_normal(6400).astype(np.float32)
    frames = list(Talker.load(tmp_path / "outputs").render(speech))
    assert len(frames) == 10
    assert {(frame.shape, frame.dtype.name) for frame in frames} == {((64, 64, 3), "uint8")}


@pytest.mark.gpu
def test_a_step_of_the_second_stage_waits_for_gsplat_alone(tmp_path: Path):
    """gsplat has to know the number of intersections; see `WAITS_OF_A_STEP` in test_fake_cuda."""
    data = write_synthetic_talker(tmp_path / "data", num_frames=24)
    config = small_config(data, tmp_path / "outputs", canonical_steps=2, num_steps=6)
    config.machine.device_type = "cuda"
    trainer = run(config)
    train_step(trainer, 6)
    waits = host_waits(lambda: train_step(trainer, 7), on_gpu=True)
    assert all(line.startswith("_wrapper.py") for line in waits), waits
    number = torch.ones(1, device="cuda")
    assert sum(host_waits(number.item, on_gpu=True).values()) == 1


@pytest.mark.gpu
def test_batches_cut_out_on_a_gpu_are_those_of_main_memory(tmp_path: Path):
    data = write_synthetic_talker(tmp_path / "data", num_frames=24)
    config = small_config(data, tmp_path / "outputs", 2, 4).pipeline.datamanager
    managers = {device: config.setup(device=device) for device in ("cpu", "cuda")}
    for manager in managers.values():
        manager.set_batch_size(3)
    for step in range(4):
        (_, expected), (_, found) = (m.next_train(step) for m in managers.values())
        assert expected.keys() == found.keys()
        for name, value in expected.items():
            assert found[name].device.type == "cuda" and torch.equal(found[name].cpu(), value), name
    assert managers["cuda"]._device_crops is not None
