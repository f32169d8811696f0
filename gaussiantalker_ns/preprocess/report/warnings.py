"""Warnings about a video: what is wrong, in plain words, and what to do about it."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from gaussiantalker_ns.preprocess.report.clip_quality import AudioLevels, FaceLooks
from gaussiantalker_ns.timebase import MAX_LISTED, list_times, spans

GOOD_LENGTH_S, LEAST_LENGTH_S = 60.0, 20.0
GOOD_FACE_FRACTION = 0.3
"""Face side over picture side; below it few pixels are left for lips and eyes."""
MAX_EDGE_WIDTH = 0.02
"""Width of the sharpest edges over the side of the face, above which the picture is blurred."""
SHARPEST_EDGE = 4.0
"""Pixels; even a perfect picture has hardly narrower edges."""
MAX_BLURRED_FRACTION = 0.2
LEAST_TURN_DEG, LARGEST_TURN_DEG = 4.0, 40.0
MAX_LIGHT_CHANGE = 0.12
MAX_RIGID_PX, MAX_FLOW_PX = 3.0, 1.0
"""Tracking errors at a picture side of 512 px."""
MAX_BACKGROUND_MOTION = 5.0
MAX_CAMERA_SWAY = 0.012
"""Range of the whole background's motion within four seconds, over the width of the picture."""
MAX_OFFSET_MS = 40.0
LEAST_LIP_CORRELATION = 0.2
LEAST_LIP_OPENING = 0.03
"""Eye distances between shut and open lips; of three speakers the least in 8 s was 0.07."""
MAX_CLIPPED = 2e-4
LEAST_RANGE_DB, QUIET_DB = 15.0, -45.0


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong with a video."""

    topic: str
    """Short name, for programs."""
    title: str
    """What was found."""
    advice: str
    """What to do."""

    def to_dict(self) -> dict[str, str]:
        """As plain values for JSON."""
        return asdict(self)


def list_spans(frames: list[int], gap: int) -> str:
    """Frames for people: "3 to 9, 20 and 4 more"."""
    found = spans(frames, gap)
    texts = [str(a) if a == b else f"{a} to {b}" for a, b in found[:MAX_LISTED]]
    more = f" and {len(found) - MAX_LISTED} more" if len(found) > MAX_LISTED else ""
    return ", ".join(texts) + more


def find_warnings(talker: dict[str, Any], looks: FaceLooks, sound: AudioLevels) -> list[Finding]:
    """Compare a data set's figures with what a good recording has; worst things first."""
    found = [*about_audio(talker, sound), *about_take(talker), *about_face(talker, looks)]
    return [*found, *about_tracking(talker)]


def about_take(talker: dict[str, Any]) -> Iterator[Finding]:
    """Length, what reading the video found (cuts, jumps, missing sound), resolution."""
    length = talker["num_frames"] / talker["fps"]
    if length < GOOD_LENGTH_S:
        hard = "far too short: expect a stiff mouth" if length < LEAST_LENGTH_S else "rather short"
        yield Finding(
            "length",
            f"The clip is {length:.0f} s long, which is {hard}.",
            "Record one to five minutes of speech in one take.",
        )
    source = talker["source"]
    for notice in source["notices"]:
        yield Finding("video", notice, "")
    for finding in source.get("findings", []):
        yield Finding(**finding)
    side, size = source["crop"][2], talker["size"][0]
    if side < 0.9 * size:
        yield Finding(
            "resolution",
            f"The head's part of the picture has only {side} px and was enlarged to {size} px.",
            f"Record nearer or in a higher resolution, or use --size {max(64, side // 64 * 64)}.",
        )


def about_face(talker: dict[str, Any], looks: FaceLooks) -> Iterator[Finding]:
    """Frames without a face, its size, sharpness, light, and things before it."""
    covered, num_frames = talker.get("landmarks", {}).get("covered", []), talker["num_frames"]
    invalid = sorted(set(talker["invalid_frames"]) - set(covered))
    if invalid:
        yield Finding(
            "no-face",
            f"No face in {len(invalid)} of {num_frames} frames: {list_spans(invalid, 1)}.",
            "They are left out of training. Choose a part of the video in which the face is seen.",
        )
    side = talker["tracking"]["face_side_px"]
    if side < GOOD_FACE_FRACTION * talker["size"][0]:
        yield Finding(
            "small-face",
            f"The face is only {side:.0f} px high in pictures of {talker['size'][0]} px.",
            "Crop nearer with --crop x,y,size, or record nearer.",
        )
    limit = max(MAX_EDGE_WIDTH * side, SHARPEST_EDGE)
    blurred = looks.frames[looks.edge_width > limit]
    if len(blurred) > MAX_BLURRED_FRACTION * len(looks.frames):
        fraction = 100 * len(blurred) / len(looks.frames)
        yield Finding(
            "blur",
            f"The face is blurred in {fraction:.0f} % of the frames.",
            "Use more light, a steady camera and a fixed focus on the eyes.",
        )
    light = np.std(looks.brightness) / max(float(np.mean(looks.brightness)), 1.0)
    if light > MAX_LIGHT_CHANGE:
        yield Finding(
            "light",
            f"The brightness of the face changes by {100 * light:.0f} %.",
            "Lock the camera's exposure and white balance; keep the light as it is.",
        )
    if covered:
        fraction = 100 * len(covered) / num_frames
        of_video = [talker["source"]["take"][0] + frame for frame in covered]
        yield Finding(
            "covered",
            f"Something is before the lower face at {list_times(of_video, 1)} of the video "
            f"({fraction:.0f} % of the data set).",
            "These frames are left out of training. Keep hands, microphones and titles away from "
            "the face, or leave the part out with --start and --end.",
        )
    elif looks.covered:
        step = int(np.median(np.diff(looks.frames))) if len(looks.frames) > 1 else 1
        yield Finding(
            "covered",
            f"Something may be before the face in frames {list_spans(looks.covered, 2 * step)}.",
            "Keep hands and microphones away from the face, or leave the part out with --start and"
            " --end.",
        )


def about_tracking(talker: dict[str, Any]) -> Iterator[Finding]:
    """Head motion, tracking errors, the camera."""
    tracking, scale = talker["tracking"], talker["size"][0] / 512
    turn = max(tracking["yaw_range_deg"], tracking["pitch_range_deg"])
    if turn < LEAST_TURN_DEG:
        yield Finding(
            "still",
            f"The head turns by {turn:.1f} degrees only.",
            "Rendered head poses will be limited to this one; move the head naturally while you"
            " speak.",
        )
    if tracking["largest_turn_deg"] > LARGEST_TURN_DEG:
        yield Finding(
            "turned",
            f"The head is turned by up to {tracking['largest_turn_deg']:.0f} degrees.",
            "Look towards the camera; parts that are seen for moments only come out blurred.",
        )
    rigid, flow = tracking["rigid_reprojection_px"], tracking["held_out_flow_px"]
    if (rigid or 0) > MAX_RIGID_PX * scale or (flow or 0) > MAX_FLOW_PX * scale:
        yield Finding(
            "tracking",
            f"Head tracking is inaccurate: {rigid:.1f} px, {flow or 0:.1f} px between frames.",
            "Look at the landmarks in the contact sheet; more light and a larger face help.",
        )
    sway = talker["background"].get("camera_sway") or 0.0
    if sway > MAX_CAMERA_SWAY:
        yield Finding(
            "handheld",
            f"The camera was held by hand: the picture sways by {100 * sway:.1f} % of its width.",
            "Put the camera on a tripod; the head's pose takes over its motion, and the background"
            " is blurred.",
        )
    elif talker["background"]["motion"] > MAX_BACKGROUND_MOTION:
        yield Finding(
            "background",
            "The background or the camera moves, so the background is blurred.",
            "Put the camera on a tripod before a still background.",
        )


def about_audio(talker: dict[str, Any], sound: AudioLevels) -> Iterator[Finding]:
    """Level, whether lips and sound go together, clipping, noise."""
    loud = float(np.percentile(sound.level_db, 95))
    if loud < QUIET_DB:
        yield Finding(
            "silent",
            f"The sound is nearly silent ({loud:.0f} dB below full scale).",
            "Check that the microphone was on; without speech nothing can be learned.",
        )
        return
    yield from about_lips(talker)
    if sound.clipped > MAX_CLIPPED:
        yield Finding(
            "clipping",
            f"The sound is clipped ({100 * sound.clipped:.2f} % of it).",
            "Record with a lower microphone level.",
        )
    if sound.range_db < LEAST_RANGE_DB:
        yield Finding(
            "noise",
            f"Speech is only {sound.range_db:.0f} dB above the background noise.",
            "Record in a quiet room, near the microphone.",
        )


def about_lips(talker: dict[str, Any]) -> Iterator[Finding]:
    """Whether the lips move, whether the sound is theirs, and by how much it was moved."""
    # The first version did not judge: its data sets lack these keys.
    judged = {"foreign": False, "known": True, "lip_opening_range": np.inf}
    offset, estimate = talker["av_offset_ms"], {**judged, **talker["av_offset"]}
    if estimate["lip_opening_range"] < LEAST_LIP_OPENING:
        yield Finding(
            "still-lips",
            "The lips hardly move while somebody speaks.",
            "Is it a still picture, or is another person speaking? A talking head learns from lips"
            " that speak the words of the sound.",
        )
    elif estimate["foreign"] or max(estimate["correlations"], default=0.0) < LEAST_LIP_CORRELATION:
        yield Finding(
            "lip-sync",
            "Lips and sound hardly go together: the speech does not seem to be this face's.",
            "Is somebody else speaking, is there music, is the mouth covered, the video dubbed, or"
            " its sound more than 0.3 s off? It was left where it is unless you set --av-offset.",
        )
    elif not estimate["known"] and offset == 0:
        yield Finding(
            "offset-unknown",
            "How late the sound is cannot be told from this clip, so it was not moved.",
            "A longer clip tells; if lips and sound do not fit, set --av-offset yourself.",
        )
    if abs(offset) > MAX_OFFSET_MS:
        late = "late" if offset > 0 else "early"
        yield Finding(
            "offset",
            f"The sound was {abs(offset):.0f} ms {late} and was moved.",
            "If lips and sound do not fit in the result, set --av-offset yourself.",
        )
