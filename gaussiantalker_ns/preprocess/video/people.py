"""Who is meant where a video shows several faces, and what the user is told about the others."""

from dataclasses import dataclass

import numpy as np

from gaussiantalker_ns.face.subject import Box, box_side, choose_person, link_people
from gaussiantalker_ns.preprocess.video.crop import SquareCrop
from gaussiantalker_ns.preprocess.video.scan import Scan
from gaussiantalker_ns.timebase import FPS, list_times

LEAST_SHARE = 0.2
"""Fraction of the searched frames in which somebody must be seen to count for `--face`."""
LEAST_SIGHTINGS = 2
"""Sightings of others that are worth a word: a single one may be a mistake."""
EQUAL_SIDE = 0.5
"""A face at least this large, compared with the subject's, is a second person, else a bystander."""

FACE_CHOICES = ("largest", "left", "right")


@dataclass(eq=False)
class Person:
    """Somebody who was seen in searched frames of a take."""

    boxes: dict[int, Box]
    """Face box in source pixels of every frame in which it was found."""

    @property
    def x(self) -> float:
        """Middle of the face from the left, source pixels."""
        return float(np.median([(box[0] + box[2]) / 2 for box in self.boxes.values()]))

    @property
    def side(self) -> float:
        """Longer side of the face box, source pixels."""
        return float(np.median([box_side(box) for box in self.boxes.values()]))

    def in_crop(self, first: int, crop: SquareCrop, size: int) -> list[tuple[int, ...]]:
        """Number in the take, and box in pixels of the data set, of every frame."""
        corner, scale = np.array([crop.x, crop.y, crop.x, crop.y]), size / crop.side
        return [
            (frame - first, *np.round((box - corner) * scale).astype(int).tolist())
            for frame, box in self.boxes.items()
        ]


def check_face(face: str) -> None:
    """Check `--face`.

    Raises:
        ValueError: it is neither a side nor a number from 1.
    """
    if face not in FACE_CHOICES and not (face.isdecimal() and int(face) > 0):
        raise ValueError(
            f"--face is '{face}'; expected 'left', 'right', 'largest' or a number: 1 is the "
            "leftmost face."
        )


def people_between(faces: dict[int, list[Box]], first: int, last: int) -> list[Person]:
    """Everybody who was seen between two frames (the second is exclusive), from left to right."""
    frames = [frame for frame in faces if first <= frame < last]
    chains = link_people([faces[frame] for frame in frames])
    people = [
        Person({frames[place]: faces[frames[place]][index] for place, index in chain.items()})
        for chain in chains
    ]
    return sorted(people, key=lambda person: person.x)


def choose_subject(scan: Scan, first: int, last: int, face: str) -> Person | None:
    """The person of whom the data set is made; None if nobody was seen.

    Raises:
        ValueError: `--face` names a number that nobody has.
    """
    frames = [frame for frame in scan.faces if first <= frame < last]
    if face == "largest":
        chosen = choose_person([scan.faces[frame] for frame in frames])
        boxes = {
            frame: scan.faces[frame][index]
            for frame, index in zip(frames, chosen)
            if index is not None
        }
        return Person(boxes) if boxes else None
    people = people_between(scan.faces, first, last)
    people = [person for person in people if len(person.boxes) >= LEAST_SHARE * len(frames)]
    if not people:
        return None
    number = {"left": 1, "right": len(people)}.get(face) or int(face)
    if number > len(people):
        places = ", ".join(f"{round(person.x)}" for person in people)
        raise ValueError(
            f"--face is {number}, but {len(people)} face{'s' if len(people) > 1 else ''} can be "
            f"followed between {first / FPS:.1f} s and {last / FPS:.1f} s, in the middle of column "
            f"{places} of {scan.size[0]}; expected a number from 1 (left) to {len(people)}."
        )
    return people[number - 1]


def others_beside(scan: Scan, first: int, last: int, subject: Person) -> list[Person]:
    """Other people of a take, from left to right; small ones were looked for in some frames."""
    found: list[Person] = []
    for faces in (scan.faces, scan.small_faces):
        known = [subject, *found]
        for person in people_between(faces, first, last):
            common = [frame for frame in person.boxes if frame in subject.boxes]
            new = not any(same_face(person, other) for other in known)
            if new and len(common) >= LEAST_SIGHTINGS:
                found.append(person)
    return sorted(found, key=lambda person: person.x)


def same_face(first: Person, second: Person) -> bool:
    """Whether two people share a box, one found in a closer search than the other."""
    return any(
        np.array_equal(box, second.boxes[frame])
        for frame, box in first.boxes.items()
        if frame in second.boxes
    )


def describe_others(subject: Person, others: list[Person], face: str) -> list[dict[str, str]]:
    """What the report says about other people; empty without any."""
    equal = [person for person in others if person.side >= EQUAL_SIDE * subject.side]
    behind = [person for person in others if person.side < EQUAL_SIDE * subject.side]
    findings = []
    if equal:
        row = sorted([subject, *equal], key=lambda person: person.x)
        place = row.index(subject) + 1
        why = "the largest" if face == "largest" else f"--face {face}"
        number = "Two" if len(row) == 2 else str(len(row))
        findings.append(
            {
                "topic": "faces",
                "title": f"{number} faces are seen; number {place} from the left was followed "
                f"({why}).",
                "advice": "Choose another one with --face left, right or a number.",
            }
        )
    if behind:
        frames = sorted({frame for person in behind for frame in person.boxes})
        gap = max(int(np.median(np.diff(frames))) if len(frames) > 1 else 0, 1)
        findings.append(
            {
                "topic": "people-behind",
                "title": f"Other people are seen behind, at {list_times(frames, 2 * gap)} of "
                "the video.",
                "advice": "They blur in the background. Film before an empty one, or choose a part "
                "without them with --start and --end.",
            }
        )
    return findings
