"""A stream of one talker: audio goes in bit by bit, frames come out.

Features are computed while frames are rendered: one thread may push, another one pull.
"""

from collections.abc import Iterator, Sequence
from threading import Lock

import numpy as np
from jaxtyping import Float32, UInt8

from gaussiantalker_ns.audio.encoders.base import AudioFeatureEncoder
from gaussiantalker_ns.audio.encoders.whisper import WhisperEncoder
from gaussiantalker_ns.audio.loudness import speech_gain
from gaussiantalker_ns.audio.silence import frame_powers
from gaussiantalker_ns.audio.streaming import StreamingEncoder, StreamResampler
from gaussiantalker_ns.inference.feature_stream import FeatureStream
from gaussiantalker_ns.inference.frame_renderer import Block, FrameRenderer
from gaussiantalker_ns.inference.stream.latency import QUALITY, LatencyConfig
from gaussiantalker_ns.timebase import FPS, SAMPLES_PER_FRAME


class TalkerStream:
    """One stream: audio goes in, frames come out as soon as their windows are complete."""

    def __init__(
        self,
        renderer: FrameRenderer,
        encoders: Sequence[AudioFeatureEncoder],
        gain: float | None,
        latency: LatencyConfig = QUALITY,
    ) -> None:
        self._renderer = renderer
        self._encoder = encoders[0] if encoders else None
        self._gain = gain
        self._latency = latency
        self._streaming: StreamingEncoder | None = None
        if isinstance(self._encoder, WhisperEncoder):
            longer = [other for other in encoders[1:] if isinstance(other, WhisperEncoder)]
            is_gated = renderer.mean_silence_features is not None
            self._streaming = StreamingEncoder(
                self._encoder,
                gain,
                longer=longer,
                leaves_out_silence=latency.adaptive and is_gated,
            )
        self._features = FeatureStream(
            renderer.window_frames,
            None if self._encoder is None else renderer.mean_silence_features,
            renderer.motion.lip_smoothing_frames,
            latency.attention_ahead_frames,
            latency.causal_smoothing,
            latency.gate_ahead_frames,
        )
        self._resampler = StreamResampler()
        self._num_samples = 0
        self._unmeasured = np.zeros(0, np.float32)
        self._num_measured = 0
        self._num_encoded = 0
        self._collected: list[Float32[np.ndarray, " m"]] = []
        self._block: Iterator[tuple[int, UInt8[np.ndarray, "h wd c"]]] = iter(())
        self._ahead: Block | None = None
        self._next_frame = 0
        self._first_rendered = 0
        self._push_lock = Lock()
        """Guards what comes before the features, which take their time."""
        self._lock = Lock()
        """Guards the features and the number of the next frame."""

    @property
    def delay_s(self) -> float | None:
        """Longest time from the start of a frame to the sample that completes it.

        None for encoders that need the whole recording: their frames come after `flush`.
        """
        if self._streaming is None:
            return None
        return self._latency.delay_frames(self._features.look_ahead_frames) / FPS

    @property
    def size(self) -> int:
        """Side of the frames in pixels."""
        return self._renderer.size

    @property
    def next_frame(self) -> int:
        """Number of the frame that `frames` yields next, unless it is to be skipped."""
        return self._next_frame

    def begin_at(self, first_frame: int, samples: Float32[np.ndarray, " m"] | None = None) -> int:
        """Render from this frame on, with which a block begins.

        Returns the first of the recording's `samples` that is to be pushed: where the encoder works
        in windows, what comes before them is not encoded.
        """
        block = self._latency.block_frames
        assert block is None or first_frame % block == 0, "blocks are rendered whole"
        self._first_rendered = first_frame
        if self._streaming is None or samples is None:
            return 0
        hop_frames = self._streaming.layout.hop_frames
        first_row = max(first_frame - self._features.look_back_frames, 0) // hop_frames * hop_frames
        self._streaming.begin_at(first_row, samples[: first_row * SAMPLES_PER_FRAME])
        self._features.begin_at(first_frame, first_row)
        self._num_encoded = self._num_measured = first_row
        self._next_frame = first_frame
        return first_row * SAMPLES_PER_FRAME

    def skip_until(self, first_frame: int) -> None:
        """Read, but do not render, the frames before this one.

        Pixels can differ in their last bit unless a block begins there.
        """
        self._first_rendered = first_frame

    def jump(self, next_frame: int, past: Float32[np.ndarray, " m"]) -> None:
        """Leave frames out without reading their sound, as a stream that is late has to.

        The next sample that is pushed, at 16 kHz, is the first one of the frame.

        Args:
            next_frame: The frame that comes next.
            past: Samples before it, at 16 kHz, as far as they are known.
        """
        assert self._streaming is not None, "other encoders read whole recordings"
        with self._push_lock, self._lock:
            self._streaming.jump(past)
            self._features.jump(next_frame)
            self._unmeasured = np.zeros(0, np.float32)
            self._num_measured = self._num_encoded = self._next_frame = next_frame
            self._block, self._ahead = iter(()), None

    def close(self) -> None:
        """End the threads that read backgrounds; frames cannot be taken any more."""
        self._renderer.close()

    def push_audio(self, samples: np.ndarray, sample_rate_hz: int) -> None:
        """Append mono samples `[m]`, float in [-1, 1] or int16, at any rate."""
        with self._push_lock:
            self._take(self._resampler.push(samples, sample_rate_hz))

    def push_features(self, rows: Float32[np.ndarray, "m w a"]) -> None:
        """Append ready feature rows, in a stream without an encoder."""
        assert self._encoder is None, "features come from the encoder"
        with self._lock:
            self._features.push_rows(rows)

    def frames(self) -> Iterator[UInt8[np.ndarray, "h wd c"]]:
        """Yield the frames that are complete by now: RGB, or RGBA over a transparent scene.

        It ends when more audio is needed; call it again after the next `push_audio` or `flush`. A
        caller may stop anywhere: the next call goes on with the next frame. One thread pulls.
        """
        for _, frame in self.numbered_frames():
            yield frame

    def numbered_frames(self) -> Iterator[tuple[int, UInt8[np.ndarray, "h wd c"]]]:
        """Yield what `frames` does, with the frames' numbers, some of which may be skipped."""
        while True:
            # Not `yield from`, which would close the block when the caller stops inside it.
            while (numbered := next(self._block, None)) is not None:
                yield numbered
            block = self._ahead or self._submit_next()
            self._ahead = None
            if block is None:
                return
            if self._renderer.overlaps:
                self._ahead = self._submit_next()
            self._block = zip(block.frames.tolist(), self._renderer.finish(block))

    def _submit_next(self) -> Block | None:
        """Begin the next block that is to be rendered; None until more audio is there."""
        while True:
            with self._lock:
                window = next(self._features.blocks(self._block_frames()), None)
                first = self._next_frame
                self._next_frame += 0 if window is None else len(window)
            if window is None:
                return None
            late = max(self._first_rendered - first, 0)
            if late < len(window):
                frames = first + np.arange(late, len(window))
                return self._renderer.submit(window[late:], frames)

    def _block_frames(self) -> int:
        """Length of the next block."""
        latency = self._latency
        if latency.block_frames is not None:
            return latency.block_frames
        if latency.adaptive:
            return min(max(self._features.num_ready, 1), latency.layouts[-1].hop_frames)
        completed = -(self._next_frame + self._features.look_ahead_frames) % latency.hop_frames
        return completed or latency.hop_frames

    def flush(self) -> None:
        """End the audio: the remaining frames are complete now. The stream cannot go on after."""
        with self._push_lock:
            self._take(self._resampler.flush())
            # A last part of a frame becomes a whole one.
            self._take(np.zeros(-self._num_samples % SAMPLES_PER_FRAME, np.float32))
            if self._streaming is not None:
                self._hand_on(self._streaming.flush())
            elif self._num_samples and self._encoder is not None:
                samples = np.concatenate(self._collected)
                gain = speech_gain(samples) if self._gain is None else self._gain
                rows = self._encoder.encode(samples, gain=gain)
                with self._lock:
                    self._features.push_powers(frame_powers(samples * np.float32(gain)))
                    self._features.push_rows(rows)
            with self._lock:
                self._features.end()

    def _take(self, samples: Float32[np.ndarray, " m"]) -> None:
        self._num_samples += len(samples)
        if self._streaming is None:
            self._collected.append(samples)
            return
        self._unmeasured = np.concatenate([self._unmeasured, samples])
        self._hand_on(self._streaming.push(samples))

    def _hand_on(self, rows: Float32[np.ndarray, "n w a"]) -> None:
        """Give the windows just encoded to the silence gate and to the network, at one level."""
        assert self._streaming is not None, "rows come from a stream"
        for gain, hop in zip(self._streaming.gains, self._streaming.hops):
            self._num_encoded += hop
            # The gate looks a little ahead, and so did the encoder.
            count = self._num_encoded + self._latency.gate_ahead_frames - self._num_measured
            powers = frame_powers(self._unmeasured[: count * SAMPLES_PER_FRAME] * np.float32(gain))
            self._unmeasured = self._unmeasured[len(powers) * SAMPLES_PER_FRAME :]
            self._num_measured += len(powers)
            with self._lock:
                self._features.push_powers(powers)
        with self._lock:
            self._features.push_rows(rows)
