"""Streaming audio features: samples at any rate in, Whisper features of finished frames out."""

from collections.abc import Sequence

import av
import numpy as np
from jaxtyping import Float32

from gaussiantalker_ns.audio.encoders.whisper import TOKENS_PER_FRAME, WhisperEncoder, WindowLayout
from gaussiantalker_ns.audio.loudness import RunningGain
from gaussiantalker_ns.audio.silence import GATE_RADIUS_FRAMES, SHUT_DBFS, frame_powers
from gaussiantalker_ns.timebase import FPS, SAMPLE_RATE_HZ, SAMPLES_PER_FRAME


class StreamResampler:
    """Resamples mono chunks without gaps between them; a new rate starts a new resampler."""

    def __init__(self, target_rate_hz: int = SAMPLE_RATE_HZ) -> None:
        self._target = target_rate_hz
        self._rate = target_rate_hz
        self._resampler: av.AudioResampler | None = None

    def push(self, samples: np.ndarray, sample_rate_hz: int) -> Float32[np.ndarray, " k"]:
        """Take mono samples (float in [-1, 1] or int16) and return those ready at the target rate.

        Raises:
            ValueError: If the samples are not one row of finite numbers, or the rate is not
                positive.
        """
        if samples.ndim != 1 or samples.dtype.kind not in "fi":
            raise ValueError(
                f"The pushed audio has shape {samples.shape} and type {samples.dtype}; expected"
                " one row of mono samples, float in [-1, 1] or int16."
            )
        if sample_rate_hz <= 0:
            raise ValueError(f"The sample rate is {sample_rate_hz}; expected a positive number.")
        if samples.dtype.kind == "i":
            samples = samples / np.float32(np.iinfo(samples.dtype).max + 1)
        samples = samples.astype(np.float32)
        if not np.isfinite(samples).all():
            raise ValueError("The pushed audio holds NaN or infinite samples; expected numbers.")
        ready = self._switch(sample_rate_hz) if sample_rate_hz != self._rate else []
        if self._resampler is None:
            return np.concatenate([*ready, samples])
        if len(samples):
            frame = av.AudioFrame.from_ndarray(samples[None], format="fltp", layout="mono")
            frame.sample_rate = sample_rate_hz
            ready.extend(part.to_ndarray()[0] for part in self._resampler.resample(frame))
        return np.concatenate([np.zeros(0, np.float32), *ready])

    def flush(self) -> Float32[np.ndarray, " k"]:
        """Return what the resampler still holds; the next chunk begins a new stream."""
        return np.concatenate([np.zeros(0, np.float32), *self._switch(self._target)])

    def _switch(self, rate: int) -> list[Float32[np.ndarray, " k"]]:
        rest = []
        if self._resampler is not None:
            rest = [part.to_ndarray()[0] for part in self._resampler.resample(None)]
        self._rate = rate
        plain = rate == self._target
        self._resampler = (
            None if plain else av.AudioResampler(format="fltp", layout="mono", rate=self._target)
        )
        return rest


class StreamingEncoder:
    """Runs a `WhisperEncoder` on a stream, holding no more than one window of samples.

    With a fixed gain the features are bit for bit those of `WhisperEncoder.encode` with that gain,
    however the stream is cut into chunks. Without one the gain follows the speaker slowly.

    Encoders with longer hops, if there are any, take over where as much sound is waiting: less work
    for a frame, whose features then depend on when the sound came.
    """

    def __init__(
        self,
        encoder: WhisperEncoder,
        gain: float | None = None,
        initial_gain: float = 1.0,
        longer: Sequence[WhisperEncoder] = (),
        leaves_out_silence: bool = False,
    ) -> None:
        """Start a stream.

        Args:
            encoder: The encoder; its layout sets the delay. Several streams may share it.
            gain: The factor that normalises the speech, where it is known (`loudness.speech_gain`).
            initial_gain: Where the running gain starts if `gain` is None; the gain of the training
                clip suits the same microphone.
            longer: Encoders with longer hops and the same look-ahead, the shortest first.
            leaves_out_silence: Whether the frames of windows that are far below the silence gate
                get zeros instead of features, for less work. A gate has to follow.
        """
        self._encoder = encoder
        self._encoders = (encoder, *longer)
        self._leaves_out_silence = leaves_out_silence
        self._fixed_gain = gain
        self._initial_gain = initial_gain
        layout = encoder.layout
        self._past_samples = layout.past_frames * SAMPLES_PER_FRAME
        self._hop_samples = layout.hop_frames * SAMPLES_PER_FRAME
        self._window_samples = layout.num_frames * SAMPLES_PER_FRAME
        self.reset()

    @property
    def num_frames(self) -> int:
        """Video frames whose features have been handed out since the start or the last reset."""
        return self._num_frames

    @property
    def gains(self) -> tuple[float, ...]:
        """The gain of every window that the last `push` or `flush` ended."""
        return self._gains

    @property
    def hops(self) -> tuple[int, ...]:
        """Frames of every window that the last `push` or `flush` ended."""
        return self._hops

    @property
    def layout(self) -> WindowLayout:
        """How the stream is cut into windows."""
        return self._encoder.layout

    @property
    def delay_s(self) -> float:
        """The longest time between the start of a frame and the sample that completes it."""
        layout = self._encoder.layout
        return (layout.hop_frames + layout.ahead_frames) / FPS

    def reset(self) -> None:
        """Forget everything heard: the next sample is the first one of frame 0."""
        self._num_frames = 0
        self._num_samples = 0
        self._running_gain = RunningGain(self._initial_gain)
        self._num_followed = 0
        self._gains: tuple[float, ...] = ()
        self._hops: tuple[int, ...] = ()
        # The samples from `past_frames` before the next frame on; silence comes before the stream.
        self._buffer = np.zeros(self._past_samples, dtype=np.float32)

    def jump(self, past: Float32[np.ndarray, " samples"]) -> None:
        """Go on elsewhere in the sound, at the speaker's level: the next sample follows `past`."""
        past = past[-self._past_samples :]
        self._buffer = np.pad(past, (self._past_samples - len(past), 0)).astype(np.float32)

    def begin_at(self, first_frame: int, before: Float32[np.ndarray, " samples"]) -> None:
        """Go on with a recording whose earlier frames are not wanted; needs a fixed gain.

        Args:
            first_frame: The first frame to encode, a multiple of the layout's `hop_frames`.
            before: All samples before that frame, of which the last ones are its context.
        """
        assert self._fixed_gain is not None, "a running gain hears the recording from its beginning"
        assert first_frame % self._encoder.layout.hop_frames == 0, "windows are encoded whole"
        self.reset()
        self._num_frames = first_frame
        self._num_samples = first_frame * SAMPLES_PER_FRAME
        context = before[max(len(before) - self._past_samples, 0) :]
        self._buffer[self._past_samples - len(context) :] = context

    def push(self, samples: Float32[np.ndarray, " samples"]) -> Float32[np.ndarray, "frames w a"]:
        """Take any number of mono 16 kHz samples; return the features of the frames now complete.

        They follow those of the previous call without gap or overlap, and may be none.
        """
        self._num_samples += len(samples)
        return self._encode_complete_windows(samples)

    def flush(self) -> Float32[np.ndarray, "frames w a"]:
        """End the stream: return the features of its last frames, then start anew."""
        num_frames = -(-self._num_samples // SAMPLES_PER_FRAME)
        num_left = num_frames - self._num_frames
        num_windows = -(-num_left // self._encoder.layout.hop_frames)
        num_wanted = self._window_samples + (num_windows - 1) * self._hop_samples
        silence = np.zeros(max(num_wanted - len(self._buffer), 0), dtype=np.float32)
        features = self._encode_complete_windows(silence)[:num_left]
        gains, hops = self._gains, self._hops
        self.reset()
        self._gains, self._hops = gains, hops
        return features

    def _encode_complete_windows(
        self, samples: Float32[np.ndarray, " samples"]
    ) -> Float32[np.ndarray, "frames w a"]:
        self._buffer = np.concatenate([self._buffer, samples])
        start, pieces, gains, hops = 0, [], [], []
        while start + self._window_samples <= len(self._buffer):
            encoder = self._longest(len(self._buffer) - start)
            layout = encoder.layout
            window = self._buffer[start : start + layout.num_frames * SAMPLES_PER_FRAME]
            gains.append(self._gain(window, layout))
            hops.append(layout.hop_frames)
            window = window * np.float32(gains[-1])
            if self._leaves_out_silence and _is_far_below_gate(window, layout):
                shape = (layout.hop_frames, TOKENS_PER_FRAME, encoder.feature_size)
                pieces.append(np.zeros(shape, np.float32))
            else:
                pieces.append(encoder.encode_window(window))
            start += layout.hop_frames * SAMPLES_PER_FRAME
        self._buffer = self._buffer[start:]
        self._gains, self._hops = tuple(gains), tuple(hops)
        self._num_frames += sum(hops)
        if not pieces:
            shape = (0, TOKENS_PER_FRAME, self._encoder.feature_size)
            return np.zeros(shape, dtype=np.float32)
        return np.concatenate(pieces)

    def _longest(self, num_samples: int) -> WhisperEncoder:
        """The encoder with the longest hop whose window is complete."""
        return [
            encoder
            for encoder in self._encoders
            if encoder.layout.num_frames * SAMPLES_PER_FRAME <= num_samples
        ][-1]

    def _gain(self, window: Float32[np.ndarray, " samples"], layout: WindowLayout) -> float:
        """Return the gain for the next window, following the samples that it is first to see."""
        if self._fixed_gain is not None:
            return self._fixed_gain
        new_frames = layout.hop_frames + (0 if self._num_followed else layout.ahead_frames)
        self._running_gain.push(window[-new_frames * SAMPLES_PER_FRAME :])
        self._num_followed += 1
        return self._running_gain.value


FAR_BELOW_DB = 6.0
"""Distance from the gate at which a gain that changes meanwhile does not matter."""


def _is_far_below_gate(window: Float32[np.ndarray, " samples"], layout: WindowLayout) -> bool:
    """Whether the gate will replace the features of all frames that a window gives."""
    first = max(layout.past_frames - GATE_RADIUS_FRAMES, 0)
    last = layout.past_frames + layout.hop_frames + min(layout.ahead_frames, GATE_RADIUS_FRAMES)
    powers = frame_powers(window[first * SAMPLES_PER_FRAME : last * SAMPLES_PER_FRAME])
    return bool(powers.max() < 10.0 ** ((SHUT_DBFS - FAR_BELOW_DB) / 10.0))
