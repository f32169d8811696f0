"""The run-time object: load a trained talker once, push audio in, pull frames out.

Files and streams take the same way: `Talker.render` sends a whole recording through the stream that
an application feeds bit by bit, and frames are rendered in blocks whose ends the latency settings
decide; so the frames do not depend on how the audio was cut into pieces.

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
from gaussiantalker_ns.audio.encoders.whisper import WhisperEncoder, WindowLayout
from gaussiantalker_ns.audio.loudness import speech_gain
from gaussiantalker_ns.inference.frame_renderer import FrameRenderer
from gaussiantalker_ns.inference.motion import MotionConfig
from gaussiantalker_ns.inference.scene import Scene
from gaussiantalker_ns.inference.stream.latency import QUALITY, LatencyConfig, latency_of
from gaussiantalker_ns.inference.stream.talker_stream import TalkerStream
from gaussiantalker_ns.inference.trained_talker import TrainedTalker, load_trained
from gaussiantalker_ns.kernels.compile import num_threads
from gaussiantalker_ns.timebase import SAMPLE_RATE_HZ, whole_frames

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
        self._encoders: dict[WindowLayout, WhisperEncoder] = {}
        self._lock = Lock()

    @cached_property
    def encoder(self) -> AudioFeatureEncoder:
        """What turns audio into the features of the training.

        Raises:
            ValueError: If its features can only be read, not computed; see `render_features`.
        """
        model = self.checkpoint.model
        return get_encoder(model.bank.audio_encoder, device=str(model.device))

    def encoders(self, latency: LatencyConfig) -> list[AudioFeatureEncoder]:
        """What turns audio into features with these settings; streams share them.

        Encoders that need the whole recording have no windows and are the same with all settings.
        """
        if not isinstance(self.encoder, WhisperEncoder):
            return [self.encoder]
        with self._lock:
            known = self._encoders
            known.setdefault(self.encoder.layout, self.encoder)
            for layout in latency.layouts:
                if layout not in known:
                    known[layout] = WhisperEncoder(layout, self.encoder.device)
            return [known[layout] for layout in latency.layouts]

    @classmethod
    def load(cls, path: Path | str | None = None, data: Path | None = None) -> "Talker":
        """Load a talker file, or the newest checkpoint of a run; see `load_trained`."""
        return cls(load_trained(None if path is None else Path(path), data))

    def stream(
        self,
        motion: MotionConfig | None = None,
        scene: Scene | None = None,
        gain: float | None = None,
        latency: LatencyConfig | str = QUALITY,
    ) -> TalkerStream:
        """Begin a stream that is fed with audio bit by bit.

        Args:
            motion: What the head does beside speaking.
            scene: Size and background of the frames.
            gain: The factor that levels the speech, where it is known (`speech_gain`); None
                follows the speaker's level slowly, beginning at 1.
            latency: How far frames run behind the sound: settings, or a preset's name (`quality`,
                0.84 s, or `live`, 0.16 s).
        """
        latency = latency_of(latency)
        renderer = FrameRenderer(self.checkpoint, scene or Scene(), motion or MotionConfig())
        return TalkerStream(renderer, self.encoders(latency), gain, latency)

    def render(
        self,
        samples: Float32[np.ndarray, " m"],
        motion: MotionConfig | None = None,
        scene: Scene | None = None,
        gain: float | None = None,
        first_frame: int = 0,
        latency: LatencyConfig | str = QUALITY,
    ) -> Iterator[UInt8[np.ndarray, "h wd c"]]:
        """Yield round(25 x duration) frames for mono samples at 16 kHz, at least one.

        Args:
            samples: The whole recording (`read_audio`).
            motion: What the head does beside speaking.
            scene: Size and background of the frames.
            gain: The factor that levels the speech; None measures it on the recording.
            first_frame: Where to begin, between two blocks (a multiple of four frames as usual).
            latency: Settings of the stream, which need not wait here.
        """
        gain = speech_gain(samples) if gain is None else gain
        stream = self.stream(motion, scene, gain, latency)
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
            first_frame: Where to begin, a multiple of four frames.
        """
        renderer = FrameRenderer(self.checkpoint, scene or Scene(), motion or MotionConfig())
        stream = TalkerStream(renderer, [], None)
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
