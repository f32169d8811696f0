"""Black ends, fades and titles leave the take; an empty room and changing light do not."""

from pathlib import Path

import numpy as np
import pytest

from gaussiantalker_ns.preprocess.video.scan import THUMB_SIDE, Scan
from gaussiantalker_ns.preprocess.video.scene import outside_scene
from gaussiantalker_ns.preprocess.video.shots import Shots
from gaussiantalker_ns.preprocess.video.take import (
    check_duration,
    choose_take,
    scene_notices,
    unusable_frames,
)
from gaussiantalker_ns.timebase import spans

ROOM = np.zeros((THUMB_SIDE, THUMB_SIDE, 3)) + np.linspace(90, 150, THUMB_SIDE)[:, None]
PERSON = slice(5, None), slice(4, 12)
FACE = np.array([240, 150, 400, 310], np.float32)


def room(frame: int, person: bool = True) -> np.ndarray:
    """A room, with somebody who moves a little in it."""
    picture = ROOM.copy()
    if person:
        picture[PERSON] = 40 + 6 * np.sin(frame / 7)
        picture[5:9, 6:10] = (210, 170, 150)
    return picture + np.random.default_rng(frame).normal(0, 0.5, picture.shape)


def scan_of(pictures: list[np.ndarray], faces: list[bool], cuts: tuple[int, ...] = ()) -> Scan:
    thumbs = np.clip(np.stack(pictures), 0, 255).astype(np.uint8)
    found = {frame: [FACE] if faces[frame] else [] for frame in range(0, len(thumbs), 12)}
    return Scan(0, len(thumbs), Shots(list(cuts), []), found, {}, thumbs, (640, 640))


def outside(scan: Scan) -> list[tuple[int, int]]:
    return spans(np.flatnonzero(outside_scene(scan, scan.start, scan.stop)).tolist(), 1)


def faded(target: np.ndarray | float) -> tuple[list[np.ndarray], list[bool]]:
    """60 frames of `target`, a fade of 20 frames, 200 frames of a person, a fade, `target`."""
    shares = [0.0] * 60 + [i / 20 for i in range(20)] + [1.0] * 200
    shares += [1 - i / 20 for i in range(20)] + [0.0] * 60
    pictures = [share * room(i) + (1 - share) * target for i, share in enumerate(shares)]
    return pictures, [share > 0.4 for share in shares]


TITLE = np.where(np.arange(THUMB_SIDE)[:, None, None] % 4 < 2, 230.0, 20.0) + np.zeros_like(ROOM)


@pytest.mark.parametrize("target", [0.0, 255.0, TITLE], ids=["black", "white", "title"])
def test_blank_and_title_frames_go_with_their_fades(target: np.ndarray | float):
    scan = scan_of(*faded(target))
    (_, first), (last, _) = outside(scan)
    assert 78 <= first <= 81 and 279 <= last <= 282
    take = choose_take(scan, "longest")
    assert take == (first + 1, last)
    (notice,) = scene_notices(scan, *take, [])
    assert "0.0 to 3." in notice and "to 14.4 s; these frames are left out" in notice
    assert f"{take[0] / 25:.1f} to {take[1] / 25:.1f} s are used" in notice


def test_all_of_a_video_marks_what_shows_no_scene():
    scan = scan_of(*faded(0.0))
    assert choose_take(scan, "all") == (0, 360)
    marked = unusable_frames(scan, 0, 360)
    assert set(range(60)) <= set(marked) and not set(range(90, 270)) & set(marked)


def test_a_dip_to_black_splits_the_take():
    pictures = [room(i) for i in range(200)]
    for i in range(60, 80):
        pictures[i] = abs(i - 70) / 10 * pictures[i]
    scan = scan_of(pictures, [True] * 200)
    assert choose_take(scan, "longest")[0] == pytest.approx(80, abs=4)


def test_an_empty_room_belongs_to_the_take():
    here = [not 100 <= frame < 160 for frame in range(260)]
    pictures = [room(frame, person) for frame, person in enumerate(here)]
    scan = scan_of(pictures, here)
    assert outside(scan) == []
    assert choose_take(scan, "longest") == (0, 260)


@pytest.mark.parametrize("step", [0.75, 1.3])
def test_light_that_changes_stays(step: float):
    pictures = [room(frame) * (step if frame >= 150 else 1.0) for frame in range(260)]
    assert outside(scan_of(pictures, [True] * 260)) == []


def test_a_plain_clip_and_one_without_faces():
    pictures = [room(frame) for frame in range(100)]
    assert outside(scan_of(pictures, [True] * 100)) == []
    assert outside(scan_of([0 * picture for picture in pictures], [False] * 100)) == []


def test_cuts_that_leave_too_little_are_named():
    cuts = tuple(range(40, 400, 40))
    scan = scan_of([room(frame) for frame in range(400)], [True] * 400, cuts)
    first, last = choose_take(scan, "longest")
    with pytest.raises(ValueError, match="--take all uses all of them") as error:
        check_duration((last - first) / 25, Path("me.mp4"), 3.0, scan)
    text = str(error.value)
    assert "is 1.6 s long" in text and "steps of the exposure" in text
    assert "changes abruptly at 1.6, 3.2, 4.8, 6.4, 8.0, 9.6, 11.2, 12.8 s and 1 more" in text
    scan = scan_of([room(frame) for frame in range(50)], [True] * 50)
    with pytest.raises(ValueError, match="Record a longer clip without cuts"):
        check_duration(2.0, Path("me.mp4"), 3.0, scan)
