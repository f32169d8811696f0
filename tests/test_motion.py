"""Head motion and blinks for new audio."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from gaussiantalker_ns.inference import motion as motion_module
from gaussiantalker_ns.inference.motion import LEAST_RUN_FRAMES, MotionConfig, MotionSampler


def nodding_track(num_frames=100, noise=0.0):
    generator = np.random.default_rng(0)
    angles = 0.2 * np.sin(np.arange(num_frames) * 0.15)
    T_camera_head = np.tile(np.eye(4), (num_frames, 1, 1))
    T_camera_head[:, :3, :3] = Rotation.from_rotvec(
        np.stack([angles, 0.5 * angles, 0 * angles], axis=1)
        + noise * generator.standard_normal((num_frames, 3))
    ).as_matrix()
    T_camera_head[:, 2, 3] = 8.0 + 0.1 * angles
    return T_camera_head


def test_calmest_pose_is_nearest_to_the_median_position():
    track = nodding_track(5)
    track[:, 0, 3] = [0.0, 4.0, 1.9, 9.0, 1.0]
    assert motion_module.calmest_pose(track) == 2


@pytest.mark.parametrize("length", [1, 2, 7, 100])
def test_turning_frames_are_inside_the_track(length):
    first, last = motion_module.turning_frames(nodding_track(length))
    assert 0 <= first <= last < length


def test_track_turns_where_the_head_is_calm():
    track = nodding_track(200)
    speeds = motion_module.frame_speeds(track)
    for turning in motion_module.turning_frames(track):
        assert speeds[turning] < 0.3 * speeds.max()


def test_the_sampler_never_jumps():
    sampler = MotionSampler(MotionConfig(), nodding_track(60), np.arange(5, 55), 10.0)
    frames = sampler.clip_frames(np.arange(1000))
    assert frames.min() >= 5 and frames.max() < 55
    assert np.abs(np.diff(frames)).max() == 1
    steps = np.linalg.norm(np.diff(sampler.poses(np.arange(1000)), axis=0), axis=(1, 2))
    own = np.linalg.norm(np.diff(nodding_track(60), axis=0), axis=(1, 2))
    assert steps.max() <= own.max() + 1e-9


def test_longest_run():
    assert motion_module.longest_run(np.array([0, 1, 5, 6, 7, 9])).tolist() == [5, 6, 7]
    assert motion_module.longest_run(np.array([3, 4, 8, 9])).tolist() == [3, 4]
    assert motion_module.longest_run(np.arange(4)).tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("pose_smoothing_frames", [0.0, 2.0])
def test_the_sampler_turns_at_gaps_without_a_face(pose_smoothing_frames):
    track = nodding_track(200)
    track[90:, 0, 3] += 3.0  # The head comes back elsewhere.
    shown = np.r_[5:60, 90:190, 195:200]
    sampler = MotionSampler(
        MotionConfig(pose_smoothing_frames=pose_smoothing_frames), track, shown, 10.0
    )
    frames = sampler.clip_frames(np.arange(500))
    assert frames.min() >= 90 and frames.max() < 190
    assert np.abs(np.diff(frames)).max() == 1
    steps = np.linalg.norm(np.diff(sampler.poses(np.arange(500)), axis=0), axis=(1, 2))
    own = np.linalg.norm(np.diff(track[90:190], axis=0), axis=(1, 2))
    assert steps.max() <= own.max() + 1e-9


def test_the_sampler_does_not_rock_in_a_short_stretch():
    every_third_lost = np.flatnonzero(np.arange(3 * LEAST_RUN_FRAMES) % 3)
    sampler = MotionSampler(
        MotionConfig(), nodding_track(3 * LEAST_RUN_FRAMES), every_third_lost, 10.0
    )
    source = set(sampler.clip_frames(np.arange(500)).tolist())
    assert len(source) > LEAST_RUN_FRAMES and source <= set(every_third_lost.tolist())


def test_the_sampler_still_holds_one_pose_and_blinks():
    sampler = MotionSampler(MotionConfig(pose="still"), nodding_track(60), np.arange(60), 10.0)
    assert len(set(sampler.clip_frames(np.arange(100)))) == 1
    closures = sampler.closures(np.arange(500))
    assert closures is not None and closures.max() > 0.8 and np.median(closures) == 0


def test_the_sampler_reads_files(tmp_path):
    metres = nodding_track(10)
    metres[:, 2, 3] = 0.8
    np.save(tmp_path / "poses.npy", metres)
    np.savetxt(tmp_path / "blinks.txt", [0.0, 1.0, 0.0])
    motion = MotionConfig(pose=tmp_path / "poses.npy", blink=tmp_path / "blinks.txt")
    sampler = MotionSampler(motion, nodding_track(60), np.arange(60), 10.0)
    assert sampler.poses(np.arange(3))[:, 2, 3] == pytest.approx([8.0] * 3)
    assert sampler.closures(np.arange(5)) == pytest.approx([0, 1, 0, 1, 0])


@pytest.mark.parametrize(
    ("content", "message"),
    [(np.eye(4), "expected finite poses"), (np.zeros((2, 4, 4)), "no rotations")],
)
def test_the_sampler_refuses_bad_pose_files(tmp_path, content, message):
    np.save(tmp_path / "poses.npy", content)
    with pytest.raises(ValueError, match=message):
        MotionSampler(
            MotionConfig(pose=tmp_path / "poses.npy"), nodding_track(9), np.arange(9), 10.0
        )


def test_performance_refuses_missing_files(tmp_path):
    with pytest.raises(FileNotFoundError, match="neither auto, track, none nor a file"):
        MotionConfig(blink=tmp_path / "nothing.npy")


def test_smoothing_removes_noise_and_keeps_rotations_valid():
    clean, noisy = nodding_track(), nodding_track(noise=0.02)
    smooth = motion_module.smooth_poses(noisy, 2.0)
    assert np.abs(np.linalg.det(smooth[:, :3, :3]) - 1).max() < 1e-9
    assert np.abs(smooth - clean).mean() < 0.6 * np.abs(noisy - clean).mean()
    assert np.array_equal(motion_module.smooth_poses(noisy, 0.0), noisy)


def test_blinks_have_a_natural_rate_and_shape():
    track = motion_module.generate_blinks(25 * 600, seed=3)
    assert track.min() >= 0 and track.max() <= 1
    starts = np.flatnonzero((track[1:] > 0.5) & (track[:-1] <= 0.5))
    assert 14 <= len(starts) / 10 <= 28
    assert (np.diff(starts) >= 12).all()
    assert (track < 0.05).mean() > 0.8


def test_longer_blink_tracks_begin_like_shorter_ones():
    assert np.array_equal(
        motion_module.generate_blinks(500)[:200], motion_module.generate_blinks(200)
    )


def test_lid_falls_faster_than_it_rises():
    times = np.linspace(0, 0.35, 351)
    closure = motion_module.lid_pulse(times)
    peak = times[closure >= 0.999]
    assert closure[0] == 0 and closure[-1] < 1e-9
    assert peak[0] == pytest.approx(0.10, abs=0.005) and peak[-1] == pytest.approx(0.15, abs=0.005)
