"""The registry of audio feature encoders: from a name to an encoder."""

from collections.abc import Sequence

from gaussiantalker_ns.audio.encoders.base import AudioFeatureEncoder

ENCODER_NAMES = ("whisper", "wav2vec2", "hubert")
"""The encoders that compute features; the first one is the default."""

READY_MADE = {"deepspeech": "aud_ds.npy", "esperanto": "aud_eo.npy"}
"""Encoders whose features are only read, from files that other tools made."""

DEFAULT_ENCODER = ENCODER_NAMES[0]


def check_encoder_names(names: Sequence[str]) -> None:
    """Refuse names of `--audio-encoder` whose features cannot be computed here, or none.

    Raises:
        ValueError: A name is unknown, or there is none.
    """
    unknown = [name for name in names if name not in ENCODER_NAMES]
    if unknown or not names:
        raise ValueError(
            f"--audio-encoder names {', '.join(unknown) or 'nothing'}; expected one or more of "
            f"{', '.join(ENCODER_NAMES)}, whose features can be computed here."
        )


def get_encoder(name: str = DEFAULT_ENCODER, device: str = "cpu") -> AudioFeatureEncoder:
    """Return the encoder called `name`, with its weights loaded on `device`.

    Raises:
        ValueError: If there is no such encoder, or it cannot compute features here.
        FileNotFoundError: If its weights are neither on this machine nor to be had.
    """
    if name == "whisper":
        from gaussiantalker_ns.audio.encoders.whisper import WhisperEncoder

        return WhisperEncoder(device=device)
    if name in ("wav2vec2", "hubert"):
        from gaussiantalker_ns.audio.encoders.self_supervised import HubertEncoder, Wav2Vec2Encoder

        return (HubertEncoder if name == "hubert" else Wav2Vec2Encoder)(device=device)
    if name in READY_MADE:
        raise ValueError(
            f"The encoder {name!r} was asked to compute features; it can only be used with ready"
            f" ones ({READY_MADE[name]}, one window per frame), as its network is not part of this"
            " package. A run trained on them is driven by such files: `gaussiantalker drive"
            " --audio speech.npy`. For any audio, give the data set other features with"
            " `gaussiantalker process --only audio --output-dir DATA`, then train again."
        )
    raise ValueError(f"Unknown audio encoder {name!r}; expected one of {', '.join(ENCODER_NAMES)}.")
