"""HLG and PQ come out as the same light; white and grey stand where ITU-R BT.2408 puts them."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from gaussiantalker_ns.video.reader import ConstantFpsReader, upright_rgb
from gaussiantalker_ns.video.tone_mapping import (
    PEAK,
    REFERENCE_WHITE,
    ToneMapper,
    bend,
    light_of_hlg,
    light_of_pq,
    tone_map,
)

NUMBERS = {"PQ": 16, "HLG": 18}


def grey(signal: float) -> np.ndarray:
    return np.full((1, 3), signal)


def hdr_clip(path: Path, luma: int, transfer: str) -> Path:
    """Ten grey pictures of 10 bits in BT.2020, flagged in the container."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("ffv1", rate=25)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p10le"
        context = video.codec_context
        context.color_trc, context.color_primaries = NUMBERS[transfer], 9
        context.colorspace, context.color_range = 9, 1
        planes = np.full((72, 64), 512, np.uint16)
        planes[:48] = luma
        for index in range(10):
            frame = av.VideoFrame.from_ndarray(planes, format="yuv420p10le")
            frame.colorspace, frame.color_range = 9, 1
            frame.pts, frame.time_base = index, Fraction(1, 25)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
    return path


@pytest.mark.parametrize(("light_of", "white", "grey_card"), [
    (light_of_pq, 0.58, 0.38), (light_of_hlg, 0.75, 0.38),
])  # fmt: skip
def test_white_and_grey_card_of_the_recommendation(light_of, white: float, grey_card: float):
    assert REFERENCE_WHITE * light_of(grey(white))[0] == pytest.approx([203.0] * 3, rel=0.03)
    assert REFERENCE_WHITE * light_of(grey(grey_card))[0] == pytest.approx([26.0] * 3, rel=0.06)


def test_the_curve_keeps_dark_tones_and_ends_at_white():
    light = np.linspace(0, PEAK, 500)[:, None]
    bent = bend(light)
    np.testing.assert_array_equal(bent[light <= 0.5], light[light <= 0.5])
    assert bent[-1] == pytest.approx(1.0)
    assert (np.diff(bent[:, 0]) > 0).all()
    assert np.abs(np.diff(bent[:, 0], 2)).max() < 0.002, "no kink at the knee"


def test_hues_are_kept_and_colours_outside_clipped():
    skin = np.array([[0.42, 0.36, 0.31]])
    red, green, blue = tone_map(skin, "PQ")[0]
    assert red > green > blue
    colors = np.random.default_rng(0).random((200, 3))
    for transfer in NUMBERS:
        mapped = tone_map(colors, transfer)
        assert mapped.min() >= 0 and mapped.max() <= 1


@pytest.mark.parametrize("transfer", NUMBERS)
def test_the_filter_computes_the_formula(transfer: str):
    ramp = np.linspace(0, 0.75, 64)[None, :, None] * np.array([1.0, 0.9, 0.8])
    signal = np.ascontiguousarray(np.broadcast_to(ramp, (48, 64, 3)))
    pixels = np.round(65_535 * signal).astype(np.uint16)
    mapped = ToneMapper(transfer, 64, 48)(av.VideoFrame.from_ndarray(pixels, format="rgb48le"))
    assert np.abs(mapped - 255 * tone_map(signal, transfer)).max() < 2.5


@pytest.mark.parametrize(("transfer", "luma"), [("PQ", 64 + 333), ("HLG", 64 + 333)])
def test_a_flagged_video_is_mapped_and_it_is_said(tmp_path: Path, transfer: str, luma: int):
    """A grey card at 38 % of the signal is 26 of 203 cd/m2: level 255 (26 / 203) ** (1 / 2.4)."""
    grid = ConstantFpsReader(hdr_clip(tmp_path / "a.mkv", luma, transfer))
    _, frame = next(grid.frames())
    picture = upright_rgb(frame, grid.height, grid.width)
    assert picture.shape == (48, 64, 3) and np.ptp(picture) <= 1
    assert picture.mean() == pytest.approx(255 * (26 / 203) ** (1 / 2.4), abs=3)
    assert transfer in grid.notices()[0] and "BT.709" in grid.notices()[0]


def test_the_size_may_change(tmp_path: Path):
    grid = ConstantFpsReader(hdr_clip(tmp_path / "a.mkv", 500, "HLG"))
    _, frame = next(grid.frames())
    assert upright_rgb(frame, 24, 32).shape == (24, 32, 3)
