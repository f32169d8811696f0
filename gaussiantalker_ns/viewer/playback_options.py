"""Playback options: what the head does beside speaking, and how they are applied to the model.

The model is shared with a training that may go on beside the viewer: options hold while one
picture is rendered, under the training's lock, and leaves no trace.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from gaussiantalker_ns.engine.optimizers import Stage
from gaussiantalker_ns.inference.motion import generate_blinks
from gaussiantalker_ns.model import GaussianTalkerModel
from gaussiantalker_ns.rendering.background import TorsoMode
from gaussiantalker_ns.viewer.tracks import Soundtrack

Motion = Literal["from the track", "free orbit"]
"""Whether the head moves as recorded, or holds its calmest pose; the camera is free in both."""

Eyes = Literal["as recorded", "auto-blink", "slider"]
"""Where the eyelids' closure comes from."""


@dataclass(frozen=True)
class PlaybackOptions:
    """Everything a viewer of the head can choose; equal options give equal pictures."""

    motion: Motion = "from the track"
    """The head's motion."""
    eyes: Eyes = "as recorded"
    """The eyelids."""
    closure: float = 0.0
    """Closure of the lids in [0, 1] where the slider rules them."""
    silenced: frozenset[str] = frozenset()
    """Tokens that are zeroed, as token dropout does in training."""
    canonical: bool = False
    """Show the mean shape of the head (Eq. 6) without any deformation."""
    torso: TorsoMode | None = None
    """What the head is laid over; None takes what the model was trained with."""
    attention: str | None = None
    """Token whose attention is laid over the head."""

    def __post_init__(self) -> None:
        """Check what comes from browsers.

        Raises:
            ValueError: If a choice is not among those offered.
        """
        for name, choices in (("motion", get_args(Motion)), ("eyes", get_args(Eyes))):
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} is {getattr(self, name)!r}; expected one of {choices}.")
        if not 0.0 <= self.closure <= 1.0:
            raise ValueError(f"closure is {self.closure}; expected a number from 0 to 1.")


class BlinkTrack:
    """Generated blinks of a soundtrack: those that `gaussiantalker drive` makes for the audio."""

    def __init__(self, num_frames: int) -> None:
        self._closures = generate_blinks(num_frames)

    def closure(self, options: PlaybackOptions, position: int) -> float | None:
        """The closure in [0, 1] at a frame; None leaves the lids as they were recorded."""
        if options.eyes == "as recorded":
            return None
        return options.closure if options.eyes == "slider" else float(self._closures[position])


@contextmanager
def applied(
    model: GaussianTalkerModel,
    soundtrack: Soundtrack,
    options: PlaybackOptions,
    position: int,
    closure: float | None,
) -> Iterator[int]:
    """Apply playback options to the model, for the length of a `with` block.

    The caller holds the training's lock. Pictures that the model makes on demand have to be looked
    at inside the block.

    Args:
        model: The model, in training or not.
        soundtrack: What is heard.
        options: What else is done.
        position: Frame of the soundtrack.
        closure: Closure of the eyelids in [0, 1]; None leaves them as recorded.

    Yields:
        The model's number of the frame.
    """
    bank = model.bank
    frame = soundtrack.model_frame(position)
    with ExitStack() as undo:
        if model.training:
            undo.callback(model.train)
            model.eval()
        bank.set_audio(soundtrack.rows, soundtrack.source_frames)
        undo.callback(bank.set_audio, None)
        _set(undo, model, "viewer_frame", frame)
        if closure is not None:
            _set(undo, bank, "overrides", replace(bank.overrides, blink=closure))
        if options.canonical:
            _set(undo, model, "stage", Stage.CANONICAL)
        if options.torso is not None:
            _set(undo, model.background, "mode", options.torso)
        if options.silenced:
            undo.callback(_silence(model, options.silenced).remove)
        yield frame


def torso_modes(trained: TorsoMode) -> tuple[TorsoMode, ...]:
    """What a head may be laid over, that of the training first.

    Gaussians that model the whole person need the background alone, all others need a torso.
    """
    if trained == "gaussians":
        return ("gaussians",)
    return ("layer", "paste-back") if trained == "layer" else ("paste-back", "layer")


def _set(undo: ExitStack, target: Any, name: str, value: Any) -> None:
    undo.callback(setattr, target, name, getattr(target, name))
    setattr(target, name, value)


def _silence(model: GaussianTalkerModel, silenced: frozenset[str]) -> Any:
    tokens = model.head.tokens
    kept = torch.tensor([float(name not in silenced) for name in tokens.names])

    def zero(_module: Any, _inputs: Any, output: Float[Tensor, "b k d"]) -> Tensor:
        return output * kept.to(output)[:, None]

    return tokens.register_forward_hook(zero)
