"""Averages over held-out frames that do not all have the same figures."""

import math

import pytest

from gaussiantalker_ns.evaluation.training_eval import average_metrics


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
