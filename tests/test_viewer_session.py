"""Pictures and directions of a trained head behind Nerfstudio's viewer, without a browser."""

import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from synthetic_talker import write_wav
from viewer_runs import FRAMES, served, session_of, train_head

from gaussiantalker_ns.engine.optimizers import Stage
from gaussiantalker_ns.frame_signals import Overrides
from gaussiantalker_ns.inference.external_audio import set_bank_audio
from gaussiantalker_ns.viewer.camera import CameraOffset
from gaussiantalker_ns.viewer.client_renderer import LETTERBOX_COLOR, letterboxed
from gaussiantalker_ns.viewer.panel import legend
from gaussiantalker_ns.viewer.playback_options import PlaybackOptions, applied, torso_modes
from gaussiantalker_ns.viewer.tracks import uploaded_soundtrack
from gaussiantalker_ns.viewer.waveform import MouthGauge, recorded_openings

ROUNDING = 1  # Levels of a byte: the other path mixes head and background in another order.


@pytest.fixture(scope="module")
def viewer(tmp_path_factory):
    root = tmp_path_factory.mktemp("session")
    with served(train_head(root), root) as viewer:
        # No browser is there to make Nerfstudio's panel offer the outputs.
        viewer.control_panel.update_output_options(["rgb"])
        viewer.control_panel._output_render.value = "rgb"
        yield viewer


@pytest.fixture
def session(viewer):
    session = session_of(viewer)
    yield session
    session.options = PlaybackOptions()
    session.choose("Training track")


@pytest.fixture
def default_camera(session):
    return CameraOffset(torch.eye(4), session.default_camera.fov)


def rendered_by_nerfstudio(session, frame):
    model = session.model
    cameras = session.viewer.pipeline.datamanager.train_dataset.cameras
    outputs = model.get_outputs_for_camera(cameras[frame : frame + 1])
    return (outputs["rgb"] * 255 + 0.5).byte().numpy()


def difference(first, second):
    return np.abs(first.astype(int) - second.astype(int)).max()


@pytest.mark.parametrize("frame", [0, 17, 99])
def test_a_frame_of_the_track_is_the_one_nerfstudio_renders(session, default_camera, frame):
    expected = rendered_by_nerfstudio(session, frame)
    assert difference(session.picture(default_camera, frame), expected) <= ROUNDING


def test_held_out_frames_count_from_their_own_beginning(session, default_camera):
    session.choose("Held-out part")
    assert session.timeline.num_frames == FRAMES - 100
    with session.motion_applied(2) as (frame, pose):
        assert frame == 102
        assert torch.equal(pose, session.model.bank.poses[102])


def test_a_recording_is_spoken_as_drive_would_have_it(session, default_camera, tmp_path):
    generator = np.random.default_rng(1)
    write_wav(tmp_path / "a.wav", 0.1 * generator.standard_normal(16_000))
    bank = session.model.bank
    content = (tmp_path / "a.wav").read_bytes()
    session.choose(session.add(uploaded_soundtrack(bank, "a.wav", content)))
    assert session.options.eyes == "auto-blink" and session.timeline.num_frames == 25
    session.set_options(eyes="as recorded")
    set_bank_audio(bank, tmp_path / "a.wav")
    source = int(bank.track_frames(torch.tensor([7])))
    session.model.viewer_frame = 7
    cameras = session.viewer.pipeline.datamanager.train_dataset.cameras[source : source + 1]
    cameras.metadata = None
    expected = (session.model.get_outputs_for_camera(cameras)["rgb"] * 255 + 0.5).byte().numpy()
    session.model.viewer_frame = None
    bank.set_audio(None)
    assert difference(session.picture(default_camera, 7), expected) <= ROUNDING


def test_uploads_are_kept_up_to_a_number_and_named_apart(session):
    own = session.tracks[:2]
    session.tracks = own
    recording = replace(own[0], label="a", rows=torch.zeros(50, 2, 384))
    labels = [session.add(recording) for _ in range(8)]
    assert labels[:3] == ["a", "a (2)", "a (3)"]
    assert [track.label for track in session.tracks[:2]] == [track.label for track in own]
    assert len(session.tracks) == 8 and session.tracks[-1].label == labels[-1]
    session.tracks = own


def test_playback_options_leave_no_trace_even_after_an_error(session):
    model = session.model
    options = PlaybackOptions(silenced=frozenset({"audio"}), canonical=True, torso="paste-back")
    before = Overrides(expression_frame=3)
    model.bank.overrides = before
    model.train()
    with pytest.raises(RuntimeError, match="in the middle"):
        with applied(model, session.track, options, 5, closure=1.0):
            assert model.stage is Stage.CANONICAL and model.viewer_frame == 5
            assert model.bank.overrides.blink == 1.0 and not model.training
            raise RuntimeError("in the middle")
    assert model.training and model.stage is Stage.DEFORMATION and model.viewer_frame is None
    assert model.bank.overrides is before and model.background.mode == "layer"
    assert not model.head.tokens._forward_hooks
    model.eval()
    model.bank.overrides = Overrides()


def test_silenced_tokens_are_zero_and_change_the_picture(session, default_camera):
    plain = session.picture(default_camera, 20)
    session.set_options(silenced=frozenset({"audio", "eye"}))
    assert difference(session.picture(default_camera, 20), plain) > ROUNDING
    model = session.model
    with session.motion_applied(20) as (frame, _):
        tokens = model.head.tokens(model.bank.condition(torch.tensor([frame])))
        norms = dict(zip(model.head.tokens.names, tokens[0].norm(dim=1).tolist()))
    assert norms["audio"] == norms["eye"] == 0 and norms["viewpoint"] > 0 and norms["null"] > 0


def test_the_canonical_stage_ignores_the_audio(session, default_camera):
    session.set_options(canonical=True)
    still = session.default_camera.calm_pose
    session.set_options(motion="free orbit")
    pictures = [session.picture(default_camera, frame) for frame in (3, 30)]
    # The torso is that of the frame; inside the head nothing may differ.
    assert difference(pictures[0][16:32, 24:40], pictures[1][16:32, 24:40]) == 0
    with session.motion_applied(30) as (_, pose):
        assert torch.equal(pose, still)


def test_lids_follow_the_slider(session, default_camera):
    bank = session.model.bank
    eyes = {}
    for closure in (0.0, 1.0):
        session.set_options(eyes="slider", closure=closure)
        with session.motion_applied(10) as (frame, _):
            eyes[closure] = bank.condition(torch.tensor([frame])).eye[0]
    low, high = bank.blink_range
    raw = eyes[1.0][5:7] * bank.expression_std[5:7] + bank.expression_mean[5:7]
    assert torch.allclose(raw, high, atol=1e-5)
    assert torch.equal(eyes[0.0][:5], eyes[1.0][:5]), "brows stay those of the frame"
    assert torch.allclose(eyes[1.0][7:], torch.zeros(10), atol=1e-5), "gaze rests at its mean"
    pictures = []
    for closure in (0.0, 1.0):
        session.set_options(closure=closure)
        pictures.append(session.picture(default_camera, 10))
    assert difference(*pictures) > ROUNDING


def test_attention_covers_the_head_only(session, default_camera):
    plain = session.picture(default_camera, 10)
    session.set_options(attention="audio")
    overlaid = session.picture(default_camera, 10)
    assert difference(overlaid[:, :4], plain[:, :4]) == 0, "nothing beside the head"
    assert difference(overlaid[20:40, 24:40], plain[20:40, 24:40]) > 30
    low, high = session.colors.limits
    assert 0 <= low < high <= 1
    assert f"{low:.2f} to {high:.2f}" in legend("audio", low, high)


@pytest.mark.parametrize(
    "wrong", [{"attention": "smell"}, {"torso": "none"}, {"eyes": "x"}, {"closure": float("nan")}]
)
def test_choices_that_are_not_offered_are_refused(session, wrong):
    before = session.options
    # The type checker of the tests is quicker with some of them.
    with pytest.raises((ValueError, TypeError), match="(?i)expected"):
        session.set_options(**wrong)
    assert session.options is before


@pytest.mark.parametrize("change", ["zoom", "calm pose"])
def test_paste_back_is_for_the_frame_s_own_view(session, default_camera, change):
    zoomed = replace(default_camera, fov=0.9 * default_camera.fov)
    pictures = {}
    for torso in ("layer", "paste-back"):
        session.set_options(torso=torso, motion="from the track")
        own = session.picture(default_camera, 10)
        session.set_options(motion="from the track" if change == "zoom" else "free orbit")
        pictures[torso] = own, session.picture(zoomed if change == "zoom" else default_camera, 10)
    own, other = zip(pictures["layer"], pictures["paste-back"])
    assert difference(*own) > ROUNDING
    assert difference(*other) == 0


def test_torsos_that_fit_the_training():
    assert torso_modes("layer") == ("layer", "paste-back")
    assert torso_modes("paste-back") == ("paste-back", "layer")
    assert torso_modes("gaussians") == ("gaussians",)


def test_a_camera_that_orbits_sees_the_head_turn(session, default_camera):
    angle = 0.3
    turn = torch.eye(4)
    turn[0, 0] = turn[2, 2] = np.cos(angle)
    turn[0, 2], turn[2, 0] = np.sin(angle), -np.sin(angle)
    pose = session.default_camera.calm_pose
    # Around the head's middle: there and back again on the camera's axis.
    there = torch.eye(4)
    there[:3, 3] = pose[:3, 3]
    orbit = CameraOffset(there @ turn @ torch.linalg.inv(there), session.default_camera.fov)
    assert not orbit.is_default and orbit.key != default_camera.key
    assert torch.allclose(orbit.view(pose)[:3, 3], pose[:3, 3], atol=1e-5)
    session.set_options(motion="free orbit")
    assert difference(session.picture(orbit, 5), session.picture(default_camera, 5)) > 30


def test_the_default_camera_is_the_clips(session):
    pose = session.default_camera._T_default_head
    camera_to_world = torch.linalg.inv(pose) @ torch.diag(torch.tensor([1.0, -1, -1, 1.0]).double())
    camera_offset = session.default_camera.camera_offset(
        camera_to_world[:3], session.default_camera.fov
    )
    assert camera_offset.is_default
    assert camera_offset.view(session.default_camera.calm_pose) is session.default_camera.calm_pose


def test_browsers_with_one_view_share_the_picture(session, default_camera):
    first = session.picture(default_camera, 12)
    assert session.picture(CameraOffset(torch.eye(4) + 1e-4, default_camera.fov), 12) is first
    session.set_options(attention="null")
    assert session.picture(default_camera, 12) is not first


def test_the_mouth_curve_follows_the_recorded_mouth(session):
    layout = session.model.background.layers.layout
    with session.motion_applied(0):
        openings = MouthGauge(session.model, layout).openings(range(100))
    recorded = recorded_openings(layout, FRAMES)[:100]
    assert np.corrcoef(openings, recorded)[0, 1] > 0.5


def test_pause_seek_and_end_are_announced(session):
    told = []
    session.on_change.append(lambda: told.append(session.timeline.playback_state()))
    session.seek(20)
    session.play(None)
    assert session.playing.is_set()
    session.finish(session.timeline.epoch)
    session.on_change.pop()
    assert told[0].frame == 20 and told[1].playing
    assert not told[2].playing and told[2].frame == 99
    assert not session.playing.is_set()


def test_a_training_beside_gets_its_fraction(session, monkeypatch):
    rests = []
    with session.motion_applied(0):
        time.sleep(0.03)
    # The module's own name for the clock: other threads go on sleeping.
    clock = SimpleNamespace(sleep=rests.append, perf_counter=time.perf_counter)
    monkeypatch.setattr("gaussiantalker_ns.viewer.session.time", clock)
    session.yield_to_training()

    class Trainer:
        training_state = "training"

    monkeypatch.setattr(session.viewer, "trainer", Trainer())
    session.viewer.control_panel._train_util.value = 0.75
    session.yield_to_training()
    Trainer.training_state = "paused"
    session.yield_to_training()
    assert len(rests) == 1 and rests[0] >= 3 * 0.03


def test_nerfstudios_time_slider_is_the_timelines(session):
    panel = session.viewer.control_panel
    session.seek(27)
    assert panel.time == pytest.approx(27 / (FRAMES - 1))
    gui = session.viewer.viser_server.gui
    labels = {handle._impl.label: handle for handle in gui._gui_input_handle_from_id.values()}
    assert labels["Default Time"].value == pytest.approx(27 / (FRAMES - 1))
    assert labels["Frame"].value == 27
    panel._time.gui_handle._impl.value = 10 / (FRAMES - 1)  # As a browser sets it.
    panel._time.cb_hook(panel._time)
    assert session.timeline.frame == 10


def test_bars_keep_the_picture_square():
    picture = np.full((40, 40, 3), 200, np.uint8)
    wide, tall = letterboxed(picture, 2.0), letterboxed(picture, 0.5)
    assert wide.shape == (40, 80, 3) and tall.shape == (80, 40, 3)
    assert tuple(wide[0, 0]) == LETTERBOX_COLOR and tuple(wide[0, 40]) == (200, 200, 200)
