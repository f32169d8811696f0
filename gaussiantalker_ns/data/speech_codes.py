"""Articulation codes of a clip: what the audio token reads in place of raw speech features."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from gaussiantalker_ns.audio.articulation import (
    NUM_COMPONENTS,
    ArticulationCode,
    ArticulationConfig,
    fit_articulation,
)

RANGE_QUANTILES = 0.005, 0.995
"""Codes are kept inside what the training's mouths span between these quantiles."""


STRANGERS_SHRINKAGE = 1.5
"""Codes of other people's speech are that much nearer to the mean than the speaker's own; measured
on four pairs, docs/audio.md."""


class SpeechCodes(nn.Module):
    """The networks from speech to codes, and the codes of the training frames.

    Persistent are the networks and the range of codes; the frames' codes are found anew.
    """

    code_range: Float[Tensor, "2 k"]
    shrinkage: Float[Tensor, ""]
    predicted: Float[Tensor, "n k"]
    true: Float[Tensor, "n k"]

    def __init__(
        self, config: ArticulationConfig, window_frames: int, audio_shape: tuple[int, int]
    ) -> None:
        """Build the networks without a fit, as a checkpoint fills them.

        Args:
            config: Sizes and regularisation.
            window_frames: Frames in a window.
            audio_shape: Rows and features of one frame.
        """
        super().__init__()
        self.config = config
        in_dim = audio_shape[0] * audio_shape[1]
        self.code = ArticulationCode(config, window_frames, in_dim, NUM_COMPONENTS)
        limits = torch.tensor([[-torch.inf], [torch.inf]]).repeat(1, NUM_COMPONENTS)
        self.register_buffer("code_range", limits)
        self.register_buffer("shrinkage", torch.tensor(1.0))
        nothing = torch.zeros(0, NUM_COMPONENTS)
        self.register_buffer("predicted", nothing, persistent=False)
        self.register_buffer("true", nothing.clone(), persistent=False)

    def forward(
        self, audio: Float[Tensor, "b t w a"], lip_gain: float | None = None
    ) -> Float[Tensor, "b 1 1 k"]:
        """Codes of standardised windows, as the audio signal of a `FrameCondition`.

        Args:
            audio: The windows.
            lip_gain: None gives the likeliest mouth, which moves too little. A number gives codes
                the spread of the training's mouth, and as many times more.
        """
        codes = self.code(audio)
        if lip_gain is not None:
            codes = codes * (lip_gain * STRANGERS_SHRINKAGE / self.shrinkage)
        low, high = self.code_range
        return codes.clamp(low, high)[:, None, None]

    def training_codes(self, frames: Int[Tensor, " b"]) -> Float[Tensor, "b 1 1 k"]:
        """Codes of training frames: somewhere between out-of-fold prediction and truth."""
        share = self.config.true_share * torch.rand(len(frames), 1, device=frames.device)
        codes = torch.lerp(self.predicted[frames], self.true[frames], share)
        return codes[:, None, None]

    def fit(
        self,
        audio: Float[Tensor, "n w a"],
        mouth: Float[Tensor, "n c"],
        train_frames: Int[Tensor, " m"],
        silence: Float[Tensor, "s t w a"],
        closed_lips: Bool[Tensor, " n"],
    ) -> list[float]:
        """Fit the networks to a clip.

        Args:
            audio: Standardised features of all frames.
            mouth: Description of the mouth in all frames; NaN where unknown.
            train_frames: Frames of the training split.
            silence: Standardised windows of silence.
            closed_lips: Which frames have closed lips.

        Returns:
            Correlation of each component of the code with its out-of-fold prediction.
        """
        fitted = fit_articulation(
            self.config,
            audio.cpu(),
            mouth.cpu(),
            train_frames.cpu(),
            silence.cpu(),
            closed_lips.cpu().nonzero()[:, 0],
            self.code.window_frames,
        )
        device = self.code_range.device
        self.code = fitted.code.to(device)
        self.predicted, self.true = fitted.predicted.to(device), fitted.true.to(device)
        self.shrinkage.fill_(fitted.shrinkage)
        quantiles = torch.tensor(RANGE_QUANTILES, device=device)
        self.code_range = torch.quantile(self.true[train_frames], quantiles, dim=0)
        return fitted.correlations
