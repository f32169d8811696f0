"""The take: which part of a video becomes the data set, and what is said about the rest."""

from pathlib import Path
from typing import Literal

import numpy as np

from gaussiantalker_ns.preprocess.video.scan import Scan
from gaussiantalker_ns.preprocess.video.scene import outside_scene, scenes_of
from gaussiantalker_ns.preprocess.video.shots import split_takes
from gaussiantalker_ns.timebase import FPS, MAX_LISTED, list_times


def check_duration(
    duration_s: float, video: Path, least_s: float, scan: Scan | None = None
) -> None:
    """Refuse clips that are too short to learn anything from.

    Args:
        duration_s: Length of what can be used, seconds.
        video: The source, for the message.
        least_s: Shortest length that is accepted, seconds.
        scan: What was found in the video, to say what leaves so little.

    Raises:
        ValueError: the clip is shorter than `least_s`.
    """
    if duration_s >= least_s:
        return
    found = (
        f"The longest usable part of {video} is {duration_s:.1f} s long; expected at least "
        f"{least_s:.0f} s in one take, and a minute or more for a good avatar. "
    )
    if scan is None or not scan.shots.cuts:
        raise ValueError(f"{found}Record a longer clip without cuts, or widen --start and --end.")
    cuts = [f"{cut / FPS:.1f}" for cut in scan.shots.cuts]
    more = f" and {len(cuts) - MAX_LISTED} more" if len(cuts) > MAX_LISTED else ""
    raise ValueError(
        f"{found}The picture changes abruptly at {', '.join(cuts[:MAX_LISTED])} s{more}: cuts, or "
        "steps of the exposure. Where these parts belong together, --take all uses all of them; "
        "else record a longer clip without cuts and with locked exposure."
    )


def choose_take(scan: Scan, take: Literal["longest", "all"]) -> tuple[int, int]:
    """First frame and frame behind the last one of the take to use: the one with most face time."""
    if take == "all":
        return scan.start, scan.stop
    takes = split_takes(scan.start, scan.stop, scan.shots.cuts)
    parts = [
        part
        for uncut in takes
        for part in scenes_of(uncut, lambda first, last: outside_scene(scan, first, last))
    ]

    def face_time(part: tuple[int, int]) -> tuple[float, int]:
        searched = scan.faces_between(*part)
        fraction = sum(bool(boxes) for boxes in searched) / max(len(searched), 1)
        return fraction * (part[1] - part[0]), part[1] - part[0]

    return max(parts, key=face_time)


def unusable_frames(scan: Scan, first: int, last: int) -> list[int]:
    """Frames of a whole video (`--take all`) that show no scene, counted from its first one."""
    takes = split_takes(first, last, scan.shots.cuts)
    outside = np.concatenate([outside_scene(scan, *take) for take in takes])
    return np.flatnonzero(outside).tolist()


def take_notices(scan: Scan, first: int, last: int) -> list[str]:
    """Say which take was chosen and what is odd about it."""
    notices = []
    if scan.shots.cuts:
        cuts = ", ".join(map(str, scan.shots.cuts))
        notices.append(
            f"Shot cuts before frames {cuts} (at 25 a second). Frames {first} to {last - 1} "
            f"({(last - first) / FPS:.1f} s) are used; choose others with --start, --end "
            "or --take all."
        )
    jumps = [frame for frame in scan.shots.jumps if first < frame < last]
    if jumps:
        notices.append(
            f"The picture jumps before frames {', '.join(map(str, jumps))}: frames were lost or "
            "words cut out there. The take is used as it is."
        )
    return notices


def scene_notices(scan: Scan, first: int, last: int, unusable: list[int]) -> list[str]:
    """Say which frames beside the take (or in it, with `--take all`) show no scene."""
    begin, end = next(
        (take for take in split_takes(scan.start, scan.stop, scan.shots.cuts) if first < take[1]),
        (first, last),
    )
    outside = sorted(
        {frame + first for frame in unusable}
        | {begin + frame for frame in np.flatnonzero(outside_scene(scan, begin, end)).tolist()}
    )
    if not outside:
        return []
    return [
        f"The picture is blank, faded or a title at {list_times(outside, 1)}; these frames are "
        f"left out. {first / FPS:.1f} to {last / FPS:.1f} s are used."
    ]
