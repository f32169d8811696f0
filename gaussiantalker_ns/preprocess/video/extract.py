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
from gaussiantalker_ns.face.subject import choose_person
from gaussiantalker_ns.files import default_workers, ordered_map, resize, sha256_of, write_image
from gaussiantalker_ns.preprocess.video.crop import SquareCrop, crop_around, parse_crop
from gaussiantalker_ns.preprocess.video.scan import Scan, scan_video
from gaussiantalker_ns.preprocess.video.shots import split_takes
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
        check_duration(grid.declared_duration_s - config.start, video, config)
    require_audio(video, config.audio_track)
    start = round(config.start * FPS)
    stop = None if config.end is None else round(config.end * FPS)
    scan = scan_video(grid, start, stop, report)
    first, last = choose_take(scan, config)
    check_duration((last - first) / FPS, video, config)
    crop = fixed_crop or head_crop(scan, grid, first, last, config.size)
    dataset = DatasetLayout(output_dir)
    output_dir.mkdir(parents=True, exist_ok=True)
    notices = take_notices(scan, first, last)
    notices += write_audio(grid, first, last, dataset, config.audio_track)
    write_frames(grid, first, last, crop, config, dataset, report)
    return VideoInfo(
        name=video.name,
        sha256=sha256_of(video),
        source_size=(grid.width, grid.height),
        source_fps=grid.source_fps,
        source_duration_s=scan.stop / FPS,
        take=(first, last - 1),
        num_frames=last - first,
        size=config.size,
        crop=(crop.x, crop.y, crop.side),
        cuts=scan.shots.cuts,
        jumps=[frame - first for frame in scan.shots.jumps if first < frame < last],
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


def check_duration(duration_s: float, video: Path, config: VideoConfig) -> None:
    """Refuse clips that are too short to learn anything from.

    Raises:
        ValueError: the clip is shorter than `min_duration_s`.
    """
    if duration_s < config.min_duration_s:
        raise ValueError(
            f"The longest usable part of {video} is {duration_s:.1f} s long; expected at least "
            f"{config.min_duration_s:.0f} s in one take, and a minute or more for a good avatar. "
            "Record a longer clip without cuts, or widen --start and --end."
        )


def choose_take(scan: Scan, config: VideoConfig) -> tuple[int, int]:
    """First frame and frame behind the last one of the take to use: the one with most face time."""
    if config.take == "all":
        return scan.start, scan.stop
    takes = split_takes(scan.start, scan.stop, scan.shots.cuts)

    def face_time(take: tuple[int, int]) -> tuple[float, int]:
        searched = scan.faces_between(*take)
        fraction = sum(bool(boxes) for boxes in searched) / max(len(searched), 1)
        return fraction * (take[1] - take[0]), take[1] - take[0]

    return max(takes, key=face_time)


def head_crop(scan: Scan, grid: ConstantFpsReader, first: int, last: int, size: int) -> SquareCrop:
    """The square around the subject's head over a take.

    Raises:
        ValueError: no face was seen.
    """
    frames = scan.faces_between(first, last)
    chosen = choose_person(frames)
    boxes = [faces[index] for faces, index in zip(frames, chosen) if index is not None]
    if not boxes:
        raise ValueError(
            f"No face was found in {len(frames)} pictures looked at between "
            f"{first / FPS:.1f} s and {last / FPS:.1f} s of {grid.path}; expected "
            "one person who looks towards the camera. Choose another part with --start and --end, "
            "or name the part of the picture that shows the head with --crop x,y,size."
        )
    return crop_around(boxes, grid.width, grid.height, size)


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
