"""Step 1: a video becomes square pictures at 25 a second and 16 kHz mono sound."""

import os
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import av
import cv2
import numpy as np
from jaxtyping import UInt8

from gaussiantalker_ns.audio.read import read_recording, write_wav
from gaussiantalker_ns.audio.tracks import choose_track
from gaussiantalker_ns.dataparsers.dataset_layout import DatasetLayout
from gaussiantalker_ns.files import default_workers, ordered_map, resize, sha256_of, write_image
from gaussiantalker_ns.preprocess.video.crop import SquareCrop, crop_around, parse_crop
from gaussiantalker_ns.preprocess.video.people import (
    Person,
    check_face,
    choose_subject,
    describe_others,
    others_beside,
)
from gaussiantalker_ns.preprocess.video.scan import Scan, scan_video
from gaussiantalker_ns.preprocess.video.take import (
    check_duration,
    choose_take,
    scene_notices,
    take_notices,
    unusable_frames,
)
from gaussiantalker_ns.timebase import FPS, SAMPLE_RATE_HZ, SAMPLES_PER_FRAME, fit_to_frames
from gaussiantalker_ns.video.reader import ConstantFpsReader, upright_rgb

MIN_SIZE = 64
JPEG_OPTIONS = (
    *(cv2.IMWRITE_JPEG_QUALITY, 97),
    *(cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444),
)
SILENCE_NOTICE_S = 0.5
"""Missing sound at the end that is worth a notice."""


@dataclass
class VideoConfig:
    """Settings of the video step."""

    start: float = 0.0
    """Where to start, seconds after the first picture, >= 0."""
    end: float | None = None
    """Where to stop, seconds after the first picture; None goes to the end of the video."""
    crop: str = "auto"
    """Square part of the picture: "auto" (around the head), "none" or "x,y,size" in pixels."""
    size: int = 512
    """Side of the written pictures in pixels, >= 64."""
    audio_track: int | None = None
    """Number of the audio track, from 1; None takes one with sound, the default one first."""
    take: Literal["longest", "all"] = "longest"
    """Which uncut take to use: the one that shows a face longest, or everything, cuts included."""
    face: str = "largest"
    """Whom to follow among several people: "largest", "left", "right", or a number from the left,
    beginning with 1."""
    min_duration_s: float = 3.0
    """Shortest clip that is accepted, seconds; a good avatar needs a minute or more."""
    num_workers: int = 0
    """Threads that write pictures; 0 takes one per CPU core, at most 4."""

    def __post_init__(self) -> None:
        if self.start < 0 or (self.end is not None and self.end <= self.start):
            raise ValueError(
                f"--start {self.start} and --end {self.end} leave nothing; expected 0 <= start < "
                "end in seconds."
            )
        if self.size < MIN_SIZE:
            raise ValueError(f"--size is {self.size}; expected at least {MIN_SIZE} pixels.")
        check_face(self.face)


@dataclass
class VideoInfo:
    """What was read from the video and how; goes into `talker.json`."""

    name: str
    """File name of the source."""
    sha256: str
    """Hash of the source file."""
    source_size: tuple[int, int]
    """Width and height of the upright source picture in pixels."""
    source_fps: float
    """Mean frame rate of the source."""
    source_duration_s: float
    """Length of the source up to where it was read."""
    take: tuple[int, int]
    """First and last frame of the take, both included, counted at 25 a second from the first
    picture."""
    num_frames: int
    """Number of frames written."""
    size: int
    """Side of the written pictures in pixels."""
    crop: tuple[int, int, int]
    """x, y and side of the square in source pixels."""
    cuts: list[int] = field(default_factory=list)
    """First frames of new shots in the source, in the same count as `take`."""
    jumps: list[int] = field(default_factory=list)
    """Frames inside the take before which frames seem to be missing, counted from its first."""
    unusable: list[int] = field(default_factory=list)
    """Frames inside the take that show no scene (`--take all`), counted from its first."""
    subject: list[tuple[int, ...]] = field(default_factory=list)
    """Where the chosen person is, if there are others: frame, and box in pixels of the data set."""
    findings: list[dict[str, str]] = field(default_factory=list)
    """What the report says about other people: topic, title and advice."""
    notices: list[str] = field(default_factory=list)
    """Sentences for the user."""

    def to_dict(self) -> dict[str, Any]:
        """As plain values for JSON."""
        return asdict(self)


def extract(
    video: Path,
    output_dir: Path,
    config: VideoConfig | None = None,
    progress: Callable[[int], None] | None = None,
) -> VideoInfo:
    """Write `ori_imgs/{i}.jpg` and `aud.wav` of the chosen take into a data set folder.

    Pictures are written into a folder of another name that is renamed at the end, so that a folder
    `ori_imgs` is always complete.

    Args:
        video: Any video with sound that PyAV reads.
        output_dir: Folder of the data set; is made if missing.
        config: Settings.
        progress: Called with the number of pictures read so far; all are read twice.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is no usable video; the message says what to do.
    """
    config = config or VideoConfig()
    grid = ConstantFpsReader(video)
    report = reading_counter(progress)
    fixed_crop = parse_crop(config.crop, grid.width, grid.height)
    if config.end is None and grid.declared_duration_s is not None:
        check_duration(grid.declared_duration_s - config.start, video, config.min_duration_s)
    require_audio(video, config.audio_track)
    start = round(config.start * FPS)
    stop = None if config.end is None else round(config.end * FPS)
    scan = scan_video(grid, start, stop, report, all_faces=config.face != "largest")
    first, last = choose_take(scan, config.take)
    check_duration((last - first) / FPS, video, config.min_duration_s, scan)
    unusable = unusable_frames(scan, first, last) if config.take == "all" else []
    # Whoever names the part of the picture need not have a face that is found in the whole.
    subject = choose_subject(scan, first, last, config.face)
    if fixed_crop is None:
        subject = find_subject(scan, grid, first, last, config.face)
        boxes = list(subject.boxes.values())
        fixed_crop = crop_around(boxes, grid.width, grid.height, config.size)
    others = others_beside(scan, first, last, subject) if subject else []
    dataset = DatasetLayout(output_dir)
    output_dir.mkdir(parents=True, exist_ok=True)
    notices = take_notices(scan, first, last) + scene_notices(scan, first, last, unusable)
    notices += write_audio(grid, first, last, dataset, config.audio_track)
    write_frames(grid, first, last, fixed_crop, config, dataset, report)
    return VideoInfo(
        name=video.name,
        sha256=sha256_of(video),
        source_size=(grid.width, grid.height),
        source_fps=grid.source_fps,
        source_duration_s=scan.stop / FPS,
        take=(first, last - 1),
        num_frames=last - first,
        size=config.size,
        crop=(fixed_crop.x, fixed_crop.y, fixed_crop.side),
        cuts=scan.shots.cuts,
        jumps=[frame - first for frame in scan.shots.jumps if first < frame < last],
        unusable=unusable,
        subject=subject.in_crop(first, fixed_crop, config.size) if subject and others else [],
        findings=describe_others(subject, others, config.face) if subject else [],
        notices=[*notices, *grid.notices()],
    )


def reading_counter(progress: Callable[[int], None] | None) -> Callable[[int], None]:
    """Turn per-pass counts that start again at 1 into one running count of pictures read."""
    total = 0

    def report(_: int) -> None:
        nonlocal total
        total += 1
        if progress:
            progress(total)

    return report


def require_audio(video: Path, wanted: int | None = None) -> None:
    """Check that there is a sound stream, and the wanted track.

    Raises:
        ValueError: there is none.
    """
    with av.open(str(video)) as container:
        # Which one is heard is decided when the sound is read; here only that there is one.
        choose_track(container, video, 1 if wanted is None else wanted)


def find_subject(scan: Scan, grid: ConstantFpsReader, first: int, last: int, face: str) -> Person:
    """The person of whom the data set is made.

    Raises:
        ValueError: no face was seen, or not the wanted one.
    """
    subject = choose_subject(scan, first, last, face)
    if subject is None:
        raise ValueError(
            f"No face was found in {len(scan.faces_between(first, last))} pictures looked at "
            f"between {first / FPS:.1f} s and {last / FPS:.1f} s of {grid.path}; expected "
            "one person who looks towards the camera. Choose another part with --start and --end, "
            "or name the part of the picture that shows the head with --crop x,y,size."
        )
    return subject


def write_audio(
    grid: ConstantFpsReader,
    first: int,
    last: int,
    dataset: DatasetLayout,
    audio_track: int | None = None,
) -> list[str]:
    """Write the sound of the take, sample 0 at its first frame; returns notices for the user."""
    recording = read_recording(
        grid.path, SAMPLE_RATE_HZ, t_start=grid.t0 + first / FPS, track=audio_track
    )
    samples = recording.samples
    missing_s = (last - first) / FPS - len(samples) / SAMPLE_RATE_HZ
    samples = fit_to_frames(samples, last - first, SAMPLES_PER_FRAME)
    partial = dataset.audio.with_name("aud.partial.wav")
    write_wav(partial, samples)
    os.replace(partial, dataset.audio)
    if missing_s > SILENCE_NOTICE_S:
        ends = f"The sound ends {missing_s:.1f} s before the pictures; silence was put in."
        return [*recording.notices, ends]
    return recording.notices


def write_frames(
    grid: ConstantFpsReader,
    first: int,
    last: int,
    crop: SquareCrop,
    config: VideoConfig,
    dataset: DatasetLayout,
    progress: Callable[[int], None] | None = None,
) -> None:
    """Decode the take again at full size and write its pictures."""
    folder = dataset.frames_dir.with_name(dataset.frames_dir.name + ".partial")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)

    def write(item: tuple[int, UInt8[np.ndarray, "h wd 3"]]) -> None:
        index, image = item
        path = folder / dataset.frame(index - first).name
        small = resize(crop.apply(image), config.size)
        write_image(path, small, JPEG_OPTIONS)

    pictures = (
        (index, upright_rgb(frame, grid.height, grid.width))
        for index, frame in grid.frames(first, last)
    )
    for count, _ in enumerate(ordered_map(write, pictures, default_workers(config.num_workers))):
        if progress:
            progress(count + 1)
    shutil.rmtree(dataset.frames_dir, ignore_errors=True)
    os.replace(folder, dataset.frames_dir)
