"""The subject among several faces: the largest over the clip, followed by its position."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32

from gaussiantalker_ns.face.interpolation import fill_gaps

Box = Float32[np.ndarray, " 4"]

MAX_STEP = 1.0  # How far a face may move from one sighting to the next, in face box sides.
FORGET_FRAMES = 25  # After this many frames without the face, it may come back further away.
MAX_STEP_FORGOTTEN = 3.0
MAX_DISTANCE = 0.5  # How far a face may be from where the person to follow was seen.


def box_side(box: Box) -> float:
    """Longer side of a box x0, y0, x1, y1."""
    return float(max(box[2] - box[0], box[3] - box[1]))


def closest_face(boxes: Sequence[Box], expected: Box, max_step: float = MAX_STEP) -> int | None:
    """Index of the box nearest to the expected one; None beyond `max_step` box sides."""
    if not boxes:
        return None
    center = (expected[:2] + expected[2:]) / 2
    distances = [float(np.linalg.norm((box[:2] + box[2:]) / 2 - center)) for box in boxes]
    best = int(np.argmin(distances))
    return best if distances[best] <= max_step * box_side(expected) else None


def link_people(frames: Sequence[Sequence[Box]]) -> list[dict[int, int]]:
    """Chain boxes of neighbouring frames into people: each a dict of frame -> index of its box."""
    people: list[dict[int, int]] = []
    for frame, boxes in enumerate(frames):
        # Who was seen last chooses first.
        for person in sorted(people, key=lambda person: -next(reversed(person))):
            last = next(reversed(person))
            taken = {other[frame] for other in people if frame in other}
            free = [index for index in range(len(boxes)) if index not in taken]
            max_step = MAX_STEP if frame - last <= FORGET_FRAMES else MAX_STEP_FORGOTTEN
            index = closest_face([boxes[i] for i in free], frames[last][person[last]], max_step)
            if index is not None:
                person[frame] = free[index]
        taken = {person[frame] for person in people if frame in person}
        people.extend({frame: index} for index in range(len(boxes)) if index not in taken)
    return people


def choose_person(frames: Sequence[Sequence[Box]]) -> list[int | None]:
    """Choose the face of the subject in every frame.

    The subject is the person with the largest sum of face sides over the clip, so that neither a
    passer-by close to the camera nor a small face that is always in the background wins.

    Args:
        frames: The face boxes x0, y0, x1, y1 of every frame.

    Returns:
        For every frame the index of the subject's box, None where the subject is not seen.
    """
    people = link_people(frames)
    if not people:
        return [None] * len(frames)

    def weight(person: dict[int, int]) -> float:
        return sum(box_side(frames[frame][index]) ** 2 for frame, index in person.items())

    subject = max(people, key=weight)
    return [subject.get(frame) for frame in range(len(frames))]


def follow_person(
    frames: Sequence[Sequence[Box]], sightings: Sequence[Sequence[int]]
) -> list[int | None]:
    """Choose in every frame the face that is where a certain person was seen.

    Args:
        frames: The face boxes x0, y0, x1, y1 of every frame.
        sightings: Rows of frame, x0, y0, x1, y1; between them the place is interpolated.

    Returns:
        For every frame the index of the person's box, None where no face is near.
    """
    places = np.zeros((len(frames), 4), np.float32)
    known = np.zeros(len(frames), bool)
    for frame, *box in sightings:
        places[frame], known[frame] = box, True
    expected = fill_gaps(places, known)
    return [closest_face(boxes, place, MAX_DISTANCE) for boxes, place in zip(frames, expected)]
