"""Conditions of frames: windows, statistics, overrides, driving audio, silence, checkpoints."""

import pytest
import torch

from gaussiantalker_ns.data.conditions import FrameConditions
from gaussiantalker_ns.frame_signals import ConditionTrack, flatten_pose

NUM_FRAMES = 40
NUM_TRAIN = 30


def make_track(seed: int = 0, blendshapes: bool = True) -> ConditionTrack:
    generator = torch.Generator().manual_seed(seed)
    poses = torch.eye(4).repeat(NUM_FRAMES, 1, 1)
    poses[:, :3, 3] = torch.rand(NUM_FRAMES, 3, generator=generator)
    return ConditionTrack(
        audio=3.0 + 2.0 * torch.randn(NUM_FRAMES, 2, 5, generator=generator),
        audio_encoder="whisper",
        blink=torch.rand(NUM_FRAMES, generator=generator),
        blendshapes=torch.rand(NUM_FRAMES, 52, generator=generator) if blendshapes else None,
        mouth=torch.rand(NUM_FRAMES, 29, generator=generator),
        T_camera_head=poses,
        valid=torch.ones(NUM_FRAMES, dtype=torch.bool),
        train_frames=torch.arange(NUM_TRAIN),
        fps=25.0,
    )


def make_bank(**kwargs) -> FrameConditions:
    return FrameConditions(make_track(), "expression", 8, **kwargs)


def test_training_audio_has_zero_mean_and_unit_std():
    bank = make_bank()
    audio = bank.standardise_audio(bank.audio[:NUM_TRAIN]).flatten(0, 1)
    assert audio.mean(0).abs().max() < 1e-5
    assert (audio.std(0, unbiased=False) - 1).abs().max() < 1e-5


def test_windows_are_those_of_the_obvious_loop():
    bank = make_bank()
    frames = torch.tensor([0, 7, NUM_FRAMES - 1])
    windows = bank.condition(frames).audio
    for row, frame in enumerate(frames.tolist()):
        for item in range(8):
            neighbour = min(max(frame - 4 + item, 0), NUM_FRAMES - 1)
            expected = (bank.audio[neighbour] - bank.audio_mean) / bank.audio_std
            assert torch.allclose(windows[row, item], expected)


def test_a_batch_is_a_stack_of_singles():
    bank = make_bank()
    frames = torch.tensor([3, 9, 17])
    batch = bank.condition(frames)
    for index, frame in enumerate(frames):
        single = bank.condition(frame[None])
        assert torch.equal(single.audio[0], batch.audio[index])
        assert torch.equal(single.eye[0], batch.eye[index])
        assert torch.equal(single.viewpoint[0], batch.viewpoint[index])


def test_the_viewpoint_is_the_camera_that_is_rendered():
    """Inside the range of the training it is the raw camera, beyond it the nearest trained one."""
    bank = make_bank()
    frames = torch.arange(NUM_TRAIN)
    assert torch.equal(bank.condition(frames).viewpoint, flatten_pose(bank.poses[frames]))
    rendered = bank.poses[frames].flip(0)
    assert torch.equal(bank.condition(frames, rendered).viewpoint, flatten_pose(rendered))
    far = bank.poses[:1].clone()
    far[0, 2, 3] = 99.0
    nearest = bank.condition(frames[:1], far).viewpoint[0, 11]
    assert nearest == bank.poses[:NUM_TRAIN, 2, 3].max()


def test_a_gain_moves_cameras_away_from_the_middle_of_the_training():
    bank = make_bank(viewpoint_gain=3.0)
    frames = torch.arange(NUM_TRAIN)
    low, high = bank.viewpoint_range
    raw = flatten_pose(bank.poses[frames])
    expected = (low + high) / 2 + 3.0 * (raw - (low + high) / 2)
    assert torch.allclose(bank.condition(frames).viewpoint, expected, atol=1e-6)


def test_an_early_checkpoint_is_refused():
    state = make_bank().state_dict()
    state["pose_std"] = state.pop("viewpoint_range")[0]
    with pytest.raises(ValueError, match="standardised viewpoint signal.*Train again"):
        make_bank().load_state_dict(state)


def test_times_run_over_the_driving_audio():
    bank = make_bank()
    times = torch.tensor([0.0, 0.5, 1.0, 7.0])
    assert bank.frames_at(times).tolist() == [0, 20, 39, 39]
    bank.set_audio(torch.zeros(101, 2, 5))
    assert bank.frames_at(times).tolist() == [0, 50, 100, 100]
    bank.set_audio(None)
    assert bank.num_frames == NUM_FRAMES


def test_driving_audio_takes_poses_in_ping_pong():
    bank = make_bank()
    bank.set_audio(torch.zeros(100, 2, 5))
    frames = torch.tensor([0, 39, 40, 78, 79])
    assert bank.track_frames(frames).tolist() == [0, 39, 38, 0, 1]
    bank.set_audio(torch.zeros(3, 2, 5), torch.tensor([5, 5, 6]))
    assert bank.track_frames(torch.tensor([0, 1, 2])).tolist() == [5, 5, 6]


def test_audio_of_another_encoder_is_refused():
    with pytest.raises(ValueError, match="encode it with 'whisper'"):
        make_bank().set_audio(torch.zeros(10, 16, 29))


def test_blink_override_leaves_the_brows_and_rests_the_gaze():
    bank = make_bank()
    frames = torch.tensor([4])
    before = bank.condition(frames).eye
    bank.overrides.blink = 1.0
    closed = bank.condition(frames).eye
    bank.overrides.blink = 0.0
    opened = bank.condition(frames).eye
    changed = (before != closed).flatten().nonzero().flatten().tolist()
    assert changed == list(range(5, 17))
    assert (closed[:, 5:7] > opened[:, 5:7]).all()
    # Standardised signals have their mean at zero.
    assert torch.equal(closed[:, 7:], torch.zeros(1, 10))


def test_expression_and_viewpoint_can_be_held():
    bank = make_bank()
    reference = bank.condition(torch.tensor([11]))
    bank.overrides.expression_frame = bank.overrides.viewpoint_frame = 11
    held = bank.condition(torch.tensor([2, 30]))
    assert torch.equal(held.eye, reference.eye.expand(2, -1))
    assert torch.equal(held.viewpoint, reference.viewpoint.expand(2, -1))
    assert not torch.equal(held.audio[0], held.audio[1])


def test_a_track_without_blendshapes_has_the_papers_blink():
    bank = FrameConditions(make_track(blendshapes=False), "expression", 8)
    assert bank.eye_form == "au45"
    assert bank.eye_size == 1
    bank.overrides.blink = 0.7
    assert bank.condition(torch.tensor([0])).eye.item() == pytest.approx(0.7)


def test_only_closed_lips_hear_silence():
    closed = torch.arange(0, NUM_TRAIN, 5)
    rest = torch.full((3, 8, 2, 5), 50.0)
    bank = make_bank(closed_lip_frames=closed, silence_features=rest)
    frames = torch.arange(NUM_TRAIN).repeat(50)
    heard = bank.training_condition(frames, silence_prob=0.1).audio
    silent = (heard == bank.standardise_audio(rest[:1].half())).flatten(1).all(1)
    assert set(frames[silent].tolist()) <= set(closed.tolist())
    assert silent.float().mean().item() == pytest.approx(0.1, abs=0.03)
    assert torch.equal(bank.training_condition(frames, 0.0).audio, bank.condition(frames).audio)


def test_the_checkpoint_brings_statistics_and_silence():
    trained = make_bank(silence_features=torch.rand(3, 8, 2, 5))
    other = FrameConditions(make_track(seed=1), "expression", 8)
    other.load_state_dict(trained.state_dict())
    assert torch.equal(other.audio_mean, trained.audio_mean)
    assert torch.equal(other.silence_features, trained.silence_features)
    expected = (other.audio[9] - trained.audio_mean) / trained.audio_std
    assert torch.allclose(other.condition(torch.tensor([9])).audio[0, 4], expected)


def test_a_checkpoint_of_another_encoder_is_refused():
    state = make_bank().state_dict()
    track = make_track()
    track.audio_encoder = "hubert"
    with pytest.raises(ValueError, match="trained with audio_encoder 'whisper'"):
        FrameConditions(track, "expression", 8).load_state_dict(state)


def test_flattened_pose_is_rotation_then_translation():
    pose = torch.eye(4)[None].clone()
    pose[0, :3, 3] = torch.tensor([1.0, 2.0, 3.0])
    assert flatten_pose(pose)[0].tolist() == [1, 0, 0, 0, 1, 0, 0, 0, 1, 1, 2, 3]


def test_rows_of_silence_load_under_their_older_name():
    state = make_bank(silence_features=torch.rand(3, 8, 2, 5)).state_dict()
    state["rest_audio"] = state.pop("silence_features")
    bank = make_bank()
    with pytest.warns(UserWarning, match="silence_features now"):
        bank.load_state_dict(state)
    assert len(bank.silence_features) == 3
