"""From rows of audio features to the windows of the network: silence gate, smoothing, context.

Everything here looks a bounded number of frames ahead and back, so a stream needs bounded memory
and gives the same windows as a whole recording.
"""

import math
from collections.abc import Iterator

import numpy as np
from jaxtyping import Float, Float32

from gaussiantalker_ns.audio.silence import GATE_RADIUS_FRAMES, silence_fractions
from gaussiantalker_ns.timebase import context_offsets


class FeatureStream:
    """Takes feature rows as they come and hands out context windows of finished frames.

    Args of the constructor:
        window_frames: Frames that the temporal attention sees (`t`).
        silence: The row of a silent frame, which takes the place of rows in silence; None leaves
            silence to the encoder.
        smoothing_frames: Standard deviation in frames of a Gaussian low-pass over rows; 0 is off.
        ahead_frames: Rows after its own that the attention sees; later places of its window are
            given the last of these. None gives it all that it was trained with.
        causal_smoothing: Whether the low-pass looks back alone.
        gate_ahead_frames: Frames after its own whose level decides whether a frame is silent.
    """

    def __init__(
        self,
        window_frames: int,
        silence: Float32[np.ndarray, "w a"] | None = None,
        smoothing_frames: float = 0.0,
        ahead_frames: int | None = None,
        causal_smoothing: bool = False,
        gate_ahead_frames: int = GATE_RADIUS_FRAMES,
    ) -> None:
        offsets = np.array(context_offsets(window_frames))
        self._offsets = offsets if ahead_frames is None else np.minimum(offsets, ahead_frames)
        self._silence = silence
        radius = math.ceil(2 * smoothing_frames)
        taps = np.arange(-radius, (0 if causal_smoothing else radius) + 1)
        kernel = np.exp(-0.5 * (taps / max(smoothing_frames, 1e-6)) ** 2)
        self._kernel = (kernel / kernel.sum()).astype(np.float32)
        self._taps_back, self._taps_ahead = radius, int(taps[-1])
        self._gate_ahead = gate_ahead_frames
        self._rows: list[Float32[np.ndarray, "w a"]] = []
        self._powers: list[float] = []
        self._first_row = 0
        self._next_frame = 0
        self._oldest = 0
        """The first frame of the stream, or the one after the last jump."""
        self._ended = False

    @property
    def num_rows(self) -> int:
        """Rows taken since the start."""
        return self._first_row + len(self._rows)

    @property
    def look_ahead_frames(self) -> int:
        """Rows after its own that a frame waits for."""
        return int(self._offsets[-1]) + self._taps_ahead

    @property
    def num_ready(self) -> int:
        """Frames that can be taken now."""
        return (self.num_rows if self._ended else self._num_complete) - self._next_frame

    def jump(self, next_frame: int) -> None:
        """Leave frames out; the rows, powers and windows that come next begin at `next_frame`."""
        self._first_row = self._oldest = self._next_frame = next_frame
        self._rows.clear()
        self._powers.clear()

    @property
    def look_back_frames(self) -> int:
        """Rows before its own, and levels before theirs, that a frame depends on."""
        return -int(self._offsets[0]) + self._taps_back + GATE_RADIUS_FRAMES

    def begin_at(self, first_frame: int, first_row: int) -> None:
        """Begin with the windows of this frame; rows and powers come from `first_row` on."""
        assert first_row == 0 or first_row <= first_frame - self.look_back_frames
        self._first_row, self._next_frame = first_row, first_frame

    def push_powers(self, normalised: Float[np.ndarray, " m"]) -> None:
        """Append the mean power of the next frames' normalised samples; it may come before rows."""
        self._powers.extend(normalised.tolist())

    def push_rows(self, rows: Float32[np.ndarray, "m w a"]) -> None:
        """Append the feature rows of the next frames."""
        assert not self._ended, "the stream has ended"
        self._rows.extend(rows)

    def end(self) -> None:
        """No more rows will come: the last frames need not wait for what follows them."""
        self._ended = True

    def blocks(self, block_frames: int) -> Iterator[Float32[np.ndarray, "b t w a"]]:
        """Yield the windows of the next frames, `block_frames` at a time, while they are complete.

        Only the last block, after the end, may be shorter.
        """
        while True:
            count = min(block_frames, self.num_ready)
            if count <= 0 or (count < block_frames and not self._ended):
                return
            frames = self._next_frame + np.arange(count)
            self._next_frame += count
            windows = self._windows(frames)
            self._forget()
            yield windows

    @property
    def _num_complete(self) -> int:
        """Frames whose windows no later row or power can change."""
        num_gated = self._first_row + len(self._powers) - self._gate_ahead
        return min(self.num_rows, num_gated) - self.look_ahead_frames

    def _windows(self, frames: np.ndarray) -> Float32[np.ndarray, "b t w a"]:
        last = self.num_rows - 1
        seen = np.clip(frames[:, None] + self._offsets, self._oldest, last)
        first, stop = int(seen.min()), int(seen.max()) + 1
        smooth = self._smoothed(np.arange(first, stop))
        return smooth[seen - first]

    def _smoothed(self, frames: np.ndarray) -> Float32[np.ndarray, "m w a"]:
        around = np.arange(frames[0] - self._taps_back, frames[-1] + self._taps_ahead + 1)
        gated = self._gated(np.clip(around, self._oldest, self.num_rows - 1))
        pieces = [
            weight * gated[tap : tap + len(frames)] for tap, weight in enumerate(self._kernel)
        ]
        return np.asarray(np.sum(pieces, axis=0), np.float32)

    def _gated(self, frames: np.ndarray) -> Float32[np.ndarray, "m w a"]:
        rows = np.stack([self._rows[frame - self._first_row] for frame in frames])
        if self._silence is None:
            return rows
        radius = GATE_RADIUS_FRAMES
        around = np.arange(frames[0] - radius, frames[-1] + radius + 1)
        powers = np.array([self._power(frame) for frame in around.tolist()])
        fractions = silence_fractions(powers, self._gate_ahead)[frames - around[0]]
        fractions = fractions.astype(np.float32)[:, None, None]
        return (1 - fractions) * rows + fractions * self._silence

    def _power(self, frame: int) -> float:
        place = frame - self._first_row
        return self._powers[place] if 0 <= place < len(self._powers) else 0.0

    def _forget(self) -> None:
        """Drop the rows that no later frame looks back to."""
        drop = max(self._next_frame - self.look_back_frames - self._first_row, 0)
        del self._rows[:drop], self._powers[:drop]
        self._first_row += drop
