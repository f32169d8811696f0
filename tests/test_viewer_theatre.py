"""Pictures and directions of a trained head behind Nerfstudio's viewer, without a browser."""

import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from synthetic_talker import write_wav
from viewer_runs import FRAMES, served, theatre_of, train_head

from gaussiantalker_ns.condition_bank import Overrides
from gaussiantalker_ns.driving.external_audio import drive_bank
from gaussiantalker_ns.schedule import Stage
from gaussiantalker_ns.viewer.curves import MouthGauge, recorded_openings
from gaussiantalker_ns.viewer.direction import Direction, directed, torso_modes
from gaussiantalker_ns.viewer.panel import legend
from gaussiantalker_ns.viewer.screen import BACKDROP, letterboxed
from gaussiantalker_ns.viewer.soundtrack import uploaded_soundtrack
from gaussiantalker_ns.viewer.standpoint import Standpoint

ROUNDING = 1  # Levels of a byte: the other path mixes head and background in another order.


@pytest.fixture(scope="module")
def viewer(tmp_path_factory):
    root = tmp_path_factory.mktemp("theatre")
    with served(train_head(root), root) as viewer:
        # No browser is there to make Nerfstudio's panel offer the outputs.
        viewer.control_panel.update_output_options(["rgb"])
        viewer.control_panel._output_render.value = "rgb"
        yield viewer


@pytest.fixture
def theatre(viewer):
    theatre = theatre_of(viewer)
    yield theatre
    theatre.direction = Direction()
    theatre.choose("Training track")


@pytest.fixture
def home(theatre):
    return Standpoint(torch.eye(4), theatre.home.fov)


def rendered_by_nerfstudio(theatre, frame):
    model = theatre.model
    cameras = theatre.viewer.pipeline.datamanager.train_dataset.cameras
    outputs = model.get_outputs_for_camera(cameras[frame : frame + 1])
    return (outputs["rgb"] * 255 + 0.5).byte().numpy()


def difference(first, second):
    return np.abs(first.astype(int) - second.astype(int)).max()


@pytest.mark.parametrize("frame", [0, 17, 99])
def test_a_frame_of_the_track_is_the_one_nerfstudio_renders(theatre, home, frame):
    expected = rendered_by_nerfstudio(theatre, frame)
    assert difference(theatre.picture(home, frame), expected) <= ROUNDING


def test_held_out_frames_count_from_their_own_beginning(theatre, home):
    theatre.choose("Held-out part")
    assert theatre.timeline.num_frames == FRAMES - 100
    with theatre.performing(2) as (frame, pose):
        assert frame == 102
        assert torch.equal(pose, theatre.model.bank.poses[102])


def test_a_recording_is_spoken_as_drive_would_have_it(theatre, home, tmp_path):
    generator = np.random.default_rng(1)
    write_wav(tmp_path / "a.wav", 0.1 * generator.standard_normal(16_000))
    bank = theatre.model.bank
    content = (tmp_path / "a.wav").read_bytes()
    theatre.choose(theatre.add(uploaded_soundtrack(bank, "a.wav", content)))
    assert theatre.direction.eyes == "auto-blink" and theatre.timeline.num_frames == 25
    theatre.direct(eyes="as recorded")
    drive_bank(bank, tmp_path / "a.wav")
    lent = int(bank.track_frames(torch.tensor([7])))
    theatre.model.viewer_frame = 7
    cameras = theatre.viewer.pipeline.datamanager.train_dataset.cameras[lent : lent + 1]
    cameras.metadata = None
    expected = (theatre.model.get_outputs_for_camera(cameras)["rgb"] * 255 + 0.5).byte().numpy()
    theatre.model.viewer_frame = None
    bank.drive(None)
    assert difference(theatre.picture(home, 7), expected) <= ROUNDING


def test_uploads_are_kept_up_to_a_number_and_named_apart(theatre):
    own = theatre.tracks[:2]
    theatre.tracks = own
    recording = replace(own[0], label="a", rows=torch.zeros(50, 2, 384))
    labels = [theatre.add(recording) for _ in range(8)]
    assert labels[:3] == ["a", "a (2)", "a (3)"]
    assert [track.label for track in theatre.tracks[:2]] == [track.label for track in own]
    assert len(theatre.tracks) == 8 and theatre.tracks[-1].label == labels[-1]
    theatre.tracks = own


def test_a_direction_leaves_no_trace_even_after_an_error(theatre):
    model = theatre.model
    direction = Direction(silenced=frozenset({"audio"}), canonical=True, torso="paste-back")
    before = Overrides(expression_frame=3)
    model.bank.overrides = before
    model.train()
    with pytest.raises(RuntimeError, match="in the middle"):
        with directed(model, theatre.track, direction, 5, closure=1.0):
            assert model.stage is Stage.CANONICAL and model.viewer_frame == 5
            assert model.bank.overrides.blink == 1.0 and not model.training
            raise RuntimeError("in the middle")
    assert model.training and model.stage is Stage.DEFORMATION and model.viewer_frame is None
    assert model.bank.overrides is before and model.surroundings.mode == "layer"
    assert not model.head.tokens._forward_hooks
    model.eval()
    model.bank.overrides = Overrides()


def test_silenced_tokens_are_zero_and_change_the_picture(theatre, home):
    plain = theatre.picture(home, 20)
    theatre.direct(silenced=frozenset({"audio", "eye"}))
    assert difference(theatre.picture(home, 20), plain) > ROUNDING
    model = theatre.model
    with theatre.performing(20) as (frame, _):
        tokens = model.head.tokens(model.bank.condition(torch.tensor([frame])))
        norms = dict(zip(model.head.tokens.names, tokens[0].norm(dim=1).tolist()))
    assert norms["audio"] == norms["eye"] == 0 and norms["viewpoint"] > 0 and norms["null"] > 0


def test_the_canonical_stage_does_not_hear(theatre, home):
    theatre.direct(canonical=True)
    still = theatre.home.calm_pose
    theatre.direct(motion="free orbit")
    pictures = [theatre.picture(home, frame) for frame in (3, 30)]
    # The torso is that of the frame; inside the head nothing may differ.
    assert difference(pictures[0][16:32, 24:40], pictures[1][16:32, 24:40]) == 0
    with theatre.performing(30) as (_, pose):
        assert torch.equal(pose, still)


def test_lids_follow_the_slider(theatre, home):
    bank = theatre.model.bank
    eyes = {}
    for closure in (0.0, 1.0):
        theatre.direct(eyes="slider", closure=closure)
        with theatre.performing(10) as (frame, _):
            eyes[closure] = bank.condition(torch.tensor([frame])).eye[0]
    low, high = bank.blink_range
    raw = eyes[1.0][5:7] * bank.expression_std[5:7] + bank.expression_mean[5:7]
    assert torch.allclose(raw, high, atol=1e-5)
    assert torch.equal(eyes[0.0][:5], eyes[1.0][:5]), "brows stay those of the frame"
    assert torch.allclose(eyes[1.0][7:], torch.zeros(10), atol=1e-5), "gaze rests at its mean"
    pictures = []
    for closure in (0.0, 1.0):
        theatre.direct(closure=closure)
        pictures.append(theatre.picture(home, 10))
    assert difference(*pictures) > ROUNDING


def test_attention_covers_the_head_only(theatre, home):
    plain = theatre.picture(home, 10)
    theatre.direct(attention="audio")
    overlaid = theatre.picture(home, 10)
    assert difference(overlaid[:, :4], plain[:, :4]) == 0, "nothing beside the head"
    assert difference(overlaid[20:40, 24:40], plain[20:40, 24:40]) > 30
    low, high = theatre.colors.limits
    assert 0 <= low < high <= 1
    assert f"{low:.2f} to {high:.2f}" in legend("audio", low, high)


@pytest.mark.parametrize(
    "wrong", [{"attention": "smell"}, {"torso": "none"}, {"eyes": "x"}, {"closure": float("nan")}]
)
def test_choices_that_are_not_offered_are_refused(theatre, wrong):
    before = theatre.direction
    # The type checker of the tests is quicker with some of them.
    with pytest.raises((ValueError, TypeError), match="(?i)expected"):
        theatre.direct(**wrong)
    assert theatre.direction is before


@pytest.mark.parametrize("change", ["zoom", "calm pose"])
def test_paste_back_is_for_the_frame_s_own_view(theatre, home, change):
    zoomed = replace(home, fov=0.9 * home.fov)
    pictures = {}
    for torso in ("layer", "paste-back"):
        theatre.direct(torso=torso, motion="from the track")
        own = theatre.picture(home, 10)
        theatre.direct(motion="from the track" if change == "zoom" else "free orbit")
        pictures[torso] = own, theatre.picture(zoomed if change == "zoom" else home, 10)
    own, other = zip(pictures["layer"], pictures["paste-back"])
    assert difference(*own) > ROUNDING
    assert difference(*other) == 0


def test_torsos_that_fit_the_training():
    assert torso_modes("layer") == ("layer", "paste-back")
    assert torso_modes("paste-back") == ("paste-back", "layer")
    assert torso_modes("gaussians") == ("gaussians",)


def test_a_camera_that_orbits_sees_the_head_turn(theatre, home):
    angle = 0.3
    turn = torch.eye(4)
    turn[0, 0] = turn[2, 2] = np.cos(angle)
    turn[0, 2], turn[2, 0] = np.sin(angle), -np.sin(angle)
    pose = theatre.home.calm_pose
    # Around the head's middle: there and back again on the camera's axis.
    there = torch.eye(4)
    there[:3, 3] = pose[:3, 3]
    orbit = Standpoint(there @ turn @ torch.linalg.inv(there), theatre.home.fov)
    assert not orbit.at_home and orbit.key != home.key
    assert torch.allclose(orbit.view(pose)[:3, 3], pose[:3, 3], atol=1e-5)
    theatre.direct(motion="free orbit")
    assert difference(theatre.picture(orbit, 5), theatre.picture(home, 5)) > 30


def test_home_is_where_the_clips_camera_was(theatre):
    pose = theatre.home._T_home_head
    camera_to_world = torch.linalg.inv(pose) @ torch.diag(torch.tensor([1.0, -1, -1, 1.0]).double())
    standpoint = theatre.home.standpoint(camera_to_world[:3], theatre.home.fov)
    assert standpoint.at_home
    assert standpoint.view(theatre.home.calm_pose) is theatre.home.calm_pose


def test_browsers_with_one_view_share_the_picture(theatre, home):
    first = theatre.picture(home, 12)
    assert theatre.picture(Standpoint(torch.eye(4) + 1e-4, home.fov), 12) is first
    theatre.direct(attention="null")
    assert theatre.picture(home, 12) is not first


def test_the_mouth_curve_follows_the_recorded_mouth(theatre):
    layout = theatre.model.surroundings.layers.layout
    with theatre.performing(0):
        openings = MouthGauge(theatre.model, layout).openings(range(100))
    recorded = recorded_openings(layout, FRAMES)[:100]
    assert np.corrcoef(openings, recorded)[0, 1] > 0.5


def test_pause_seek_and_end_are_announced(theatre):
    told = []
    theatre.on_change.append(lambda: told.append(theatre.timeline.moment()))
    theatre.seek(20)
    theatre.play(None)
    assert theatre.playing.is_set()
    theatre.finish(theatre.timeline.epoch)
    theatre.on_change.pop()
    assert told[0].frame == 20 and told[1].playing
    assert not told[2].playing and told[2].frame == 99
    assert not theatre.playing.is_set()


def test_a_training_beside_gets_its_share(theatre, monkeypatch):
    rests = []
    with theatre.performing(0):
        time.sleep(0.03)
    # The module's own name for the clock: other threads go on sleeping.
    clock = SimpleNamespace(sleep=rests.append, perf_counter=time.perf_counter)
    monkeypatch.setattr("gaussiantalker_ns.viewer.theatre.time", clock)
    theatre.rest()

    class Trainer:
        training_state = "training"

    monkeypatch.setattr(theatre.viewer, "trainer", Trainer())
    theatre.viewer.control_panel._train_util.value = 0.75
    theatre.rest()
    Trainer.training_state = "paused"
    theatre.rest()
    assert len(rests) == 1 and rests[0] >= 3 * 0.03


def test_nerfstudios_time_slider_is_the_timelines(theatre):
    panel = theatre.viewer.control_panel
    theatre.seek(27)
    assert panel.time == pytest.approx(27 / (FRAMES - 1))
    gui = theatre.viewer.viser_server.gui
    labels = {handle._impl.label: handle for handle in gui._gui_input_handle_from_id.values()}
    assert labels["Default Time"].value == pytest.approx(27 / (FRAMES - 1))
    assert labels["Frame"].value == 27
    panel._time.gui_handle._impl.value = 10 / (FRAMES - 1)  # As a browser sets it.
    panel._time.cb_hook(panel._time)
    assert theatre.timeline.frame == 10


def test_bars_keep_the_picture_square():
    picture = np.full((40, 40, 3), 200, np.uint8)
    wide, tall = letterboxed(picture, 2.0), letterboxed(picture, 0.5)
    assert wide.shape == (40, 80, 3) and tall.shape == (80, 40, 3)
    assert tuple(wide[0, 0]) == BACKDROP and tuple(wide[0, 40]) == (200, 200, 200)
