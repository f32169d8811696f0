"""What an audio feature encoder is, and how one is chosen by name."""

from abc import ABC, abstractmethod
from typing import ClassVar

import numpy as np
from jaxtyping import Float32

from gaussiantalker_ns.audio import SAMPLES_PER_FRAME
from gaussiantalker_ns.audio.levelling import speech_gain
from gaussiantalker_ns.audio.read import fit_to_frames

ENCODER_NAMES = ("whisper", "wav2vec2", "hubert", "mel")
"""The encoders that compute features; the first one is the default."""

READY_MADE = {"deepspeech": "aud_ds.npy", "esperanto": "aud_eo.npy"}
"""Encoders whose features are only read, from files that other tools made."""

DEFAULT_ENCODER = ENCODER_NAMES[0]


class AudioFeatureEncoder(ABC):
    """Turns speech into one window of features per video frame."""

    name: ClassVar[str]
    """The name that data sets and checkpoints record."""
    window_items: int
    """Items in the window of one frame (`w`)."""
    feature_size: int
    """Numbers in one item (`a`)."""

    @abstractmethod
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
            gain: The factor that levels the speech; None measures it (`levelling.speech_gain`).

        Returns:
            One window per video frame of 1/25 s.
        """


def prepare_samples(
    samples: Float32[np.ndarray, " samples"], num_frames: int | None, gain: float | None
) -> Float32[np.ndarray, " m"]:
    """Level the samples and cut or pad them to whole video frames, as every `encode` begins."""
    if samples.ndim != 1 or len(samples) == 0:
        raise ValueError(
            f"The audio has shape {samples.shape}; expected one row of at least one mono sample."
            " Read it with gaussiantalker_ns.audio.read.read_audio."
        )
    if num_frames is None:
        num_frames = -(-len(samples) // SAMPLES_PER_FRAME)
    gain = speech_gain(samples) if gain is None else gain
    return fit_to_frames(samples, num_frames, SAMPLES_PER_FRAME) * np.float32(gain)


def get_encoder(name: str = DEFAULT_ENCODER, device: str = "cpu") -> AudioFeatureEncoder:
    """Return the encoder called `name`, with its weights loaded on `device`.

    Raises:
        ValueError: If there is no such encoder, or it cannot compute features here.
        FileNotFoundError: If its weights are neither on this machine nor to be had.
    """
    if name == "whisper":
        from gaussiantalker_ns.audio.whisper import WhisperEncoder

        return WhisperEncoder(device=device)
    if name in ("wav2vec2", "hubert"):
        from gaussiantalker_ns.audio.self_supervised import HubertEncoder, Wav2Vec2Encoder

        return (HubertEncoder if name == "hubert" else Wav2Vec2Encoder)(device=device)
    if name == "mel":
        from gaussiantalker_ns.audio.mel import MelEncoder

        return MelEncoder()
    if name in READY_MADE:
        raise ValueError(
            f"The encoder {name!r} was asked to compute features; it can only be used with ready"
            f" ones ({READY_MADE[name]}, one window per frame), as its network is not part of this"
            " package. Put the file into the data set, or choose another encoder, such as"
            " 'whisper'."
        )
    raise ValueError(f"Unknown audio encoder {name!r}; expected one of {', '.join(ENCODER_NAMES)}.")
