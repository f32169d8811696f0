"""Looking at what rows name before anything is made: videos, talkers, recordings, voices."""

import math
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from gaussiantalker_ns.batch.inputs import Input, fetched
from gaussiantalker_ns.batch.options import ProcessOptions
from gaussiantalker_ns.batch.perform import reason_of
from gaussiantalker_ns.batch.plan import Planned, ProcessWork, digest
from gaussiantalker_ns.batch.stages import no_consent
from gaussiantalker_ns.batch.table import BadRow
from gaussiantalker_ns.scheduler.run import Workers, run_tasks
from gaussiantalker_ns.scheduler.tasks import Failure, Finished, Task, TaskQueue

Examination = tuple[Callable[..., None], tuple[Any, ...]]
"""A function that raises what is wrong, and what it is called with before the folder for copies."""


def check_rows(
    plan: Iterable[Planned | BadRow],
    workers: Callable[[], Workers],
    require_consent: bool,
) -> list[BadRow]:
    """Look at everything that rows name, each thing once.

    Args:
        plan: The rows, planned.
        workers: Makes those who look.
        require_consent: Whether talkers without consent are refused.

    Returns:
        The rows that cannot be done, in the table's order.
    """
    bad: dict[int, BadRow] = {}
    queue, rows = TaskQueue(), {}
    for planned in plan:
        if isinstance(planned, BadRow):
            bad[planned.number] = planned
            continue
        for function, arguments in examinations(planned, require_consent):
            key = f"{function.__name__} {digest(*arguments)}"
            if key not in queue:
                queue.add(Task(key, examined, (function, arguments), attempts=3))
            rows.setdefault(key, []).append(planned.row)
    if len(queue):
        for event in run_tasks(queue, workers()):
            if not isinstance(event, Finished) or event.outcome is None:
                continue
            outcome = event.outcome
            reason = outcome.reason if isinstance(outcome, Failure) else str(outcome)
            for row in rows[event.task.key]:
                bad.setdefault(row.number, BadRow(row.number, row.name, reason))
    return [bad[number] for number in sorted(bad)]


def examinations(planned: Planned, require_consent: bool) -> Iterator[Examination]:
    """What is to be looked at for a row."""
    drive = planned.drive
    for work in planned.works:
        if isinstance(work, ProcessWork):
            yield check_video, (work.video, work.options)
    if isinstance(drive.talker, Input):
        yield check_talker, (drive.talker, require_consent)
    if drive.audio is not None:
        yield check_audio, (drive.audio, drive.options.audio_track, drive.options.start)
    if drive.text is not None:
        yield check_voice, (drive.voice, any(letter.isalnum() for letter in drive.text))
    if drive.files:
        yield check_files, (tuple(drive.files.items()),)


def examined(function: Callable[..., None], arguments: tuple[Any, ...]) -> str | None:
    """What is wrong, in one line; None if nothing is."""
    with tempfile.TemporaryDirectory(prefix="gaussiantalker-check-") as folder:
        try:
            function(*arguments, Path(folder))
        # A file may be broken in ways that its reader has no word for.
        except Exception as error:
            return reason_of(error)
    return None


def check_video(video: Input, options: ProcessOptions, folder: Path) -> None:
    """Check that a video is long enough, has sound, and shows a face.

    Raises:
        ValueError: It is not, or does not.
    """
    from gaussiantalker_ns.preprocess.video.crop import parse_crop
    from gaussiantalker_ns.preprocess.video.extract import require_audio
    from gaussiantalker_ns.preprocess.video.scan import shows_face
    from gaussiantalker_ns.preprocess.video.take import check_duration
    from gaussiantalker_ns.timebase import FPS
    from gaussiantalker_ns.video.reader import ConstantFpsReader

    path, config = fetched(video, folder), options.settings(None).video_config
    grid = ConstantFpsReader(path)
    crop = parse_crop(config.crop, grid.width, grid.height)
    require_audio(path, config.audio_track)
    start = round(config.start * FPS)
    stop = None if config.end is None else round(config.end * FPS)
    enough = start + math.ceil(config.min_duration_s * FPS)
    # Counted, as not every file says how long it is.
    num_frames = sum(1 for _ in grid.frames(start, enough if stop is None else min(stop, enough)))
    check_duration(num_frames / FPS, path, config.min_duration_s)
    # Whoever names the part of the picture need not have a face that is found in the whole.
    if crop is None and not shows_face(grid, start, stop):
        raise ValueError(
            f"No face was found in {video.address}; expected one person who looks towards the"
            " camera. Choose another part with process.start and process.end, or name the part of"
            " the picture that shows the head with process.crop."
        )


def check_talker(talker: Input, require_consent: bool, folder: Path) -> None:
    """Check that a talker file is whole, and whose consent it has.

    Raises:
        ValueError: It is not, or has none and needs one.
    """
    from gaussiantalker_ns.inference.talker_file.reader import read_talker

    file = read_talker(fetched(talker, folder))
    if require_consent and file.description.consent is None:
        raise no_consent(file.path)


def check_audio(audio: Input, track: int | None, start: float, folder: Path) -> None:
    """Check that a recording has sound that can be decoded, beyond the wanted start.

    Raises:
        ValueError: It has not.
    """
    from gaussiantalker_ns.audio.read import read_audio
    from gaussiantalker_ns.timebase import SAMPLE_RATE_HZ

    path = fetched(audio, folder)
    duration_s = len(read_audio(path, track=track)) / SAMPLE_RATE_HZ
    if start >= duration_s:
        raise ValueError(
            f"drive.start is {start} s, but {audio.address} lasts {duration_s:.2f} s; expected a"
            " start before its end."
        )


def check_voice(voice: str, has_words: bool, folder: Path) -> None:
    """Check that there is a machine that speaks with a voice, and something to say.

    Raises:
        FileNotFoundError: There is no machine.
        ValueError: There is no such voice, or nothing to say.
    """
    from gaussiantalker_ns.audio.espeak import Voice, speak_to_file

    speak_to_file("one" if has_words else "", folder / "one.wav", Voice(voice))


def check_files(files: tuple[tuple[str, Input], ...], folder: Path) -> None:
    """Check the files that options of driving name.

    Raises:
        ValueError: One cannot be read.
    """
    from gaussiantalker_ns.inference.motion import read_blinks, read_poses
    from gaussiantalker_ns.inference.scene import read_background

    for option, source in files:
        path = fetched(source, folder / option)
        if option == "pose":
            read_poses(path, 1.0)
        elif option == "blink":
            read_blinks(path)
        else:
            read_background(str(path), 64)
