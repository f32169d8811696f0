"""Training through both stages on the synthetic head: what moves when, and what the log says."""

import copy
from pathlib import Path
from urllib.error import URLError

import pytest
import torch
from synthetic_talker import write_synthetic_talker
from talker_runs import small_config, start, step

from gaussiantalker_ns import pipeline as pipeline_module
from gaussiantalker_ns.engine.optimizers import Stage
from gaussiantalker_ns.evaluation import training_eval
from gaussiantalker_ns.pipeline import GaussianTalkerPipelineConfig

CANONICAL_STEPS = 4
NUM_STEPS = 8


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_synthetic_talker(tmp_path_factory.mktemp("talker") / "data")


def snapshot(trainer) -> dict[str, torch.Tensor]:
    return {
        name: torch.cat([p.detach().flatten().clone() for p in parameters])
        for name, parameters in trainer.pipeline.model.get_param_groups().items()
    }


def changed(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> set[str]:
    return {name for name in before if not torch.equal(before[name], after[name])}


def test_both_stages_train_what_they_should(data: Path, tmp_path: Path):
    trainer = start(small_config(data, tmp_path, CANONICAL_STEPS, NUM_STEPS))
    pipeline = trainer.pipeline
    sizes, stages, terms = [], [], []
    first = snapshot(trainer)
    for number in range(CANONICAL_STEPS):
        terms.append(set(step(trainer, number)))
        sizes.append(pipeline.datamanager.batch_size)
        stages.append(pipeline.model.stage)
    middle = snapshot(trainer)
    for number in range(CANONICAL_STEPS, NUM_STEPS):
        terms.append(set(step(trainer, number)))
        sizes.append(pipeline.datamanager.batch_size)
        stages.append(pipeline.model.stage)
    last = snapshot(trainer)

    gaussians = {"means", "scales", "quats", "opacities", "features_dc"}
    assert gaussians <= changed(first, middle)
    assert not changed(first, middle) & {"triplane", "deformation"}
    assert gaussians | {"triplane", "deformation"} <= changed(middle, last)
    assert sizes == [1] * CANONICAL_STEPS + [4] * (NUM_STEPS - CANONICAL_STEPS)
    assert stages == [Stage.CANONICAL] * CANONICAL_STEPS + [Stage.DEFORMATION] * CANONICAL_STEPS
    assert all(names == {"l1", "dssim", "mask"} for names in terms[:CANONICAL_STEPS])
    assert all("lips" in names and "delta" in names for names in terms[CANONICAL_STEPS:])


def test_rates_follow_the_stages(data: Path, tmp_path: Path):
    config = small_config(data, tmp_path, CANONICAL_STEPS, NUM_STEPS)
    trainer = start(config)
    optimizers = trainer.optimizers.optimizers
    base = {name: config.optimizers[name]["optimizer"].lr for name in optimizers}
    for number in range(NUM_STEPS):
        if number == CANONICAL_STEPS:
            for name in ("means", "deformation"):
                assert optimizers[name].param_groups[0]["lr"] == pytest.approx(base[name])
        step(trainer, number)
    left = config.optimizers["means"]["scheduler"].deformation_final
    assert optimizers["means"].param_groups[0]["lr"] == pytest.approx(left * base["means"])


def test_a_single_stage_deforms_at_once(data: Path, tmp_path: Path):
    trainer = start(small_config(data, tmp_path, canonical_steps=0, num_steps=2))
    before = snapshot(trainer)
    step(trainer, 0)
    assert trainer.pipeline.model.stage is Stage.DEFORMATION
    assert trainer.pipeline.datamanager.batch_size == 4
    assert {"means", "triplane", "deformation"} <= changed(before, snapshot(trainer))


def test_the_loss_falls(data: Path, tmp_path: Path):
    trainer = start(small_config(data, tmp_path, 20, 40))
    terms = [step(trainer, number) for number in range(40)]
    losses = [(term["l1"] + term["dssim"]).item() for term in terms]
    assert sum(losses[15:20]) < 0.95 * sum(losses[:5])
    assert sum(losses[35:]) < 1.1 * sum(losses[15:20])


def test_evaluation_reports_regions_and_lips(data: Path, tmp_path: Path):
    trainer = start(small_config(data, tmp_path, 1, 2))
    metrics = trainer.pipeline.get_average_eval_image_metrics(step=0, output_path=tmp_path / "img")
    assert {"psnr", "ssim", "face_psnr", "face_ssim", "head_psnr", "lips_psnr"} <= set(metrics)
    assert "lips_open_correlation" in metrics
    assert len(list((tmp_path / "img").glob("*.png"))) == len(
        trainer.pipeline.datamanager.eval_dataset
    )


@pytest.mark.parametrize("stage", Stage)
def test_evaluation_has_the_loss_terms_of_training(data: Path, tmp_path: Path, stage: Stage):
    config = small_config(data, tmp_path, int(stage is Stage.CANONICAL), 2)
    pipeline = config.pipeline.setup(device="cpu", test_mode="val")
    _, expected, _ = pipeline.get_train_loss_dict(0)
    _, losses, _ = pipeline.get_eval_loss_dict(0)
    assert pipeline.model.stage is stage and set(losses) == set(expected)
    assert torch.isfinite(sum(losses.values()))


def test_frames_without_a_head_are_left_out_of_its_averages(data: Path, tmp_path: Path):
    """The second of two frames has no head and a face too small for SSIM, which is NaN there."""
    config = small_config(data, tmp_path, 0, 2).pipeline
    config.measure_lips = False
    pipeline = config.setup(device="cpu", test_mode="test")
    frames = [pipeline.datamanager.fixed_indices_eval_dataloader[index] for index in range(2)]
    alone = pipeline.get_average_image_metrics(frames[:1], "eval")
    frames[1][1]["head_mask"].zero_()
    frames[1][1]["face_box"] = torch.tensor([20, 20, 25, 25])
    both = pipeline.get_average_image_metrics(frames, "eval", get_std=True)
    for name in ("head_psnr", "face_ssim"):
        assert both[name] == pytest.approx(alone[name]) and both[f"{name}_std"] == 0.0
    assert both["psnr"] != alone["psnr"] and both["psnr_std"] > 0
    assert "get_image_metrics_and_images" not in vars(pipeline.model)


def test_speed_is_that_of_rendering_alone(data: Path, tmp_path: Path, monkeypatch):
    pipeline = small_config(data, tmp_path, 0, 2).pipeline.setup(device="cpu", test_mode="test")
    frames = [pipeline.datamanager.fixed_indices_eval_dataloader[0]]
    pipeline.config.measure_lips = False
    monkeypatch.setattr(training_eval.time, "perf_counter", iter([0.0, 0.25]).__next__)
    metrics = pipeline.get_average_image_metrics(frames, "eval")
    assert (metrics["fps"], metrics["num_rays_per_sec"]) == (4.0, 4.0 * 64 * 64)


def test_kernels_are_compiled_before_the_first_step(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    calls = []
    monkeypatch.setattr(pipeline_module, "warm_up", lambda: calls.append(1))
    config = small_config(data, tmp_path, 0, 2).pipeline
    config.setup(device="cpu", test_mode="test")
    assert not calls
    config.setup(device="cpu", test_mode="val")
    assert calls == [1]


@pytest.mark.parametrize(("layers", "in_kernels"), [(1, True), (2, False)])
def test_torch_keeps_to_one_thread_where_kernels_do_the_work(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layers: int, in_kernels: bool
):
    calls = []
    monkeypatch.setattr(pipeline_module, "use_threads", lambda *args: calls.append(args))
    config = small_config(data, tmp_path, 0, 2).pipeline
    config.model.head.attention.num_layers = layers
    config.setup(device="cpu", test_mode="test")
    assert calls[-1] == ("cpu", 1, in_kernels)


@pytest.mark.parametrize(
    ("canonical_steps", "says"), [(9, True), (8, True), (7, False), (0, False)]
)
def test_a_training_without_deformation_says_so_before_it_starts(
    data: Path, tmp_path: Path, capsys, canonical_steps: int, says: bool
):
    start(small_config(data, tmp_path, canonical_steps, NUM_STEPS))
    said = " ".join(capsys.readouterr().out.split())
    expected = f"ends after 8 steps, inside the canonical stage of {canonical_steps}:"
    assert said.count(expected) == int(says)
    assert ("raise --max-num-iterations" in said) == says


def test_a_training_needs_the_weights_of_lpips_and_nothing_else_does(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def refuse(url: str, *arguments: object, **options: object) -> None:
        raise URLError("no route to host")

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    config = small_config(data, tmp_path, 0, 2).pipeline
    config.model.objective.perceptual = 0.01
    for mode in ("test", "inference"):
        pipeline = config.setup(device="cpu", test_mode=mode)
        assert pipeline.model.objective.perceptual.name == "lpips-alex"
    with pytest.raises(FileNotFoundError, match=r"perceptual-loss\.network ms-ssim"):
        config.setup(device="cpu", test_mode="val")
    config.model.objective.perceptual_loss.network = "ms-ssim"
    _, losses, _ = config.setup(device="cpu", test_mode="val").get_train_loss_dict(0)
    assert losses["ms-ssim+gradient"] > 0


@pytest.mark.parametrize("name", ["canonical_batch_size", "deformation_batch_size"])
def test_batches_without_frames_are_refused(name: str):
    with pytest.raises(ValueError, match=f"{name} is 0; expected at least 1 frame a step"):
        GaussianTalkerPipelineConfig(**{name: 0})


def test_configurations_are_independent(data: Path, tmp_path: Path):
    first = small_config(data, tmp_path, 1, 2)
    second = copy.deepcopy(first)
    second.pipeline.model.head.sh_degree = 0
    assert first.pipeline.model.head.sh_degree == 1
