"""The interface of audio feature encoders, and the samples they are given."""

from abc import ABC, abstractmethod
from typing import ClassVar

import numpy as np
from jaxtyping import Float32

from gaussiantalker_ns.audio.loudness import speech_gain
from gaussiantalker_ns.timebase import SAMPLES_PER_FRAME, fit_to_frames


class AudioFeatureEncoder(ABC):
    """Turns speech into one window of features per video frame."""

    name: ClassVar[str]
    """The name that data sets and checkpoints record."""
    window_items: int
    """Items in the window of one frame (`w`)."""
    feature_size: int
    """Numbers in one item (`a`)."""

    def encode(
        self,
        samples: Float32[np.ndarray, " samples"],
        num_frames: int | None = None,
        gain: float | None = None,
    ) -> Float32[np.ndarray, "frames w a"]:
        """Return the features of a whole recording.

        Args:
            samples: Mono speech at 16 kHz; sample 0 belongs to the start of video frame 0.
            num_frames: How many frames to return; None covers the whole recording. The samples
                are cut, or continued with silence, to match.
            gain: The factor that normalises the speech; None measures it (`loudness.speech_gain`).

        Returns:
            One window per video frame of 1/25 s.
        """
        return self.encode_prepared(prepare_samples(samples, num_frames, gain))

    @abstractmethod
    def encode_prepared(
        self, samples: Float32[np.ndarray, " samples"]
    ) -> Float32[np.ndarray, "frames w a"]:
        """Return the features of normalised samples that fill whole video frames."""


def prepare_samples(
    samples: Float32[np.ndarray, " samples"], num_frames: int | None, gain: float | None
) -> Float32[np.ndarray, " m"]:
    """Normalise the samples and cut or pad them to whole video frames."""
    if samples.ndim != 1 or len(samples) == 0:
        raise ValueError(
            f"The audio has shape {samples.shape}; expected one row of at least one mono sample."
            " Read it with gaussiantalker_ns.audio.read.read_audio."
        )
    if num_frames is None:
        num_frames = -(-len(samples) // SAMPLES_PER_FRAME)
    gain = speech_gain(samples) if gain is None else gain
    return fit_to_frames(samples, num_frames, SAMPLES_PER_FRAME) * np.float32(gain)
