"""Timeline control: connects the audio timeline to Nerfstudio's viewer and its browsers."""

import atexit
import threading
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import viser
from nerfstudio.viewer.viewer import Viewer
from nerfstudio.viewer.viewer_elements import ViewerControl
from viser import _messages

from gaussiantalker_ns.model import GaussianTalkerModel
from gaussiantalker_ns.viewer.client import ClientMessage, Page, notify
from gaussiantalker_ns.viewer.client_renderer import ClientRenderer
from gaussiantalker_ns.viewer.panel import HeadControls, TimeSliders, TransportControls
from gaussiantalker_ns.viewer.session import ViewerSession
from gaussiantalker_ns.viewer.tracks import (
    MAX_UPLOAD_BYTES,
    Soundtrack,
    safe_label,
    too_large,
    uploaded_soundtrack,
)
from gaussiantalker_ns.viewer.waveform import (
    MouthGauge,
    curve_levels,
    loudness_levels,
    recorded_openings,
)

if TYPE_CHECKING:
    from nerfstudio.viewer.viewer import Viewer


FOLLOW_S = 0.25
"""Time between two updates of the panel's sliders while the timeline plays."""

OVERDUE_S = 1.0
"""Playback that nobody has ended this long after its end is ended here."""

CURVE_CHUNK_FRAMES = 128
"""Frames of the mouth curve that are computed before others get their turn."""

CURVE_STEPS = 500
"""Training steps after which the mouth curve is computed anew."""

CLOSING_S = 5.0
"""How long a thread may take to finish its picture when the timeline closes."""


class TimelineControl:
    """The audio timeline in one viewer."""

    def __init__(self, viewer: Viewer, model: GaussianTalkerModel) -> None:
        """Add the panel and wait for browsers."""
        self._viewer = viewer
        self.session = ViewerSession(viewer, model)
        self._gauge = MouthGauge(model, model.background.layers.layout)
        self._curves: dict[str, Any] = {}
        self._drawn = (-1, 0)
        self._cameras_hidden = False
        self._ended_at: float | None = None
        server = viewer.viser_server
        with server.gui.add_folder("Audio timeline", order=-1) as folder:
            self._transport = TransportControls(server.gui, folder, self.session)
            with server.gui.add_folder("Head", expand_by_default=False):
                self._head = HeadControls(server.gui, self.session)
        self._times = TimeSliders(server.gui, viewer.control_panel, self.session)
        self._transport.upload.on_upload(self._receive)
        self._refuse_large_files(server)
        self.session.on_change.append(self._follow)
        self._follow()
        server.on_client_connect(self._welcome)
        server.on_client_disconnect(lambda client: self.session.on_disconnect(client.client_id))
        self._closed = threading.Event()
        self._attendant = threading.Thread(target=self._attend, daemon=True)
        self._attendant.start()
        atexit.register(self.close)

    def close(self) -> None:
        """End the timeline's threads; Python aborts if one of them outlives it inside torch."""
        atexit.unregister(self.close)
        if self._closed.is_set():
            return
        self._closed.set()
        self.session.on_change.remove(self._follow)  # The panel may be gone before its browsers.
        renderers = list(self._viewer.render_statemachines.values())
        for renderer in renderers:
            renderer.running = False
        for thread in (*renderers, self._attendant):
            thread.join(CLOSING_S)

    # Browsers.

    def _welcome(self, client: viser.ClientHandle) -> None:
        """Give a new browser its screen and its place; viser's lock is held meanwhile."""
        viewer, session, number = self._viewer, self.session, client.client_id

        def on_message(message: ClientMessage) -> None:
            if message.kind == "refused":
                notify(client, "Too large", too_large("The file", message.num_bytes))
                return
            renderer.on_message(message)
            session.on_message(number, message)

        page = Page(client, self._transport.upload._impl.id, MAX_UPLOAD_BYTES, on_message)
        renderer = ClientRenderer(viewer, client, session, page)
        viewer.render_statemachines[number].running = False
        viewer.render_statemachines[number] = renderer
        session.default_camera.place(client)
        session.pages[number] = page
        renderer.start()
        threading.Thread(target=self._introduce, args=(page,), daemon=True).start()

    def _introduce(self, page: Page) -> None:
        """Tell a new browser everything that the others know."""
        if not self._cameras_hidden and hasattr(self._viewer, "camera_handles"):
            # They stand where the viewer stands: one would look through dozens of pictures.
            self._cameras_hidden = True
            self._viewer.set_camera_visibility(False)
            self._viewer.toggle_cameravis_button()
        self._hand_out(page)
        page.set_volume(self.session.volume)
        self.session.sync_client(page)

    def _hand_out(self, page: Page) -> None:
        """Give a browser curves and sound of the present soundtrack."""
        session = self.session
        key, track = session.track_key, session.track
        if self._curves.get("key") != key:
            self._curves = self._quick_curves(key, track)
        page.show_track(self._curves)
        page.send_sound(key, track.samples)

    # Files.

    def _receive(self, event: viser.GuiEvent) -> None:
        """Make a file that a user has sent the soundtrack."""
        client = event.client
        file = self._transport.upload.value
        try:
            track = uploaded_soundtrack(self.session.model.bank, file.name, file.content)
        except ValueError as error:
            notify(client, "This file cannot be used", str(error))
            return
        self.session.choose(self.session.add(track))

    def _refuse_large_files(self, server: viser.ViserServer) -> None:
        """Forget transfers that announce more than the limit, whatever page they come from."""
        upload_id = self._transport.upload._impl.id

        def check(client_id: int, message: _messages.FileTransferStart) -> None:
            if message.source_component_id == upload_id and message.size_bytes > MAX_UPLOAD_BYTES:
                server.gui._current_file_upload_states.pop(message.transfer_uuid, None)
                text = too_large(safe_label(message.filename), message.size_bytes)
                notify(server.get_clients().get(client_id), "Too large", text)

        server._websock_server.register_handler(_messages.FileTransferStart, check)

    # The panel.

    def _follow(self) -> None:
        """Bring everything that is drawn to where the session stands."""
        session = self.session
        self._transport.follow()
        self._head.follow()
        self._times.follow()
        if self._curves.get("key") not in (None, session.track_key):
            self._transport.list_tracks(session.track.label)
            for page in session.present():
                self._hand_out(page)
                session.sync_client(page)

    def _attend(self) -> None:
        """Follow the playback, end it where no browser does, and keep the curves up to date."""
        while not self._closed.wait(FOLLOW_S):
            session, timeline = self.session, self.session.timeline
            if timeline.playing:
                self._transport.follow()
                self._times.follow()
                self._end_overdue(timeline.epoch, timeline.position_s >= timeline.duration_s)
            key, step = self._drawn
            stale = session.track_key != key or self._viewer.step >= step + CURVE_STEPS
            if stale and self._viewer.ready and session.pages:
                self._draw_mouth()

    def _end_overdue(self, epoch: int, at_end: bool) -> None:
        if not at_end or self.session.timeline.loop:
            self._ended_at = None
            return
        now = time.monotonic()
        self._ended_at = self._ended_at or now
        if now - self._ended_at > OVERDUE_S:
            self.session.finish(epoch)

    # Curves.

    def _quick_curves(self, key: int, track: Soundtrack) -> dict[str, Any]:
        """What can be drawn at once: the sound, and the recorded mouth of the clip."""
        model = self.session.model
        recorded = None
        if track.rows is None:
            layout = model.background.layers.layout
            recorded = recorded_openings(layout, model.bank.num_track_frames)
        first, last = track.model_frame(0), track.model_frame(track.num_frames)
        return {
            "key": key,
            "label": track.label,
            "frames": track.num_frames,
            "loudness": loudness_levels(track.samples),
            "recorded": [] if recorded is None else curve_levels(recorded[first : last + 1]),
            "mouth": [],
        }

    def _draw_mouth(self) -> None:
        """Compute how far the model opens the mouth, a little at a time."""
        session = self.session
        key, track, step = session.track_key, session.track, self._viewer.step
        pieces = []
        for start in range(0, track.num_frames, CURVE_CHUNK_FRAMES):
            stop = min(start + CURVE_CHUNK_FRAMES, track.num_frames)
            with session.motion_applied(start):
                if session.track_key != key or self._closed.is_set():
                    return
                frames = range(track.model_frame(start), track.model_frame(stop - 1) + 1)
                pieces.append(self._gauge.openings(frames))
        self._drawn = (key, step)
        curves = self._curves if self._curves.get("key") == key else self._quick_curves(key, track)
        self._curves = {**curves, "mouth": curve_levels(np.concatenate(pieces))}
        for page in session.present():
            page.show_track(self._curves)


class AudioTimeline(ViewerControl):
    """Nerfstudio finds this object as an attribute of the pipeline and calls `_setup`."""

    def __init__(self, model: GaussianTalkerModel) -> None:
        # No public attribute may lead to the model: Nerfstudio searches those for controls.
        self._model = model

    def _setup(self, viewer: "Viewer") -> None:
        """Build the panel; what only a viewer needs is imported only where there is one."""
        super()._setup(viewer)

        self.control = TimelineControl(viewer, self._model)
