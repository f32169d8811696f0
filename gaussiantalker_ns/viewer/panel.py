"""The panel "Audio timeline": what users press, and how it follows what happens."""

import base64
import threading
from collections.abc import Callable
from typing import Any

import cv2
import matplotlib
import numpy as np
import viser
from nerfstudio.viewer.control_panel import ControlPanel

from gaussiantalker_ns.timebase import FPS
from gaussiantalker_ns.viewer.picture import COLOR_MAP
from gaussiantalker_ns.viewer.playback_clock import SPEEDS
from gaussiantalker_ns.viewer.session import ViewerSession

HOST = '<div id="gaussiantalker-timeline"></div>'
"""Where the page draws the curves; plain HTML and JSX alike, for viser's markdown is JSX."""

LEGEND_SIZE = (14, 220)
"""Height and width of the colour scale in pixels."""


class TransportControls:
    """Play, pause, loop, speed, volume, position and choice of the sound."""

    def __init__(
        self, gui: viser.GuiApi, folder: viser.GuiFolderHandle, session: ViewerSession
    ) -> None:
        self._gui, self._folder, self._session = gui, folder, session
        gui.add_markdown(HOST)
        self._play = gui.add_button("Play", icon=viser.Icon.PLAYER_PLAY_FILLED)
        self._pause = gui.add_button("Pause", icon=viser.Icon.PLAYER_PAUSE_FILLED, visible=False)
        self._play.on_click(lambda event: session.play(event.client_id))
        self._pause.on_click(lambda _: session.pause())
        self._anchor = self._pause.order
        self._frame: Any = None
        self._seconds: Any = None
        self._num_frames = 0
        self._following = threading.RLock()
        self._loop = gui.add_checkbox("Loop", initial_value=False)
        self._loop.on_update(lambda _: session.set_loop(self._loop.value))
        speeds = {f"{value:g}x": value for value in SPEEDS}
        speed = gui.add_dropdown("Speed", list(speeds), initial_value="1x")
        speed.on_update(lambda _: session.set_speed(speeds[speed.value]))
        volume = gui.add_slider("Volume", min=0, max=100, step=1, initial_value=100)
        volume.on_update(lambda _: session.set_volume(min(max(volume.value, 0), 100) / 100))
        self._audio = gui.add_dropdown(
            "Audio", [track.label for track in session.tracks], hint="What is heard and spoken."
        )
        self._audio.on_update(lambda _: session.choose(self._audio.value))
        self.upload = gui.add_upload_button(
            "Another recording",
            icon=viser.Icon.UPLOAD,
            mime_type="audio/*,video/*",
            hint="wav, mp3 or any other recording of at most 10 minutes and 64 MiB.",
        )

    def follow(self) -> None:
        """Show where the playback stands; several threads may ask for it at once."""
        timeline = self._session.timeline
        with self._following:
            playback_state = timeline.playback_state()
            if self._play.visible == playback_state.playing:
                self._play.visible, self._pause.visible = (
                    not playback_state.playing,
                    playback_state.playing,
                )
            if timeline.num_frames != self._num_frames:
                self._renew_sliders(timeline.num_frames)
            if self._frame.value != playback_state.frame:
                self._frame.value = playback_state.frame
                self._seconds.value = playback_state.frame / FPS
            if self._loop.value != timeline.loop:
                self._loop.value = timeline.loop

    def list_tracks(self, chosen: str) -> None:
        """Offer all soundtracks, with one of them chosen."""
        self._audio.options = [track.label for track in self._session.tracks]
        if self._audio.value != chosen:
            self._audio.value = chosen

    def _renew_sliders(self, num_frames: int) -> None:
        # viser's sliders keep the range they were made with.
        for old in (self._frame, self._seconds):
            if old is not None:
                old.remove()
        self._num_frames = num_frames
        last = max(num_frames - 1, 1)
        with self._folder:
            self._frame = self._gui.add_slider(
                "Frame", min=0, max=last, step=1, initial_value=0, order=self._anchor + 0.1
            )
            self._seconds = self._gui.add_slider(
                "Seconds",
                min=0.0,
                max=last / FPS,
                step=1 / FPS,
                initial_value=0.0,
                order=self._anchor + 0.2,
            )
        self._frame.on_update(self._sought(lambda: self._frame.value))
        self._seconds.on_update(self._sought(lambda: round(self._seconds.value * FPS)))

    def _sought(self, frame: Callable[[], int]) -> Callable[[viser.GuiEvent], None]:
        """Go where a user has moved a slider; what the program moves has no client."""

        def go(event: viser.GuiEvent) -> None:
            if event.client is not None and frame() != self._session.timeline.frame:
                self._session.seek(frame())

        return go


class HeadControls:
    """What the head does beside speaking."""

    def __init__(self, gui: viser.GuiApi, session: ViewerSession) -> None:
        self._session = session
        set_options = session.set_options
        motion = gui.add_dropdown(
            "Pose",
            ("from the track", "free orbit"),
            hint="The head moves as recorded, or keeps still; drag the picture to turn it.",
        )
        motion.on_update(lambda _: set_options(motion=motion.value))
        default_camera = gui.add_button("Camera of the clip", icon=viser.Icon.CAMERA)
        default_camera.on_click(
            lambda event: event.client and session.default_camera.place(event.client)
        )
        self._eyes = gui.add_dropdown("Eyes", ("as recorded", "auto-blink", "slider"))
        self._eyes.on_update(lambda _: self._look())
        self._blink = gui.add_slider("Blink", min=0.0, max=1.0, step=0.01, initial_value=0.0)
        self._blink.on_update(self._blinked)
        self._stage = gui.add_dropdown("Stage", ("deformed", "canonical"))
        self._stage.on_update(lambda _: set_options(canonical=self._stage.value == "canonical"))
        self._add_torso(gui)
        self._add_tokens(gui)

    def follow(self) -> None:
        """Show what the program has chosen."""
        if self._eyes.value != self._session.options.eyes:
            self._eyes.value = self._session.options.eyes

    def _look(self) -> None:
        if self._eyes.value != self._session.options.eyes:
            self._session.set_options(eyes=self._eyes.value, closure=self._blink.value)

    def _blinked(self, event: viser.GuiEvent) -> None:
        """Take the lids over as soon as somebody moves the slider."""
        if event.client is not None:
            self._session.set_options(eyes="slider", closure=self._blink.value)
            self.follow()

    def _add_torso(self, gui: viser.GuiApi) -> None:
        session = self._session
        torso = gui.add_dropdown("Torso", session.torso_modes)
        torso.on_update(lambda _: session.set_options(torso=torso.value))

    def _add_tokens(self, gui: viser.GuiApi) -> None:
        names = self._session.model.head.tokens.names
        boxes = {name: gui.add_checkbox(f"Token: {name}", initial_value=True) for name in names}

        def listen(_event: Any) -> None:
            off = frozenset(name for name, box in boxes.items() if not box.value)
            self._session.set_options(silenced=off)

        for box in boxes.values():
            box.on_update(listen)
        overlay = gui.add_dropdown("Attention to", ("nothing", *names))
        self._legend = gui.add_markdown("", visible=False)

        def lay_over(_event: Any) -> None:
            token = None if overlay.value == "nothing" else overlay.value
            self._session.set_options(attention=token)
            # The scale is known as soon as a picture has been rendered with it.
            threading.Timer(0.6, self._explain).start()

        overlay.on_update(lay_over)

    def _explain(self) -> None:
        token = self._session.options.attention
        if token is not None:
            self._legend.content = legend(token, *self._session.colors.limits)
        self._legend.visible = token is not None


def legend(token: str, low: float, high: float) -> str:
    """Markdown of the colour scale: which colour stands for which fraction of the attention."""
    height, width = LEGEND_SIZE
    ramp = np.broadcast_to(np.linspace(0, 1, width), (height, width))
    colors = (matplotlib.colormaps[COLOR_MAP](ramp)[..., 2::-1] * 255).astype(np.uint8)
    done, png = cv2.imencode(".png", np.ascontiguousarray(colors))
    assert done, "a picture of bytes can be compressed"
    data = base64.b64encode(png.tobytes()).decode("ascii")
    return (
        f"![scale](data:image/png;base64,{data})\n\n"
        f"Fraction of the attention that goes to the {token} token: {low:.2f} to {high:.2f}"
    )


class TimeSliders:
    """Keeps Nerfstudio's own sliders of time where the timeline stands.

    The panel's "Time" moves the timeline, too; the Render tab's "Default Time" is the time of
    keyframes that have none of their own.
    """

    def __init__(self, gui: viser.GuiApi, panel: ControlPanel, session: ViewerSession) -> None:
        self._session = session
        self._time = panel._time
        self._shown: float | None = None
        self._time.cb_hook = lambda _: self._moved()
        # Nerfstudio keeps this slider to itself; viser knows its inputs by their labels only.
        inputs = list(gui._gui_input_handle_from_id.values())
        self._default = next((one for one in inputs if one._impl.label == "Default Time"), None)

    def follow(self) -> None:
        """Move the sliders to the timeline's time."""
        session = self._session
        frame = session.track.model_frame(session.timeline.frame)
        time = frame / max(self._num_model_frames - 1, 1)
        if time == self._shown:
            return
        self._shown = time
        self._time.value = time
        if self._default is not None:
            self._default.value = time

    @property
    def _num_model_frames(self) -> int:
        track = self._session.track
        return self._session.model.bank.num_track_frames if track.rows is None else len(track.rows)

    def _moved(self) -> None:
        value = float(self._time.value)
        if self._shown is not None and abs(value - self._shown) < 1e-6:
            return
        self._shown = value
        model_frame = round(value * (self._num_model_frames - 1))
        self._session.seek(self._session.track.position(model_frame))
