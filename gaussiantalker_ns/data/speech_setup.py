"""What the training needs of the clip's sound before its first step, and what it says about it."""

import math

import torch
from jaxtyping import Float
from nerfstudio.utils.rich_utils import CONSOLE
from torch import Tensor

from gaussiantalker_ns.audio.encoders.registry import READY_MADE, get_encoder
from gaussiantalker_ns.audio.read import read_audio
from gaussiantalker_ns.audio.silence import silence_windows
from gaussiantalker_ns.data.conditions import FrameConditions
from gaussiantalker_ns.dataparsers.dataset_layout import DatasetLayout
from gaussiantalker_ns.dataparsers.signals import audio_remedy

NUM_SILENCE_WINDOWS = 128
"""Windows of silence kept for the training; a few megabytes of the checkpoint."""


def silence_features(
    layout: DatasetLayout, encoder_name: str, window_frames: int
) -> Float[Tensor, "m t w a"] | None:
    """Windows of silence for the training, if the clip's encoder can be run here."""
    if not layout.audio.exists():
        return None
    try:
        encoder = get_encoder(encoder_name)
    except (ValueError, FileNotFoundError) as error:
        CONSOLE.log(f"Training goes on without silent frames: {error}")
        return None
    samples = read_audio(layout.audio)
    windows = silence_windows(encoder, samples, NUM_SILENCE_WINDOWS, window_frames)
    return torch.from_numpy(windows)


def tell_of_ready_features(layout: DatasetLayout, encoder_name: str) -> None:
    """Say, before hours of training, that a run cannot speak audio that nobody encodes."""
    if encoder_name not in READY_MADE:
        return
    CONSOLE.print(
        f"{layout.root} gives ready features ({READY_MADE[encoder_name]}): the run can only be"
        " driven by such files (`gaussiantalker drive --audio speech.npy`), not by any audio. For"
        f" that, stop here. {audio_remedy(layout)}",
        style="yellow",
    )


def fit_speech_codes(bank: FrameConditions, mouth: Float[Tensor, "n c"] | None) -> None:
    """Fit the articulation code to the clip, for a model that is configured to read one.

    Args:
        bank: The model's conditions.
        mouth: Description of the mouth in all frames; None for data sets without landmarks.
    """
    if mouth is None:
        CONSOLE.log(
            "The data set has no landmarks of the mouth, so there is no articulation code: the"
            " audio token reads raw features, and strangers' voices move the lips less well."
        )
        return
    CONSOLE.log("Fitting the articulation code to the clip; this takes about a minute.")
    correlations = bank.fit_speech_codes(mouth)
    figures = ", ".join(f"{value:.2f}" for value in correlations if math.isfinite(value))
    CONSOLE.log(f"Components of the mouth follow unseen speech with correlations of {figures}")
