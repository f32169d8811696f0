"""`gaussiantalker` and `-lite` have the sizes, rates and signals of paper and code, and train."""

import copy
from pathlib import Path

import pytest
import torch
from synthetic_talker import write_synthetic_talker
from talker_runs import start, step
from torch import nn

from gaussiantalker_ns.config import gaussiantalker, gaussiantalker_lite
from gaussiantalker_ns.engine.optimizers import StageRate
from gaussiantalker_ns.fields.audio_encoder import AudioEncoder, AudioEncoderConfig
from gaussiantalker_ns.fields.canonical import CanonicalFieldConfig
from gaussiantalker_ns.fields.tokens import ConditionTokensConfig
from gaussiantalker_ns.frame_signals import flatten_pose

LOSS_LEFT = 0.85
"""What is left of the loss of the canonical stage's first steps at its end; measured: 0.6."""
CANONICAL_STEPS, NUM_STEPS = 100, 140
METHODS = {"gaussiantalker": gaussiantalker, "gaussiantalker-lite": gaussiantalker_lite}


def num_parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_numbers_of_parameters_are_the_public_codes() -> None:
    head = gaussiantalker.config.pipeline.model.head
    assert num_parameters(head.triplane.setup(torch.tensor([[0.0] * 3, [1.0] * 3]))) == 1_966_080
    assert num_parameters(CanonicalFieldConfig().setup(64, 16)) == 98_104
    assert num_parameters(head.deformation.setup(64, 16)) == 49_211
    attention = head.attention.setup(64, 64, 4)
    assert [num_parameters(layer) for layer in attention.layers] == [33_472, 33_472]
    lite = gaussiantalker_lite.config.pipeline.model.head.attention.setup(64, 64, 4)
    assert [num_parameters(layer) for layer in lite.layers] == [33_472]
    assert num_parameters(head.tokens.setup(16, 29, 1).viewpoint) == 12 * 64 + 64 * 64


def test_shapes_of_the_audio_network_are_the_public_codes() -> None:
    """16 DeepSpeech rows are halved four times; eight codes of 32 numbers are averaged."""
    network: AudioEncoder = AudioEncoderConfig().setup(16, 29, 64)
    convolutions = [layer for layer in network.window_net if isinstance(layer, nn.Conv1d)]
    assert [(c.in_channels, c.out_channels) for c in convolutions] == [
        (29, 32),
        (32, 32),
        (32, 64),
        (64, 64),
    ]
    assert all((c.kernel_size, c.stride, c.padding) == ((3,), (2,), (1,)) for c in convolutions)
    scores = [m for m in network.temporal_attention.score if isinstance(m, nn.Conv1d)]
    assert [c.in_channels for c in scores] == [32, 16, 8, 4, 2]
    linears = [
        (m.in_features, m.out_features) for m in network.modules() if isinstance(m, nn.Linear)
    ]
    assert linears == [(64, 64), (64, 32), (8, 8), (32, 64), (64, 64)]


# Extent 1.8: rate at the start, at the end of 8000 canonical steps, at the end of 10 000 more.
RATES = {
    "means": (1.6e-4 * 1.8, 2.54e-5 * 1.8, 1.6e-5 * 1.8),
    "triplane": (1.6e-3 * 1.8, 6.37e-4 * 1.8, 5.06e-4 * 1.8),
    "canonical_field": (1e-4 * 1.8, 3.98e-5 * 1.8, 3.16e-5 * 1.8),
    "deformation": (1e-4 * 1.8, 3.98e-5 * 1.8, 3.16e-5 * 1.8),
    "features_dc": (2.5e-3,) * 3,
    "features_rest": (1.25e-4,) * 3,
    "opacities": (0.05,) * 3,
    "scales": (5e-3,) * 3,
    "quats": (1e-3,) * 3,
}


@pytest.mark.parametrize("method", METHODS)
def test_rates_are_the_public_codes(method: str) -> None:
    config = METHODS[method].config
    assert config.pipeline.canonical_steps == 8000 and config.max_num_iterations == 18_000
    assert set(config.optimizers) == set(RATES)
    for name, (first, middle, last) in RATES.items():
        group = config.optimizers[name]
        rate = StageRate(group["scheduler"])
        rate.canonical_steps, rate.deformation_steps = 8000, 10_000
        base = group["optimizer"].lr
        found = [base * rate(step) for step in (0, 7999, 8000, 17_999)]
        assert found == pytest.approx([first, middle, first, last], rel=3e-3), name


def test_the_viewpoint_token_hardly_varies_over_frames() -> None:
    """Heads that turn by some degrees, 8 dm before the camera; the public code's token: .027."""
    torch.manual_seed(0)
    angles = 0.06 * torch.randn(500)
    poses = torch.eye(4).repeat(500, 1, 1)
    poses[:, 0, 0] = poses[:, 2, 2] = angles.cos()
    poses[:, 0, 2], poses[:, 2, 0] = angles.sin(), -angles.sin()
    poses[:, :3, 3] = torch.tensor([0.0, 0.0, 8.0]) + 0.15 * torch.randn(500, 3)
    variation = []
    for seed in range(10):
        torch.manual_seed(seed)
        tokens = ConditionTokensConfig().setup(2, 384, 17)
        token = tokens.viewpoint(flatten_pose(poses))
        variation.append(float(token.std(dim=0).norm() / token.mean(dim=0).norm()))
        # Neither drowned by the null token, whose entries have unit standard deviation, nor
        # drowning it.
        assert 0.2 < float(token.square().mean().sqrt()) < 2.0
    assert 0.01 < sum(variation) / 10 < 0.06


@pytest.mark.parametrize("method", METHODS)
def test_a_shrunk_paper_method_trains(method: str, tmp_path: Path) -> None:
    """Its own attributes, feed-forward networks, layers, densification and rising harmonics."""
    data = write_synthetic_talker(tmp_path / "data", num_frames=24)
    config = copy.deepcopy(METHODS[method].config)
    config.data, config.output_dir = data, tmp_path / "outputs"
    config.experiment_name, config.timestamp = "synthetic", "run"
    config.machine.device_type = "cpu"
    config.vis = "tensorboard"
    config.max_num_iterations = NUM_STEPS
    config.logging.local_writer.enable = False
    pipeline = config.pipeline
    pipeline.canonical_steps, pipeline.num_threads = CANONICAL_STEPS, 1
    pipeline.deformation_batch_size = 3
    pipeline.datamanager.data = data
    pipeline.datamanager.dataparser.image_size = 64
    pipeline.datamanager.dataparser.num_points = 300
    model = pipeline.model
    model.objective.perceptual = 0.0
    model.head.triplane.resolutions, model.head.triplane.channels = (16, 32), 32
    model.sh_degree_interval = 10
    densification = model.densification
    densification.start, densification.grow_start, densification.every = 5, 10, 10
    densification.prune_scale_start, densification.gradient_threshold = 20, 3e-4
    trainer = start(config)
    head = trainer.pipeline.model.head
    assert len(head.fusion.layers) == {"gaussiantalker": 2, "gaussiantalker-lite": 1}[method]
    assert all(layer.feed_forward is not None for layer in head.fusion.layers)
    before = {name: value.detach().clone() for name, value in head.named_parameters()}
    losses = []
    for number in range(NUM_STEPS):
        terms = step(trainer, number)
        losses.append(float(terms["l1"] + terms["dssim"]))
    ends = (8, CANONICAL_STEPS, NUM_STEPS)
    mean = [sum(losses[end - 8 : end]) / 8 for end in ends]
    assert mean[1] < LOSS_LEFT * mean[0] and mean[2] < 1.05 * mean[1]
    assert len(head.gauss_params["means"]) > 300
    assert bool((head.canonical().sh[:, 9:] != 0).any())
    still = {
        name
        for name, value in head.named_parameters()
        if value.shape == before[name].shape and torch.equal(value, before[name])
    }
    # Keys' biases change no attention; the attributes of F_can make the free ones idle.
    idle = {"gauss_params." + name for name in ("opacities", "features_dc", "features_rest")}
    assert {name for name in still if "key.bias" not in name} <= idle
