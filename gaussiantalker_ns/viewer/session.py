"""Viewer session: the soundtrack, the playback options and the clients that all browsers share.

Like everything in Nerfstudio's panel, the timeline is one for all: whoever presses Play plays for
everybody, and the sound of that browser is the clock. Each browser has a camera of its own.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import torch
from jaxtyping import Float, UInt8
from nerfstudio.viewer.viewer import Viewer
from torch import Tensor

from gaussiantalker_ns.model import GaussianTalkerModel
from gaussiantalker_ns.viewer.camera import CameraOffset, DefaultCamera
from gaussiantalker_ns.viewer.client import ClientMessage, Page
from gaussiantalker_ns.viewer.picture import AttentionColors, composed_picture
from gaussiantalker_ns.viewer.playback_clock import Timeline
from gaussiantalker_ns.viewer.playback_options import (
    BlinkTrack,
    PlaybackOptions,
    applied,
    torso_modes,
)
from gaussiantalker_ns.viewer.tracks import Soundtrack, clip_soundtracks, unique_label

MAX_UPLOADS = 6
"""Uploaded recordings that are kept; the oldest goes first."""

NUDGE_S = 0.06
"""A browser that follows is corrected when its sound is further off than this."""

LIVE_QUALITY = 85
"""JPEG quality of the pictures of the playback."""

MOST_TRAINING_FRACTION = 0.95
"""Fraction of the time that a training can take at most while somebody plays."""


class ViewerSession:
    """One model and all of its clients."""

    def __init__(self, viewer: Viewer, model: GaussianTalkerModel) -> None:
        """Begin with the training track, standing still.

        Args:
            viewer: Nerfstudio's viewer.
            model: What is shown.
        """
        self.viewer = viewer
        self.model = model
        self.lock = viewer.train_lock or threading.Lock()
        self.tracks = clip_soundtracks(model.bank, model.background.layers.layout)
        self.options = PlaybackOptions()
        self.torso_modes = torso_modes(model.background.mode)
        self.colors = AttentionColors()
        layers = model.background.layers
        self.default_camera = DefaultCamera(model.bank, model.background.K.cpu(), layers.size)
        self.pages: dict[int, Page] = {}
        self.volume = 1.0
        self.playing = threading.Event()
        """Set while the screens have something to play."""
        self.on_change: list[Callable[[], None]] = []
        """Called after every change of track, position or playback."""
        self._lock = threading.Lock()
        self._telling = threading.Lock()
        """Held from reading the timeline to telling it: what was read first is told first."""
        self._held = threading.local()
        self._last: tuple[Any, UInt8[np.ndarray, "h wd 3"]] | None = None
        self.track_key = 0
        """Number of the soundtrack that is heard; it changes with every choice."""
        self.track = self.tracks[0]
        self.blinks = BlinkTrack(self.track.num_frames)
        self.timeline = Timeline(self.track.num_frames)

    # What users do.

    def play(self, browser: int | None) -> None:
        """Play from here; the browser that asked for it is the clock."""
        self.timeline.play(browser)
        self.broadcast()

    def pause(self) -> None:
        """Stand still."""
        self.timeline.pause()
        self.broadcast()

    def seek(self, frame: int) -> None:
        """Go to a frame of the soundtrack."""
        self.timeline.seek(frame)
        self.broadcast()

    def set_speed(self, speed: float) -> None:
        """Play faster or slower."""
        self.timeline.change_speed(speed)
        self.broadcast()

    def set_loop(self, loop: bool) -> None:
        """Begin again at the end, or stop there."""
        self.timeline.loop = loop
        self.timeline.seek(self.timeline.frame)
        self.broadcast()

    def set_volume(self, volume: float) -> None:
        """Loudness in [0, 1], for everybody."""
        self.volume = volume
        for page in self.present():
            page.set_volume(volume)

    def set_options(self, **changes: Any) -> None:
        """Change what the head does; see `PlaybackOptions`.

        Raises:
            ValueError: If this model cannot do that.
        """
        wanted = replace(self.options, **changes)
        if wanted.torso not in (None, *self.torso_modes):
            raise ValueError(f"torso is {wanted.torso!r}; expected one of {self.torso_modes}.")
        names = self.model.head.tokens.names
        if wanted.attention not in (None, *names):
            raise ValueError(f"attention is {wanted.attention!r}; expected one of {names}.")
        self.options = wanted
        self.colors.forget()
        self.show_again()

    def choose(self, label: str) -> None:
        """Hear another soundtrack from its beginning."""
        found = [track for track in self.tracks if track.label == label]
        if not found or found[0] is self.track:
            return
        with self._lock:
            self.track, self.blinks = found[0], BlinkTrack(found[0].num_frames)
            self.track_key += 1
        self.timeline.change_track(self.track.num_frames)
        # Generated blinks go with audio that comes without a face, recorded eyes with the clip's.
        self.options = replace(
            self.options, eyes="as recorded" if self.track.rows is None else "auto-blink"
        )
        self.broadcast()

    def add(self, track: Soundtrack) -> str:
        """Keep an uploaded soundtrack and return its name in the panel."""
        with self._lock:
            own = [kept for kept in self.tracks if kept.rows is None]
            uploads = [kept for kept in self.tracks if kept.rows is not None]
            label = unique_label(track.label, [kept.label for kept in self.tracks])
            uploads = [*uploads, replace(track, label=label)][-MAX_UPLOADS:]
            self.tracks = [*own, *uploads]
        return label

    # What browsers are told, and what they say.

    def present(self) -> list[Page]:
        """Everybody who watches."""
        return list(self.pages.values())

    def broadcast(self) -> None:
        """Tell everybody where the playback stands, and show it."""
        for page in self.present():
            self.sync_client(page)
        with self._telling:
            playing = self.timeline.playing
            if playing:
                self.playing.set()
            else:
                self.playing.clear()
        if not playing:
            self.show_again()
        for callback in self.on_change:
            callback()

    def sync_client(self, page: Page) -> None:
        """Tell one browser where the playback stands."""
        timeline = self.timeline
        with self._telling:
            playback_state = timeline.playback_state()
            page.go(
                playback_state.epoch,
                playback_state.frame,
                playback_state.playing,
                speed=timeline.speed,
                loop=timeline.loop,
            )

    def on_message(self, browser: int, message: ClientMessage) -> None:
        """Act on what a page has said."""
        timeline = self.timeline
        if message.kind == "seek":
            self.seek(message.frame)
        elif message.kind == "clock":
            ahead = timeline.report(browser, message.epoch, message.seconds)
            page = self.pages.get(browser)
            if ahead is not None and abs(ahead) > NUDGE_S and page is not None:
                page.nudge(message.epoch, timeline.position_s)
        elif message.kind == "ended" and browser == timeline.leader and not timeline.loop:
            self.finish(message.epoch)

    def finish(self, epoch: int) -> None:
        """Stand still at the last frame, if this stretch of playback is not over already."""
        if self.timeline.finish(epoch):
            self.broadcast()

    def on_disconnect(self, browser: int) -> None:
        """Forget a browser; if its sound was the clock, another one's is now."""
        self.pages.pop(browser, None)
        if self.timeline.leader == browser:
            self.timeline.leader = next(iter(self.pages), None)
            if self.timeline.leader is None and self.timeline.playing:
                # Browsers leave while viser holds a lock that showing pictures needs.
                threading.Thread(target=self.pause, daemon=True).start()

    # Pictures.

    def show_again(self) -> None:
        """Render anew for everybody while time stands still."""
        if self.viewer.ready:
            self.viewer._trigger_rerender()

    @property
    def composed(self) -> bool:
        """Whether the finished picture is wanted, not another output of the model."""
        panel = self.viewer.control_panel
        plain = panel.output_render == "rgb" and not panel.split and not panel.crop_viewport
        return plain and not self.viewer.render_tab_state.preview_render

    @contextmanager
    def motion_applied(self, position: int) -> Iterator[tuple[int, Float[Tensor, "4 4"]]]:
        """Direct the model, alone, for one picture.

        Yields:
            The model's number of the frame, and the head's pose before the clip's camera.
        """
        with self._lock:
            track, blinks = self.track, self.blinks
        position = min(position, track.num_frames - 1)
        options = self.options
        with self.lock, self._timed():
            closure = blinks.closure(options, position)
            with applied(self.model, track, options, position, closure) as frame:
                pose = self.default_camera.calm_pose
                if options.motion == "from the track":
                    bank = self.model.bank
                    source = bank.track_frames(torch.tensor([frame], device=bank.audio.device))
                    pose = bank.poses[int(source)].cpu()
                yield frame, pose

    @contextmanager
    def _timed(self) -> Iterator[None]:
        """Remember how long this thread has kept a training from its work."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self._held.seconds = time.perf_counter() - started

    def picture(self, camera_offset: CameraOffset, position: int) -> UInt8[np.ndarray, "h wd 3"]:
        """The finished picture of a frame; browsers that see the same share it."""
        size = self.viewer.control_panel.max_res
        key = (self.track_key, position, self.options, camera_offset.key, size, self.viewer.step)
        with self.motion_applied(position) as (frame, pose):
            if self._last is None or self._last[0] != key:
                picture = composed_picture(
                    self.model,
                    frame,
                    pose,
                    camera_offset,
                    self.options.attention,
                    self.colors,
                    size,
                )
                self._last = (key, picture)
            return self._last[1]

    def yield_to_training(self) -> None:
        """Leave a training beside the viewer the fraction of the time that "Train Util" asks
        for."""
        trainer = self.viewer.trainer
        if trainer is None or trainer.training_state != "training":
            return
        fraction = min(self.viewer.control_panel.train_util, MOST_TRAINING_FRACTION)
        time.sleep(getattr(self._held, "seconds", 0.0) * fraction / (1.0 - fraction))


def jpeg_of(picture: UInt8[np.ndarray, "h wd 3"], quality: int = LIVE_QUALITY) -> bytes:
    """Compress an RGB picture."""
    flags = [cv2.IMWRITE_JPEG_QUALITY, quality]
    done, data = cv2.imencode(".jpg", np.ascontiguousarray(picture[..., ::-1]), flags)
    assert done, "a picture of bytes can be compressed"
    return data.tobytes()
