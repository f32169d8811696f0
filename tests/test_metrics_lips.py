"""Lip measures: worked examples on made-up landmarks."""

import numpy as np
import pytest

from gaussiantalker_ns.face.topology import INNER_LIPS, LIP_POINTS, MOUTH_CORNERS, OUTER_EYE_CORNERS
from gaussiantalker_ns.metrics.lips import correlation, lip_scores


def speaking_face(opening: np.ndarray, width: np.ndarray) -> np.ndarray:
    """Landmarks whose eye distance is 10 px; everything else lies at the origin."""
    points = np.zeros((len(opening), 478, 2), np.float32)
    points[:, OUTER_EYE_CORNERS[1], 0] = 10
    points[:, INNER_LIPS[1], 1] = opening
    points[:, MOUTH_CORNERS[1], 0] = width
    return points


def test_the_same_lips_are_perfect():
    opening, width = np.array([0.0, 1, 3, 2]), np.array([4.0, 5, 4, 6])
    face = speaking_face(opening, width)
    scores = lip_scores(face, face)
    assert scores.open_correlation == pytest.approx(1)
    assert scores.width_correlation == pytest.approx(1)
    assert scores.open_amplitude == pytest.approx(1)
    assert scores.landmark_distance == 0
    assert scores.num_frames == 4


def test_a_mumbling_mouth_correlates_but_lacks_amplitude():
    opening, width = np.array([0.0, 1, 3, 2]), np.array([4.0, 5, 4, 6])
    scores = lip_scores(speaking_face(0.5 * opening, 10 - width), speaking_face(opening, width))
    assert scores.open_correlation == pytest.approx(1)
    assert scores.open_amplitude == pytest.approx(0.5)
    assert scores.width_correlation == pytest.approx(-1)


def test_moving_the_whole_face_costs_nothing():
    face = speaking_face(np.array([0.0, 1, 3]), np.array([4.0, 5, 4]))
    assert lip_scores(face + 7, face).landmark_distance == pytest.approx(0, abs=1e-5)


def test_frames_without_a_face_are_left_out():
    face = speaking_face(np.array([0.0, 1, 3, 2]), np.array([4.0, 5, 4, 6]))
    lost = face.copy()
    lost[1] = np.nan
    assert lip_scores(lost, face).num_frames == 3
    lost[:] = np.nan
    assert np.isnan(lip_scores(lost, face).open_correlation)


def test_correlation_of_a_still_series_is_not_a_number():
    assert np.isnan(correlation(np.zeros(3), np.arange(3.0)))
    assert correlation(np.arange(3.0), 2 * np.arange(3.0)) == pytest.approx(1)


def test_there_are_forty_lip_points():
    assert len(set(LIP_POINTS)) == len(LIP_POINTS) == 40
