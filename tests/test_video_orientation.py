"""Each of the eight display matrices shows the picture as FFmpeg does."""

import subprocess
from pathlib import Path

import av
import av.filter
import imageio_ffmpeg
import numpy as np
import pytest
from small_videos import set_display_matrix, steady, write_video

from gaussiantalker_ns.video.orientation import Orientation
from gaussiantalker_ns.video.reader import ConstantFpsReader, upright_rgb

FILTERS = {
    (1, 0, 0, 1): [],
    (0, 1, -1, 0): [("transpose", "clock")],
    (-1, 0, 0, -1): [("hflip", None), ("vflip", None)],
    (0, -1, 1, 0): [("transpose", "cclock")],
    (1, 0, 0, -1): [("vflip", None)],
    (-1, 0, 0, 1): [("hflip", None)],
    (0, 1, 1, 0): [("transpose", "cclock_flip")],
    (0, -1, -1, 0): [("transpose", "clock_flip")],
}
"""The matrix a b, c d -> the filters with which FFmpeg turns the picture (`-autorotate`)."""

TOLERANCE = 6.0
"""Levels by which lossy pictures may differ in the mean; another orientation differs by 30."""


def quadrants() -> np.ndarray:
    """A lying picture, no two of whose orientations are alike."""
    picture = np.full((96, 128, 3), 40, np.uint8)
    picture[:48, :64] = (220, 60, 60)
    picture[48:, :64] = (60, 200, 60)
    picture[48:, 64:] = (60, 60, 220)
    return picture


def turned_clip(path: Path, matrix: tuple[int, int, int, int]) -> Path:
    write_video(path, steady(5), lambda _: quadrants(), "mpeg4", "yuv420p", sound=False)
    set_display_matrix(path, matrix)
    return path


def read_upright(path: Path) -> np.ndarray:
    grid = ConstantFpsReader(path)
    _, frame = next(grid.frames())
    return upright_rgb(frame, grid.height, grid.width).astype(float)


def filtered(picture: np.ndarray, filters: list) -> np.ndarray:
    """The picture after some filters of FFmpeg."""
    frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
    graph = av.filter.Graph()
    nodes = [graph.add_buffer(template=frame, time_base=frame.time_base or 1)]
    nodes += [graph.add(name, options) for name, options in filters]
    graph.link_nodes(*nodes, graph.add("buffersink")).configure()
    graph.vpush(frame)
    return graph.vpull().to_ndarray(format="rgb24").astype(float)


@pytest.mark.parametrize("matrix", FILTERS)
def test_pictures_lie_as_ffmpeg_lays_them(tmp_path: Path, matrix: tuple[int, int, int, int]):
    seen = read_upright(turned_clip(tmp_path / "a.mp4", matrix))
    expected = filtered(quadrants(), FILTERS[matrix])
    assert seen.shape == expected.shape
    assert np.abs(seen - expected).mean() < TOLERANCE


@pytest.mark.parametrize("matrix", FILTERS)
def test_the_program_agrees(tmp_path: Path, matrix: tuple[int, int, int, int]):
    path = turned_clip(tmp_path / "a.mp4", matrix)
    seen = read_upright(path)
    command = [
        imageio_ffmpeg.get_ffmpeg_exe(),
        "-v",
        "error",
        "-i",
        str(path),
        "-frames:v",
        "1",
        "-f",
        "rawvideo",
    ]
    raw = subprocess.run([*command, "-pix_fmt", "rgb24", "-"], capture_output=True, check=True)
    expected = np.frombuffer(raw.stdout, np.uint8).reshape(seen.shape).astype(float)
    assert np.abs(seen - expected).mean() < TOLERANCE


def test_transposed_pictures_change_their_sides():
    assert Orientation(transposed=True).size(128, 96) == (96, 128)
    picture = np.arange(6 * 3, dtype=np.uint8).reshape(2, 3, 3)
    turned = Orientation(transposed=True, flipped_x=True).upright(picture)
    np.testing.assert_array_equal(turned, np.rot90(picture, -1))
