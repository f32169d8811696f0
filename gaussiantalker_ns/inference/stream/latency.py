"""Latency settings of a stream: how far its frames run behind the sound, and what that costs."""

from dataclasses import dataclass

from gaussiantalker_ns.audio.encoders.whisper import WindowLayout
from gaussiantalker_ns.audio.silence import GATE_RADIUS_FRAMES

MOST_FRAMES = 50
"""Longest hop and look-ahead, two seconds."""


@dataclass(frozen=True)
class LatencyConfig:
    """How long a stream waits for sound that follows a frame; all lengths are in video frames.

    With equal settings a stream gives the same frames however its sound is cut into pieces, except
    where `adaptive` trades that for speed.
    """

    hop_frames: int = 8
    """Frames that one window of the encoder gives; a stream waits for so many, and each window
    costs nearly the same."""
    encoder_ahead_frames: int = 5
    """Sound after them that the window holds. Without any the mouth hardly opens."""
    attention_ahead_frames: int = 3
    """Frames after its own that the temporal attention, or the articulation code, sees; later ones
    are given the last of these. At most what the model was trained with is used."""
    causal_smoothing: bool = False
    """Whether the low-pass over the lips' motion looks back alone."""
    block_frames: int | None = 4
    """Frames that are rendered together; None renders those that one window completes."""
    adaptive: bool = False
    """Whether a stream that has fallen behind takes longer hops, up to `MOST_ADAPTIVE_FRAMES`, for
    less work per frame, and leaves silence to the gate. Frames then depend on when the sound
    came."""

    def __post_init__(self) -> None:
        bounds = {
            "hop_frames": (self.hop_frames, 1),
            "encoder_ahead_frames": (self.encoder_ahead_frames, 0),
            "attention_ahead_frames": (self.attention_ahead_frames, 0),
            "block_frames": (1 if self.block_frames is None else self.block_frames, 1),
        }
        for name, (value, least) in bounds.items():
            if not least <= value <= MOST_FRAMES:
                raise ValueError(f"{name} is {value}; expected {least} to {MOST_FRAMES} frames.")

    @property
    def gate_ahead_frames(self) -> int:
        """Frames after its own whose level decides whether a frame is silent."""
        return min(GATE_RADIUS_FRAMES, self.encoder_ahead_frames)

    @property
    def layouts(self) -> tuple[WindowLayout, ...]:
        """Windows that the encoder may be given, the shortest first."""
        longer = MOST_ADAPTIVE_FRAMES if self.adaptive else ()
        hops = [self.hop_frames, *(hop for hop in longer if hop > self.hop_frames)]
        return tuple(
            WindowLayout(hop_frames=hop, ahead_frames=self.encoder_ahead_frames) for hop in hops
        )

    def delay_frames(self, look_ahead_frames: int) -> int:
        """Longest time from the start of a frame to the sample that completes it, in frames.

        Args:
            look_ahead_frames: Feature rows after its own that a frame waits for.
        """
        hop, block = self.hop_frames, self.block_frames
        if block is None:
            # One window completes `hop` frames, of which the first has waited longest.
            return hop + look_ahead_frames + self.encoder_ahead_frames
        # Rows come `hop` at a time, and a block begins anywhere between two such times.
        waits = []
        for first in range(0, hop * block, block):
            rows = first + block + look_ahead_frames
            waits.append(-(-rows // hop) * hop - first)
        return max(waits) + self.encoder_ahead_frames


MOST_ADAPTIVE_FRAMES = (4, 8)
"""Longer hops that an adaptive stream may take."""

QUALITY = LatencyConfig()
"""What files are driven with; a stream runs 0.84 s behind."""

LIVE = LatencyConfig(
    hop_frames=2,
    encoder_ahead_frames=1,
    attention_ahead_frames=1,
    causal_smoothing=True,
    block_frames=None,
)
"""For conversations: a stream runs 0.16 s behind, for three times the work of the encoder."""

PRESETS = {"quality": QUALITY, "live": LIVE}
"""Settings by their names."""


def latency_of(latency: "LatencyConfig | str") -> LatencyConfig:
    """Settings, or those of a preset's name.

    Raises:
        ValueError: There is no such preset.
    """
    if isinstance(latency, LatencyConfig):
        return latency
    if latency not in PRESETS:
        raise ValueError(
            f"The latency is {latency!r}; expected a LatencyConfig, or one of {', '.join(PRESETS)}."
        )
    return PRESETS[latency]
