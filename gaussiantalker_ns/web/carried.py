"""Which talkers a browser can run, and what to do about the others."""

from pathlib import Path

from gaussiantalker_ns.audio.encoders.whisper import MODEL_WIDTH, TOKENS_PER_FRAME, WhisperEncoder
from gaussiantalker_ns.inference.talker_file.schema import Description

RETRAIN = "Train `ns-train gaussiantalker-cpu` on the same data set, and export that talker."

MOST_GAUSSIANS = 100_000
"""A frame of as many takes a tenth of a second."""

MULTIPLE = 8
"""Columns of a panel of weights: layers of the head are multiples of it."""


def check_carried(description: Description, path: Path) -> None:
    """Check that the run-time can compute a talker.

    Raises:
        ValueError: It cannot; the message says why, and what to do.
    """
    found = obstacle(description)
    if found is not None:
        what, remedy = found
        raise ValueError(f"{path} {what}; expected a talker that a browser can run. {remedy}")


def obstacle(description: Description) -> tuple[str, str] | None:
    """What is in the way and what helps, or None."""
    head, audio = description.head, description.audio
    attention, deformation = head.attention, head.deformation
    if head.fusion != "attention":
        return f"merges features and tokens by {head.fusion!r} instead of attention", RETRAIN
    if attention.num_layers != 1 or attention.feed_forward_width:
        layers = f"{attention.num_layers} attention layer" + "s" * (attention.num_layers != 1)
        behind = f" with a feed-forward network of {attention.feed_forward_width}"
        what = f"has {layers}{behind if attention.feed_forward_width else ''}"
        return f"{what}, as {description.method} does, which is too slow there", RETRAIN
    if not deformation.joint:
        return "has a network of its own for every offset (`deformation.joint` is off)", RETRAIN
    if audio.encoder != WhisperEncoder.name:
        return f"hears the features of {audio.encoder}, which is too large for a page", RETRAIN
    if audio.window_shape != (TOKENS_PER_FRAME, MODEL_WIDTH):
        return f"hears windows of {list(audio.window_shape)} Whisper features", RETRAIN
    for name, width in (
        ("tokens.width", head.tokens.width),
        ("deformation.hidden_width", deformation.hidden_width),
    ):
        if width % MULTIPLE:
            return f"has {name} {width}, which is no multiple of {MULTIPLE}", RETRAIN
    if description.num_gaussians > MOST_GAUSSIANS:
        what = f"has {description.num_gaussians} Gaussians, and at most {MOST_GAUSSIANS} are drawn"
        return f"{what} in time", "Train with fewer (`--pipeline.model.max-gauss-num`)."
    return None
