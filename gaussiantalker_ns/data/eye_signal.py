"""The eye signal of a clip: the upper face's expression, or the paper's blink value."""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from gaussiantalker_ns.face.topology import BLINK_PLACES, NUM_BROWS, UPPER_FACE_BLENDSHAPES
from gaussiantalker_ns.frame_signals import ConditionTrack

EyeForm = Literal["expression", "au45"]

SMALLEST_SPREAD = 1e-4
"""Signals that vary less than this are left unscaled instead of being blown up."""


def column_std(values: Float[Tensor, "m c"]) -> Float[Tensor, " c"]:
    """Standard deviation of each column, 1 where a column stands still."""
    deviation = values.std(dim=0, unbiased=False)
    return torch.where(deviation > SMALLEST_SPREAD, deviation, torch.ones_like(deviation))


def raw_eye_signal(track: ConditionTrack, form: EyeForm) -> Float[Tensor, "n e"]:
    """The signal as measured: 17 blendshapes in [0, 1], or the blink value."""
    if form == "expression" and track.blendshapes is not None:
        return track.blendshapes.float()[:, list(UPPER_FACE_BLENDSHAPES)]
    return track.blink.float()[:, None]


def eye_statistics(
    eye: Float[Tensor, "m e"], blink: Float[Tensor, " m"], form: EyeForm
) -> tuple[Float[Tensor, "2 2"], Float[Tensor, " e"], Float[Tensor, " e"]]:
    """Raw values of open and closed eyes, then mean and deviation that standardise the signal."""
    expression = form == "expression"
    mean = eye.mean(dim=0) if expression else torch.zeros(1)
    std = column_std(eye) if expression else torch.ones(1)
    blinks = eye[:, BLINK_PLACES] if expression else torch.stack([blink, blink], 1).float()
    low, high = blinks.quantile(0.05, dim=0), blinks.quantile(0.995, dim=0)
    return torch.stack([low, high]), mean, std


def expression_with_blink(
    eye: Float[Tensor, "b e"],
    blink: Float[Tensor, " b"],
    blink_range: Float[Tensor, "2 2"],
    mean: Float[Tensor, " e"],
    std: Float[Tensor, " e"],
) -> Float[Tensor, "b e"]:
    """Set the eye closure of standardised expressions to values in [0, 1]; gaze takes its mean."""
    low, high = blink_range
    raw = low + blink[:, None].to(eye) * (high - low)
    eye = eye.clone()
    eye[:, NUM_BROWS:] = 0.0
    eye[:, BLINK_PLACES] = (raw - mean[BLINK_PLACES]) / std[BLINK_PLACES]
    return eye
