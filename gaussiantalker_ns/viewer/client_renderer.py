"""Client renderer: Nerfstudio's rendering while playback is paused, pictures while it runs.

`ClientRenderer` takes the place of Nerfstudio's state machine of a browser. That machine adapts the
size of its pictures and cannot keep a rate; while the timeline plays it is idle, and a second
thread renders the frame that will be heard when its picture arrives.
"""

import threading
import time
from collections import deque
from typing import Any

import cv2
import numpy as np
import viser
from jaxtyping import UInt8
from nerfstudio.viewer.render_state_machine import RenderAction, RenderStateMachine
from nerfstudio.viewer.utils import CameraState
from nerfstudio.viewer.viewer import VISER_NERFSTUDIO_SCALE_RATIO, Viewer
from nerfstudio.viewer_legacy.server import viewer_utils

from gaussiantalker_ns.dataparsers.cameras import opengl_from_head_pose
from gaussiantalker_ns.viewer.client import ClientMessage, Page, notify
from gaussiantalker_ns.viewer.playback_clock import PlaybackState
from gaussiantalker_ns.viewer.session import ViewerSession, jpeg_of

LETTERBOX_COLOR = (26, 27, 30)
"""Colour beside the square picture, RGB: that of the empty page."""

EARLY_S = 0.05
"""How early a picture should reach the page, where it waits for its frame."""

FIRST_LEAD_S, LONGEST_LEAD_S = 0.15, 1.0
"""Time from the begin of a picture to its arrival: the first guess, and the most that is tried."""

REMEMBERED_PICTURES = 16
"""Pictures from whose way to the page the lead is estimated."""

MOST_ON_THE_WAY = 100
"""Pictures whose arrival is waited for."""

PUNCTUAL_FRACTION = 0.8
"""Fraction of the pictures that shall be in time; the others took unusually long."""

STILL_QUALITY = 95
"""JPEG quality of pictures that stay."""


class UnlockedViewer:
    """Nerfstudio's viewer for a caller who holds the training's lock already."""

    train_lock = None

    def __init__(self, viewer: Viewer) -> None:
        self._viewer = viewer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._viewer, name)


class ClientRenderer(RenderStateMachine):
    """The pictures of one browser."""

    def __init__(
        self, viewer: Viewer, client: viser.ClientHandle, session: ViewerSession, page: Page
    ) -> None:
        unlocked: Any = UnlockedViewer(viewer)
        super().__init__(unlocked, VISER_NERFSTUDIO_SCALE_RATIO, client)
        self._session = session
        self._page = page
        self._lead_s = FIRST_LEAD_S
        self._needed: deque[float] = deque(maxlen=REMEMBERED_PICTURES)
        self._sent: dict[int, float] = {}
        self._rendered_epoch = -1
        self._still_picture: tuple[UInt8[np.ndarray, "h wd 3"], float] | None = None

    def run(self) -> None:
        """Serve the browser until it leaves or the timeline closes."""
        player = threading.Thread(target=self._play, daemon=True)
        player.start()
        super().run()
        player.join()

    def action(self, action: RenderAction) -> None:
        """Take a wish to render, which is moot while pictures come by themselves."""
        if not self._session.timeline.playing:
            super().action(action)

    def on_message(self, message: ClientMessage) -> None:
        """Learn from the last pictures how early the next ones have to be begun."""
        speed = self._session.timeline.speed
        for number, margin in message.margins:
            lead = self._sent.pop(number, None)
            if lead is not None:
                self._needed.append(lead + EARLY_S - margin / speed)
        if self._needed:
            lead = float(np.quantile(self._needed, PUNCTUAL_FRACTION))
            self._lead_s = min(max(lead, 0.0), LONGEST_LEAD_S)

    def _play(self) -> None:
        """Render what will be heard, as long as there is something to hear."""
        session, shown = self._session, (-1, -1)
        while self.running:
            if not session.playing.wait(0.2):
                self._catch_up()
                continue
            if not self.viewer.ready:
                continue
            lead_s = self._lead_s
            playback_state = session.timeline.playback_state(lead_s)
            if not playback_state.playing:
                continue
            if (playback_state.epoch, playback_state.frame) == shown:
                time.sleep(min(session.timeline.seconds_until_next_frame(lead_s), 0.05))
                continue
            try:
                self._show(playback_state, lead_s)
            except (ValueError, FileNotFoundError) as error:
                # A damaged data set, for example: the user shall read it, and others go on.
                session.pause()
                notify(self.client, "This frame cannot be shown", str(error))
            shown = (playback_state.epoch, playback_state.frame)
            session.yield_to_training()

    def _catch_up(self) -> None:
        """Ask again for a picture that stays: the state machine may miss one of several wishes."""
        if self.viewer.ready and self._rendered_epoch != self._session.timeline.epoch:
            state = self.viewer.get_camera_state(self.client)
            self.action(RenderAction("move", state))

    def _show(self, playback_state: PlaybackState, lead_s: float) -> None:
        """Send one picture of the playback, begun `lead_s` before its frame is heard."""
        state = self.viewer.get_camera_state(self.client)
        session = self._session
        self._still_picture = None
        if session.composed:
            camera_offset = session.default_camera.camera_offset(state.c2w, state.fov)
            picture = jpeg_of(session.picture(camera_offset, playback_state.frame))
            number = self._page.show_picture(playback_state.epoch, playback_state.frame, picture)
            self._sent = {**dict(list(self._sent.items())[-MOST_ON_THE_WAY:]), number: lead_s}
            return
        self.state = "low_move"
        self._send_output_to_viewer(
            self._render_other(state, playback_state.frame), static_render=False
        )

    def _render_img(self, camera_state: CameraState) -> dict[str, Any]:
        """Render while time stands still: the finished picture, or what is chosen instead."""
        session = self._session
        self._rendered_epoch = session.timeline.epoch
        frame = session.timeline.frame
        if not session.composed:
            self._still_picture = None
            return self._render_other(camera_state, frame)
        camera_offset = session.default_camera.camera_offset(camera_state.c2w, camera_state.fov)
        picture = session.picture(camera_offset, frame)
        aspect = self.client.camera.aspect
        still = self._still_picture
        if still is not None and still[0] is picture and still[1] == aspect:
            # The state machine asks again for a larger picture; this one is as large as it gets.
            raise viewer_utils.IOChangeException
        self._still_picture = (picture, aspect)
        return {"composed": picture}

    def _render_other(self, camera_state: CameraState, frame: int) -> dict[str, Any]:
        """Render an output of the model the way Nerfstudio does, at the timeline's frame."""
        session, panel = self._session, self.viewer.control_panel
        with session.motion_applied(frame) as (_, pose):
            if self.viewer.render_tab_state.preview_render:
                session.model.viewer_frame = None  # Times of the camera path count.
            else:
                camera_offset = session.default_camera.camera_offset(
                    camera_state.c2w, camera_state.fov
                )
                camera_state.c2w = opengl_from_head_pose(camera_offset.view(pose))[:3]
            outputs = super()._render_img(camera_state)
            for name in (panel.output_render, panel.split_output_render):
                if name in outputs:
                    _ = outputs[name]
        return outputs

    def _send_output_to_viewer(self, outputs: dict[str, Any], static_render: bool = True) -> None:
        """Show what `_render_img` made, and take the last picture of the playback away."""
        if "composed" in outputs:
            framed = letterboxed(outputs["composed"], self.client.camera.aspect)
            self.client.scene.set_background_image(framed, "jpeg", STILL_QUALITY)
            height, width = outputs["composed"].shape[:2]
            self.viewer.stats_markdown.content = self.viewer.make_stats_markdown(
                None, f"{width}x{height}px"
            )
        else:
            super()._send_output_to_viewer(outputs, static_render)
        self._page.reveal()


def letterboxed(picture: UInt8[np.ndarray, "h wd 3"], aspect: float) -> UInt8[np.ndarray, "_ _ 3"]:
    """Put bars beside or above a picture, so that a window of another shape does not stretch it."""
    height, width = picture.shape[:2]
    across = max(round((aspect * height - width) / 2), 0)
    above = max(round((width / aspect - height) / 2), 0)
    framed = cv2.copyMakeBorder(
        picture, above, above, across, across, cv2.BORDER_CONSTANT, value=LETTERBOX_COLOR
    )
    return np.asarray(framed, np.uint8)
