"""The reader obeys what the file says about its pictures: matrix, range, interlacing."""

from fractions import Fraction
from pathlib import Path

import av
import av.codec.context
import numpy as np
import pytest
from small_videos import steady, write_video

from gaussiantalker_ns.video.reader import ConstantFpsReader, upright_rgb

COLOR = np.array([200.0, 110.0, 70.0])
WEIGHTS = {1: (0.2126, 0.0722), 5: (0.299, 0.114), 6: (0.299, 0.114), 9: (0.2627, 0.0593)}
"""FFmpeg's number of the matrix (BT.709, BT.601 of both lands, BT.2020) -> its Kr, Kb."""


def yuv(color: np.ndarray, matrix: int, full_range: bool) -> list[int]:
    """One colour as 8-bit Y, Cb, Cr, by the definition."""
    kr, kb = WEIGHTS[matrix]
    red, green, blue = color / 255
    luma = kr * red + (1 - kr - kb) * green + kb * blue
    chroma = np.array([(blue - luma) / (1 - kb), (red - luma) / (1 - kr)]) / 2
    scales = (255, 0, 255) if full_range else (219, 16, 224)
    return [round(scales[0] * luma + scales[1]), *np.round(scales[2] * chroma + 128).astype(int)]


@pytest.mark.parametrize("full_range", [False, True], ids=["limited", "full"])
@pytest.mark.parametrize("matrix", WEIGHTS)
def test_matrix_and_range_are_obeyed(matrix: int, full_range: bool):
    frame = av.VideoFrame(32, 32, "yuv444p")
    for plane, value in zip(frame.planes, yuv(COLOR, matrix, full_range)):
        plane.update(bytes([value]) * plane.buffer_size)
    frame.colorspace, frame.color_range = matrix, 2 if full_range else 1
    np.testing.assert_allclose(upright_rgb(frame, 32, 32)[16, 16], COLOR, atol=3)


def test_a_matrix_that_nobody_converts_is_named():
    frame = av.VideoFrame(32, 32, "yuv444p")
    frame.colorspace = 14
    with pytest.raises(ValueError, match=r"colour matrix \(number 14"):
        upright_rgb(frame, 32, 32)


def moving_bar(field: int) -> np.ndarray:
    picture = np.full((96, 128, 3), 60, np.uint8)
    picture[:, 8 + 3 * field : 40 + 3 * field] = 200
    return picture


def interlaced_clip(path: Path, num_frames: int = 20) -> Path:
    """Lower fields come first and show time i, upper ones time i + 1."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=25, options={"x264opts": "bff=1", "crf": "5"})
        video.width, video.height, video.pix_fmt = 128, 96, "yuv420p"
        flags = av.codec.context.Flags
        video.codec_context.flags |= flags.interlaced_dct | flags.interlaced_me
        for index in range(num_frames):
            picture = moving_bar(index + 1)
            picture[1::2] = moving_bar(index)[1::2]
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, 25)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
    return path


def combing(picture: np.ndarray) -> float:
    rows = picture.astype(float).mean(axis=2)
    return float(np.abs(rows[1:-1] - (rows[:-2] + rows[2:]) / 2).mean())


def test_interlaced_pictures_are_deinterlaced_one_for_one(tmp_path: Path):
    grid = ConstantFpsReader(interlaced_clip(tmp_path / "a.mp4"))
    seen = {i: upright_rgb(frame, grid.height, grid.width) for i, frame in grid.frames()}
    assert sorted(seen) == list(range(20))
    woven = moving_bar(5)
    woven[1::2] = moving_bar(6)[1::2]
    assert max(combing(picture) for picture in seen.values()) < 0.4 * combing(woven)
    for index in range(1, 20):  # The first one lacks the frame before it.
        away = [
            np.abs(seen[index] - moving_bar(index + k).astype(float)).mean() for k in (-1, 0, 1)
        ]
        assert away[1] < 0.6 * min(away[0], away[2]), "it is the first field's time"
    assert any("deinterlaced" in notice for notice in grid.notices())


def test_nothing_is_said_of_an_ordinary_video(tmp_path: Path):
    grid = ConstantFpsReader(write_video(tmp_path / "a.mkv", steady(5)))
    assert [index for index, _ in grid.frames()] == [0, 1, 2, 3, 4]
    assert grid.notices() == []
