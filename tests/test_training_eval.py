"""Averages over held-out frames that do not all have the same figures."""

import math

import pytest
import torch

from gaussiantalker_ns.evaluation.training_eval import average_metrics, evaluate_frames


def test_an_average_is_over_the_frames_that_have_the_figure():
    """31 is the mean of 30 and 32, between which the deviation is the square root of 2."""
    frames = [
        {"psnr": 30.0, "face_ssim": math.nan, "head_psnr": 20.0},
        {"psnr": 32.0, "face_ssim": math.nan},
    ]
    assert average_metrics(frames) == {"psnr": 31.0, "head_psnr": 20.0}
    std = average_metrics(frames, with_std=True)
    assert set(std) == {"psnr", "psnr_std", "head_psnr", "head_psnr_std"}
    assert std["psnr_std"] == pytest.approx(math.sqrt(2))
    assert std["head_psnr_std"] == 0.0


class GreyModel:
    """Renders grey, and tells how far it is from the real frame."""

    def get_outputs_for_camera(self, camera):
        return {"rgb": torch.full((4, 4, 3), camera), "accumulation": torch.ones(4, 4, 1)}

    def get_image_metrics_and_images(self, outputs, batch):
        error = float((outputs["rgb"] - batch["image"]).abs().mean())
        return {"error": error}, {"img": outputs["rgb"]}


def test_frames_are_rendered_measured_and_kept(tmp_path):
    """Grey .5 and .25 before black: the mean error is .375."""
    frames = [(grey, {"image": torch.zeros(4, 4, 3)}) for grey in (0.5, 0.25)]
    values = evaluate_frames(GreyModel(), frames, False, image_stem=tmp_path / "eval")
    assert values["error"] == pytest.approx(0.375)
    assert values["num_rays_per_sec"] > values["fps"] > 0
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["eval_img_0000.png", "eval_img_0001.png"]
