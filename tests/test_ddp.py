"""Distributed training of the deformation stage, with two processes on the CPU."""

import copy
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from synthetic_talker import write_synthetic_talker
from talker_runs import small_config

WORLD_SIZE = 2
BATCH_SIZE = 2
STEP = 3


def distributed_config(data: Path, output_dir: Path, batch_size: int):
    config = small_config(data, output_dir, canonical_steps=0, num_steps=4)
    config.pipeline.deformation_batch_size = batch_size
    config.pipeline.model.head.tokens.audio_encoder.feature_dropout = 0.0
    config.pipeline.model.articulation.true_share = 0.0
    return config


def with_mouths_of_many_sizes(pipeline):
    """Cut rows off the lip boxes, more of them in some frames; the drawn mouths are all alike."""
    hand_out = pipeline.datamanager.next_train

    def next_train(step: int):
        camera, batch = hand_out(step)
        boxes = batch["lips_box"].clone()
        boxes[:, 3] -= batch["frame"] % 4
        return camera, {**batch, "lips_box": boxes}

    pipeline.datamanager.next_train = next_train
    return pipeline


def gradients(pipeline) -> dict[str, torch.Tensor]:
    pipeline.train()
    _, losses, _ = pipeline.get_train_loss_dict(STEP)
    sum(losses.values()).backward()
    return {
        name: parameter.grad.clone()
        for name, parameter in pipeline.model.named_parameters()
        if parameter.grad is not None
    }


def lip_error(pipeline) -> float:
    """The lip term of a step; without gradients that of this process's own pixels alone."""
    pipeline.train()
    return pipeline.get_train_loss_dict(STEP)[1]["lips"].item()


def worker(rank: int, config, port: int, folder: str) -> None:
    """One of the processes: build the pipeline as Nerfstudio's trainer does, take gradients."""
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"tcp://127.0.0.1:{port}", world_size=WORLD_SIZE, rank=rank
    )
    # Different seeds, as in ns-train: the wrapper must give all processes the same weights.
    torch.manual_seed(rank)
    pipeline = with_mouths_of_many_sizes(
        config.pipeline.setup(device="cpu", test_mode="val", world_size=WORLD_SIZE, local_rank=rank)
    )
    torch.save(pipeline.model.state_dict(), f"{folder}/weights{rank}.pt")
    torch.save(gradients(pipeline), f"{folder}/gradients{rank}.pt")
    joint = lip_error(pipeline)
    with torch.no_grad():
        torch.save((joint, lip_error(pipeline)), f"{folder}/lips{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_processes_have_the_gradient_of_the_joint_batch(tmp_path: Path):
    data = write_synthetic_talker(tmp_path / "data")
    from nerfstudio.scripts.train import _find_free_port

    config = distributed_config(data, tmp_path, BATCH_SIZE)
    mp.spawn(worker, args=(config, _find_free_port(), str(tmp_path)), nprocs=WORLD_SIZE)
    shared = [torch.load(tmp_path / f"gradients{rank}.pt") for rank in range(WORLD_SIZE)]
    assert shared[0].keys() == shared[1].keys()
    assert all(torch.equal(shared[0][name], shared[1][name]) for name in shared[0])

    config = distributed_config(data, tmp_path, BATCH_SIZE * WORLD_SIZE)
    joint = with_mouths_of_many_sizes(config.pipeline.setup(device="cpu", test_mode="val"))
    joint.model.load_state_dict(copy.deepcopy(torch.load(tmp_path / "weights0.pt")))
    lips = [torch.load(tmp_path / f"lips{rank}.pt") for rank in range(WORLD_SIZE)]
    value = lip_error(joint)
    assert [mean for mean, _ in lips] == pytest.approx([value] * WORLD_SIZE, rel=1e-5)
    # The processes' mouths differ in size, so a mean of their means would be another number.
    assert abs(sum(own for _, own in lips) / WORLD_SIZE - value) > 1e-4 * value
    expected = gradients(joint)
    assert expected.keys() == shared[0].keys()
    for name, gradient in expected.items():
        tolerance = 1e-4 * gradient.abs().max() + 1e-9
        assert (gradient - shared[0][name]).abs().max() <= tolerance, name


def test_another_number_of_gaussians_is_loaded_under_the_wrapper(tmp_path: Path, capsys):
    """A group of one process is enough for the wrapper, whose buckets have the tensors' sizes."""
    data = write_synthetic_talker(tmp_path / "data")
    config = distributed_config(data, tmp_path, BATCH_SIZE)
    config.pipeline.datamanager.dataparser.num_points = 300
    stored = config.pipeline.setup(device="cpu", test_mode="val").state_dict()
    config.pipeline.datamanager.dataparser.num_points = 400
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/meet", world_size=1, rank=0)
    try:
        pipeline = config.pipeline.setup(device="cpu", test_mode="val", world_size=WORLD_SIZE)
        assert "number of Gaussians stays" in " ".join(capsys.readouterr().out.split())
        parameters = dict(pipeline.model.named_parameters())
        count = len(parameters["head.gauss_params.means"])
        pipeline.load_pipeline(stored, STEP)
        assert len(parameters["head.gauss_params.means"]) < count
        for _ in range(2):
            found = gradients(pipeline)
            assert all(found[name].shape == parameters[name].shape for name in found)
            pipeline.zero_grad()
        now = dict(pipeline.model.named_parameters())
        assert all(now[name] is parameter for name, parameter in parameters.items())
    finally:
        dist.destroy_process_group()
