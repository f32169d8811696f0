"""Pictures of the report: contact sheet and plots, as data URIs."""

from typing import Any

import cv2
import numpy as np
from jaxtyping import Float64, UInt8

from gaussiantalker_ns.dataparsers.dataset_layout import DatasetLayout
from gaussiantalker_ns.face.landmarker import Landmarks
from gaussiantalker_ns.face.measures import mouth_opening
from gaussiantalker_ns.face.topology import EYE_LEFT, EYE_RIGHT, FACE_OVAL, LIPS_INNER, LIPS_OUTER
from gaussiantalker_ns.files import read_rgb
from gaussiantalker_ns.html import BLUE, GREEN, INK, ORANGE, figure_uri, jpeg_uri
from gaussiantalker_ns.preprocess.report.clip_quality import AudioLevels
from gaussiantalker_ns.preprocess.segmentation.base import (
    BACKGROUND,
    HEAD,
    LABEL_COLORS,
    read_labels,
)
from gaussiantalker_ns.preprocess.tracking.quality import head_angles
from gaussiantalker_ns.preprocess.tracking.track import Tracking
from gaussiantalker_ns.timebase import FPS

SHEET_COLUMNS = 8
TILE_SIDE = 256
SHEET_ROWS = (
    "landmarks and tracked mesh",
    "masks",
    "torso layer over the background",
    "head cut out",
)

RINGS = (FACE_OVAL, LIPS_OUTER, LIPS_INNER, EYE_LEFT, EYE_RIGHT)
LANDMARK_COLOR, MESH_COLOR, CUT_OUT_COLOR = (255, 255, 0), (0, 255, 255), (255, 0, 255)


def overlay_landmarks(
    image: UInt8[np.ndarray, "h wd 3"], landmarks: Landmarks, tracking: Tracking, frame: int
) -> UInt8[np.ndarray, "h wd 3"]:
    """Outlines of the landmarks, and points of the tracked mesh."""
    canvas = image.copy()
    points = landmarks.points[frame, :, :2]
    for ring in RINGS:
        line = np.round(points[list(ring)] * 16).astype(np.int32)
        cv2.polylines(canvas, [line], True, LANDMARK_COLOR, 1, cv2.LINE_AA, shift=4)
    for x, y in tracking.project_mesh(frame):
        cv2.circle(canvas, (round(x), round(y)), 1, MESH_COLOR, -1)
    return canvas


def sheet_column(
    dataset: DatasetLayout,
    landmarks: Landmarks,
    tracking: Tracking,
    background: UInt8[np.ndarray, "h wd 3"],
    frame: int,
) -> UInt8[np.ndarray, "rows columns 3"]:
    """The pictures of one frame, one below the other."""
    image, labels = read_rgb(dataset.frame(frame)), read_labels(dataset.parsing(frame))
    colored = np.where(
        labels[..., None] == BACKGROUND, image, image // 2 + LABEL_COLORS[labels] // 2
    ).astype(np.uint8)
    layer = cv2.imread(str(dataset.torso(frame)), cv2.IMREAD_UNCHANGED)
    assert layer is not None, "the layers are written before the report"
    torso = np.where(layer[..., 3:] > 0, layer[..., 2::-1], background).astype(np.uint8)
    cut_out = np.where(labels[..., None] == HEAD, image, np.array(CUT_OUT_COLOR)).astype(np.uint8)
    pictures = [overlay_landmarks(image, landmarks, tracking, frame), colored, torso, cut_out]
    size = (TILE_SIDE, TILE_SIDE)
    tiles = [cv2.resize(picture, size, interpolation=cv2.INTER_AREA) for picture in pictures]
    cv2.putText(tiles[0], str(frame), (5, 16), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (255, 255, 255), 1)
    return np.vstack(tiles)


def contact_sheet(dataset: DatasetLayout, landmarks: Landmarks, tracking: Tracking) -> str:
    """A few frames with landmarks, masks, torso layer and cut-out head; rows as `SHEET_ROWS`."""
    num_frames = len(landmarks.points)
    chosen = np.unique(np.linspace(0, num_frames - 1, SHEET_COLUMNS).astype(int))
    background = read_rgb(dataset.background)
    columns = [
        sheet_column(dataset, landmarks, tracking, background, int(frame)) for frame in chosen
    ]
    return jpeg_uri(np.hstack(columns))


def background_image(dataset: DatasetLayout) -> str:
    """The background, reduced."""
    size = (2 * TILE_SIDE, 2 * TILE_SIDE)
    return jpeg_uri(cv2.resize(read_rgb(dataset.background), size, interpolation=cv2.INTER_AREA))


def time_plots(landmarks: Landmarks, tracking: Tracking, sound: AudioLevels) -> str:
    """Pose, blink, mouth opening and sound level over time."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 7.2), layout="constrained")
    pose, eyes, mouth, level = figure.subplots(4, 1, sharex=True)
    seconds = np.arange(len(landmarks.points)) / FPS
    angles = head_angles(tracking.T_camera_head)
    angles = angles - np.median(angles, axis=0)
    for index, (name, color) in enumerate((("pitch", BLUE), ("yaw", ORANGE), ("roll", GREEN))):
        pose.plot(seconds, angles[:, index], color=color, lw=0.9, label=name)
    pose.set_ylabel("head, degrees")
    pose.legend(loc="upper right", ncols=3, frameon=False)
    eyes.plot(seconds, tracking.blink, color=BLUE, lw=0.9)
    eyes.set_ylabel("blink")
    eyes.set_ylim(-0.05, 1.05)
    mouth.plot(seconds, mouth_opening(landmarks.points), color=ORANGE, lw=0.9)
    mouth.set_ylabel("mouth opening")
    level.plot(seconds[: len(sound.level_db)], sound.level_db[: len(seconds)], color=INK, lw=0.7)
    level.set_ylabel("sound, dB")
    level.set_xlabel("seconds")
    for axes in (pose, eyes, mouth, level):
        mark_invalid(axes, seconds, landmarks.valid)
        axes.grid(alpha=0.25)
        axes.margins(x=0)
    return figure_uri(figure)


def mark_invalid(axes: Any, seconds: Float64[np.ndarray, " b"], valid: np.ndarray) -> None:
    """Shade the frames without a face."""
    if not valid.all():
        low, high = axes.get_ylim()
        axes.fill_between(seconds, low, high, where=~valid, color="#bb2222", alpha=0.2, lw=0)
        axes.set_ylim(low, high)


def lag_plot(offset: dict[str, Any], applied_ms: float) -> str:
    """How well the sound predicts the lips, over the sound's lateness."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.4, 2.8), layout="constrained")
    axes = figure.subplots()
    axes.plot(offset["lags_ms"], offset["correlations"], color=BLUE, marker="o", ms=3, lw=1)
    axes.axvline(0.0, color=INK, lw=0.8, ls=":")
    axes.axvline(applied_ms, color=ORANGE, lw=1.2, label=f"corrected: {applied_ms:.0f} ms")
    axes.set_xlabel("sound later than lips by, ms")
    axes.set_ylabel("correlation")
    axes.legend(frameon=False)
    axes.grid(alpha=0.25)
    return figure_uri(figure)
