"""Several faces: who is followed, what is said about the others, and small faces are found."""

import numpy as np
import pytest

from gaussiantalker_ns.face.landmarker import Face, FaceLandmarker
from gaussiantalker_ns.face.subject import follow_person
from gaussiantalker_ns.preprocess.video.crop import SquareCrop
from gaussiantalker_ns.preprocess.video.extract import VideoConfig
from gaussiantalker_ns.preprocess.video.people import (
    choose_subject,
    describe_others,
    others_beside,
)
from gaussiantalker_ns.preprocess.video.scan import (
    Scan,
    find_faces,
    find_small_faces,
    square_pieces,
)
from gaussiantalker_ns.preprocess.video.shots import Shots


def box(x: float, y: float, side: float) -> np.ndarray:
    return np.array([x, y, x + side, y + side], np.float32)


def scan_of(faces: dict[int, list[np.ndarray]], small: dict[int, list[np.ndarray]]) -> Scan:
    return Scan(0, 241, Shots([], []), faces, small, size=(1280, 720))


def two_people() -> Scan:
    """A large face on the right; one of three quarters its size on the left, for a while."""
    faces = {frame: [box(900 + frame / 12, 200, 200)] for frame in range(0, 241, 12)}
    for frame in range(0, 120, 12):
        faces[frame].insert(0, box(200, 220, 150))
    return scan_of(faces, {})


@pytest.mark.parametrize(
    ("face", "x"), [("largest", 1010), ("left", 275), ("right", 1010), ("1", 275), ("2", 1010)]
)
def test_face_chooses_from_the_left(face: str, x: float):
    subject = choose_subject(two_people(), 0, 241, face)
    assert subject is not None and subject.x == pytest.approx(x, abs=1)


def test_a_number_that_nobody_has():
    with pytest.raises(ValueError, match=r"--face is 3, but 2 faces .* column 275, 1010 of 1280"):
        choose_subject(two_people(), 0, 241, "3")
    assert choose_subject(scan_of({0: []}, {}), 0, 241, "left") is None


@pytest.mark.parametrize("face", ["middle", "0", "-1", "1.5", ""])
def test_face_is_a_side_or_a_number(face: str):
    with pytest.raises(ValueError, match="1 is the leftmost face"):
        VideoConfig(face=face)


def findings(scan: Scan, face: str = "largest") -> list[dict[str, str]]:
    subject = choose_subject(scan, 0, 241, face)
    assert subject is not None
    return describe_others(subject, others_beside(scan, 0, 241, subject), face)


def test_two_faces_are_said():
    (found,) = findings(two_people())
    assert found["topic"] == "faces"
    assert found["title"].startswith("Two faces are seen; number 2 from the left was followed (the")
    assert "--face left" in found["advice"]
    (found,) = findings(two_people(), "left")
    assert "number 1 from the left was followed (--face left)" in found["title"]


def test_people_behind_are_said_with_their_time():
    faces = {frame: [box(500, 200, 200)] for frame in range(0, 241, 12)}
    small = {frame: [faces[frame][0]] for frame in range(0, 241, 48)}
    assert findings(scan_of(faces, small)) == []
    small[48].append(box(100, 300, 40))
    assert findings(scan_of(faces, small)) == []  # A single sighting may be a mistake.
    small[96].append(box(110, 300, 40))
    (found,) = findings(scan_of(faces, small))
    assert found["topic"] == "people-behind"
    assert "at 1.9 to 3.9 s of the video" in found["title"]


def test_subject_in_pixels_of_the_data_set():
    subject = choose_subject(two_people(), 12, 241, "left")
    assert subject is not None
    rows = subject.in_crop(12, SquareCrop(100, 120, 512), 256)
    assert rows[0] == (0, 50, 50, 125, 125)
    assert len(rows) == 9


def test_followed_person_is_not_the_largest():
    frames = [[box(10, 10, 40), box(100, 10, 80)] for _ in range(5)]
    frames[2] = [box(100, 10, 80)]
    sightings = [(0, 12, 10, 52, 50), (4, 8, 10, 48, 50)]
    assert follow_person(frames, sightings) == [0, 0, None, 0, 0]


class SmallFaces(FaceLandmarker):
    """Finds bright squares that are at least an eighth of the picture's longer side."""

    def __init__(self) -> None:
        pass

    def detect(self, image: np.ndarray) -> list[Face]:
        faces = []
        for level in range(200, 256, 10):
            rows, columns = np.nonzero(image[..., 0] == level)
            if len(rows) and np.ptp(columns) + 1 >= max(image.shape) / 8:
                points = np.zeros((478, 3), np.float32)
                points[:2, 0] = columns.min(), columns.max()
                points[:2, 1] = rows.min(), rows.max()
                points[2:] = points[0]
                faces.append(Face(points, np.zeros(52, np.float32)))
        return faces


def picture(height: int, width: int, *marks: tuple[int, int, int]) -> np.ndarray:
    image = np.zeros((height, width, 3), np.uint8)
    for index, (x, y, side) in enumerate(marks):
        image[y : y + side, x : x + side] = 200 + 10 * index
    return image


@pytest.mark.parametrize(("height", "width", "x", "y"), [(640, 360, 150, 70), (360, 640, 500, 200)])
@pytest.mark.parametrize("side", [50, 25])
def test_a_small_face_is_found_in_tall_and_in_wide_pictures(
    height: int, width: int, x: int, y: int, side: int
):
    (found,) = find_faces(SmallFaces(), picture(height, width, (x, y, side)))
    np.testing.assert_allclose(found, [x, y, x + side - 1, y + side - 1])


def test_a_small_face_in_a_square_picture():
    (found,) = find_faces(SmallFaces(), picture(400, 400, (300, 90, 30)))
    assert found[0] == 300 and found[1] == 90


def test_small_faces_beside_a_large_one():
    image = picture(400, 600, (100, 100, 120), (450, 60, 30))
    known = find_faces(SmallFaces(), image)
    assert len(known) == 1
    (other,) = find_small_faces(SmallFaces(), image, known)
    assert other[0] == 450
    assert find_small_faces(SmallFaces(), image, []) == []


def test_pieces_cover_the_picture():
    assert square_pieces(100, 200, 100) == [(0, 0), (50, 0), (100, 0)]
    assert square_pieces(200, 100, 100) == [(0, 0), (0, 50), (0, 100)]
    assert square_pieces(100, 100, 100) == [(0, 0)]
    covered = np.zeros((130, 210), bool)
    for x, y in square_pieces(130, 210, 65):
        covered[y : y + 65, x : x + 65] = True
    assert covered.all()
