"""The run-time object: load a trained talker once, push audio in, pull frames out.

Files and streams take the same way: `Talker.render` sends a whole recording through the stream that
an application feeds bit by bit, and frames are rendered in blocks that begin at multiples of
`BLOCK_FRAMES`; so the frames do not depend on how the audio was cut into pieces.

A `Talker` may be shared by threads: it is not changed after loading. Each `TalkerStream` has its
own state and locks, so that one thread may push audio while another one pulls frames: features are
then computed while frames are rendered, which `Talker.render` makes use of.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property, partial
from pathlib import Path
from threading import Lock

import numpy as np
from jaxtyping import Float32, UInt8

from gaussiantalker_ns.audio.encoders.base import AudioFeatureEncoder
from gaussiantalker_ns.audio.encoders.registry import get_encoder
from gaussiantalker_ns.audio.encoders.whisper import WhisperEncoder
from gaussiantalker_ns.audio.loudness import speech_gain
from gaussiantalker_ns.audio.silence import GATE_RADIUS_FRAMES, frame_powers
from gaussiantalker_ns.audio.streaming import StreamingEncoder, StreamResampler
from gaussiantalker_ns.inference.feature_stream import FeatureStream
from gaussiantalker_ns.inference.frame_renderer import Block, FrameRenderer
from gaussiantalker_ns.inference.motion import MotionConfig
from gaussiantalker_ns.inference.scene import Scene
from gaussiantalker_ns.inference.trained_talker import TrainedTalker, load_trained
from gaussiantalker_ns.kernels.compile import num_threads
from gaussiantalker_ns.timebase import FPS, SAMPLE_RATE_HZ, SAMPLES_PER_FRAME, whole_frames

BLOCK_FRAMES = 4
"""Frames that are rendered together."""

PUSH_SECONDS = 1.0
"""A recording is pushed in pieces of this length, so that memory does not grow with it."""


class Talker:
    """A trained head that can be driven by any audio.

    Example:
        talker = Talker.load("me.talker")
        for frame in talker.render(read_audio("speech.wav")):
            show(frame)  # uint8 [h, wd, 3]
    """

    def __init__(self, checkpoint: TrainedTalker) -> None:
        self.checkpoint = checkpoint
        """What was loaded: a run's checkpoint, or a talker file."""

    @cached_property
    def encoder(self) -> AudioFeatureEncoder:
        """What turns audio into the features of the training.

        Raises:
            ValueError: If its features can only be read, not computed; see `render_features`.
        """
        model = self.checkpoint.model
        return get_encoder(model.bank.audio_encoder, device=str(model.device))

    @classmethod
    def load(cls, path: Path | str | None = None, data: Path | None = None) -> "Talker":
        """Load a talker file, or the newest checkpoint of a run; see `load_trained`."""
        return cls(load_trained(None if path is None else Path(path), data))

    def stream(
        self,
        motion: MotionConfig | None = None,
        scene: Scene | None = None,
        gain: float | None = None,
    ) -> "TalkerStream":
        """Begin a stream that is fed with audio bit by bit.

        Args:
            motion: What the head does beside speaking.
            scene: Size and background of the frames.
            gain: The factor that levels the speech, where it is known (`speech_gain`); None
                follows the speaker's level slowly, beginning at 1.
        """
        renderer = FrameRenderer(self.checkpoint, scene or Scene(), motion or MotionConfig())
        return TalkerStream(renderer, self.encoder, gain)

    def render(
        self,
        samples: Float32[np.ndarray, " m"],
        motion: MotionConfig | None = None,
        scene: Scene | None = None,
        gain: float | None = None,
        first_frame: int = 0,
    ) -> Iterator[UInt8[np.ndarray, "h wd c"]]:
        """Yield round(25 x duration) frames for mono samples at 16 kHz, at least one.

        Args:
            samples: The whole recording (`read_audio`).
            motion: What the head does beside speaking.
            scene: Size and background of the frames.
            gain: The factor that levels the speech; None measures it on the recording.
            first_frame: Where to begin, a multiple of `BLOCK_FRAMES`.
        """
        stream = self.stream(motion, scene, speech_gain(samples) if gain is None else gain)
        whole = whole_frames(samples)
        first_sample = stream.begin_at(first_frame, whole)
        step = int(PUSH_SECONDS * SAMPLE_RATE_HZ)
        pushes: list[Callable[[], None]] = [
            partial(stream.push_audio, whole[start : start + step], SAMPLE_RATE_HZ)
            for start in range(first_sample, len(whole), step)
        ]
        for _ in done_ahead([*pushes, stream.flush], in_thread=num_threads() > 1):
            yield from stream.frames()

    def render_features(
        self,
        rows: Float32[np.ndarray, "m w a"],
        motion: MotionConfig | None = None,
        scene: Scene | None = None,
        first_frame: int = 0,
    ) -> Iterator[UInt8[np.ndarray, "h wd c"]]:
        """Yield one frame for each row of ready features; silence is not gated, as none is heard.

        Args:
            rows: Features of the training's encoder (`read_ready_features`).
            motion: What the head does beside speaking.
            scene: Size and background of the frames.
            first_frame: Where to begin, a multiple of `BLOCK_FRAMES`.
        """
        renderer = FrameRenderer(self.checkpoint, scene or Scene(), motion or MotionConfig())
        stream = TalkerStream(renderer, None, None)
        stream.begin_at(first_frame)
        stream.push_features(rows)
        stream.flush()
        yield from stream.frames()


def done_ahead(calls: list[Callable[[], None]], in_thread: bool) -> Iterator[None]:
    """Yield after each of some calls, while a thread does the next one if it is to."""
    if not in_thread:
        for call in calls:
            yield call()
        return
    with ThreadPoolExecutor(1, "ahead") as pool:
        under_way = pool.submit(calls[0])
        for following in calls[1:]:
            under_way.result()
            under_way = pool.submit(following)
            yield
        yield under_way.result()


class TalkerStream:
    """One stream: audio goes in, frames come out as soon as their windows are complete."""

    def __init__(
        self, renderer: FrameRenderer, encoder: AudioFeatureEncoder | None, gain: float | None
    ) -> None:
        self._renderer = renderer
        self._encoder = encoder
        self._gain = gain
        self._streaming = (
            StreamingEncoder(encoder, gain) if isinstance(encoder, WhisperEncoder) else None
        )
        self._features = FeatureStream(
            renderer.window_frames,
            None if encoder is None else renderer.mean_silence_features,
            renderer.motion.lip_smoothing_frames,
        )
        self._resampler = StreamResampler()
        self._num_samples = 0
        self._unmeasured = np.zeros(0, np.float32)
        self._num_measured = 0
        self._num_encoded = 0
        self._collected: list[Float32[np.ndarray, " m"]] = []
        self._block: Iterator[UInt8[np.ndarray, "h wd c"]] = iter(())
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
        layout, look_ahead = self._streaming.layout, self._features.look_ahead_frames
        # Rows come `hop_frames` at a time, and a block begins anywhere between two such times.
        waits = [
            -(-(first + BLOCK_FRAMES + look_ahead) // layout.hop_frames) * layout.hop_frames - first
            for first in range(0, layout.hop_frames, BLOCK_FRAMES)
        ]
        return (max(waits) + layout.ahead_frames) / FPS

    def begin_at(self, first_frame: int, samples: Float32[np.ndarray, " m"] | None = None) -> int:
        """Render from this frame on, a multiple of `BLOCK_FRAMES`.

        Returns the first of the recording's `samples` that is to be pushed: where the encoder works
        in windows, what comes before them is not encoded.
        """
        assert first_frame % BLOCK_FRAMES == 0, "blocks are rendered whole"
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
        while True:
            # Not `yield from`, which would close the block when the caller stops inside it.
            while (frame := next(self._block, None)) is not None:
                yield frame
            block = self._ahead or self._submit_next()
            self._ahead = None
            if block is None:
                return
            if self._renderer.overlaps:
                self._ahead = self._submit_next()
            self._block = self._renderer.finish(block)

    def _submit_next(self) -> Block | None:
        """Begin the next block that is to be rendered; None until more audio is there."""
        while True:
            with self._lock:
                window = next(self._features.blocks(BLOCK_FRAMES), None)
                first = self._next_frame
                self._next_frame += 0 if window is None else len(window)
            if window is None:
                return None
            if first >= self._first_rendered:
                return self._renderer.submit(window, first + np.arange(len(window)))

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
        for gain in self._streaming.gains:
            self._num_encoded += self._streaming.layout.hop_frames
            # The gate looks a little ahead, and so did the encoder.
            count = self._num_encoded + GATE_RADIUS_FRAMES - self._num_measured
            powers = frame_powers(self._unmeasured[: count * SAMPLES_PER_FRAME] * np.float32(gain))
            self._unmeasured = self._unmeasured[len(powers) * SAMPLES_PER_FRAME :]
            self._num_measured += len(powers)
            with self._lock:
                self._features.push_powers(powers)
        with self._lock:
            self._features.push_rows(rows)
