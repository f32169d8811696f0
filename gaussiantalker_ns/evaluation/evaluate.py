"""The job of `gaussiantalker evaluate` in three forms: own audio, another recording, two videos."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from gaussiantalker_ns.audio.read import audio_offset, read_audio
from gaussiantalker_ns.evaluation.cost import (
    load_average,
    size_values,
    speed_values,
    training_minutes,
)
from gaussiantalker_ns.evaluation.evaluator import (
    Evaluation,
    Metrics,
    evaluate_driven,
    evaluate_pairs,
)
from gaussiantalker_ns.evaluation.options import Config, results_folder
from gaussiantalker_ns.evaluation.report.figures import MouthStrip, spread_frames
from gaussiantalker_ns.evaluation.report.page import Images
from gaussiantalker_ns.evaluation.report.phoneme_alignment import frames_of_speech, read_alignment
from gaussiantalker_ns.evaluation.report.tables import as_json
from gaussiantalker_ns.evaluation.report.writer import (
    DrivenRecorder,
    PairRecorder,
    Videos,
    paper_images,
    remove_images,
    video_uri,
    write_page,
    write_tables,
)
from gaussiantalker_ns.evaluation.run import (
    TrainedRun,
    about_talker,
    audio_of,
    load_run,
    real_jitter,
    speaker_of,
    split_pairs,
)
from gaussiantalker_ns.files import sha256_of
from gaussiantalker_ns.folder_lock import OwnerLock
from gaussiantalker_ns.inference.checkpoint import LoadedCheckpoint, find_config
from gaussiantalker_ns.inference.talker import Talker
from gaussiantalker_ns.inference.trained_talker import TrainedTalker, is_talker_file, load_trained
from gaussiantalker_ns.inference.video_writer import AudioTrack
from gaussiantalker_ns.metrics.aue import ExternalMetrics
from gaussiantalker_ns.metrics.frame_pairs import count_frames, video_pairs
from gaussiantalker_ns.metrics.lmd import FanDistance
from gaussiantalker_ns.metrics.registry import NotMeasured
from gaussiantalker_ns.timebase import FPS, SAMPLES_PER_FRAME, num_frames_of

NUM_MOUTHS = 10
"""Mouth shapes in the strip."""


@dataclass(frozen=True)
class Done:
    """A finished evaluation."""

    result: Evaluation
    title: str
    subtitle: str
    written: list[Path]
    """What to look at."""


def measure_run(config_path: Path, data: Path | None) -> dict[str, Any]:
    """Measure the held-out frames of a run; see `evaluate.measure`."""
    run = load_run(config_path, data)
    metrics = Metrics.find(run.model.device)
    pairs = split_pairs(run, "test", None)
    result = evaluate_pairs(pairs, metrics, samples=audio_of(run.audio))
    about = about_talker(run.checkpoint)
    add_cost(result, run.checkpoint, about, speed=False)
    return as_json(result, about)


def add_cost(result: Evaluation, talker: TrainedTalker, about: dict[str, Any], speed: bool) -> None:
    """Add training time, size and, if wanted, speed, with how busy the machine was before it."""
    result.add(size_values(talker.model, talker.path))
    try:
        if not isinstance(talker, LoadedCheckpoint):
            raise NotMeasured("needs the run: a talker file does not say how long it was trained")
        minutes = training_minutes(talker.config_path.parent)
        result.add({"training_minutes": minutes})
    except NotMeasured as reason:
        result.not_measured["training_minutes"] = str(reason)
    if speed:
        # The load of the minute before; this command's own share is about one core.
        about["load_average"] = load_average()
        result.add(speed_values(talker))
    result.finish()


def evaluate(config: Config) -> Done:
    """Do what the command line asks for and write the files, as their folder's owner.

    Raises:
        FileNotFoundError: Something that was named is not there.
        InUseError: Another command works in the folder.
        ValueError: Something cannot be used; the message says what to do.
    """
    folder = results_folder(config)
    with OwnerLock.of_folder(folder):
        if config.videos is not None:
            return compare_videos(config, config.videos, folder)
        named = config.named
        assert named is not None, "the config checks it"
        if config.audio is not None and is_talker_file(named):
            talker = load_trained(named, config.data)
            return drive(config, talker, config.audio, folder, None)
        run = load_run(find_config(named), config.data)
        if config.audio is not None:
            jitter = real_jitter(run, config.max_frames)
            return drive(config, run.checkpoint, config.audio, folder, jitter)
        return drive_by_own_audio(config, run, folder)


def drive_by_own_audio(config: Config, run: TrainedRun, folder: Path) -> Done:
    """Compare the frames of a split with the real ones."""
    split = config.split
    frames = run.datasets[split].frames[: config.max_frames]
    audio = None if run.audio is None else AudioTrack(run.audio, frames[0] / FPS)
    title = f"{run.checkpoint.method}, step {run.checkpoint.step}"
    subtitle = f"{len(frames)} {split} frames, driven by their own audio"
    about = {**about_talker(run.checkpoint), "split": split, "driven_by": "its own audio"}
    metrics = Metrics.find(run.model.device, config.csim_model)
    mouths = MouthStrip(mouth_labels(config, frames))
    with Videos(folder) as videos:
        recorder = PairRecorder(videos, mouths) if config.images else None
        result = evaluate_pairs(
            split_pairs(run, split, config.max_frames),
            metrics,
            None if recorder is None else recorder.watch,
            audio_of(run.audio),
            ExternalMetrics(config.openface_csv, config.sync),
        )
        add_cost(result, run.checkpoint, about, config.speed)
        titles = title, subtitle
        written = finish(config, folder, result, about, titles)
        if recorder is not None:
            paper = paper_images(run, frames[len(frames) // 2])
            written += finish_pairs(folder, result, about, titles, recorder, audio, paper)
    return Done(result, title, subtitle, written)


def compare_videos(config: Config, paths: tuple[Path, Path], folder: Path) -> Done:
    """Compare two videos that show the same frames."""
    rendered, real = paths
    pairs = video_pairs(rendered, real, config.max_frames)
    first = next(pairs)
    pairs = chain([first], pairs)
    about = {"render": rendered.name, "truth": real.name, "image_size": len(first.real)}
    source = next((path for path in (real, rendered) if audio_of(path) is not None), None)
    audio = None if source is None else AudioTrack(source, audio_offset(source))
    metrics = Metrics.find("cpu", config.csim_model)
    mouths = MouthStrip({})
    if config.images:
        mouths = MouthStrip(mouth_labels(config, range(count_frames(rendered, config.max_frames))))
    with Videos(folder) as videos:
        recorder = PairRecorder(videos, mouths, separate_videos=False) if config.images else None
        result = evaluate_pairs(
            pairs,
            metrics,
            None if recorder is None else recorder.watch,
            audio_of(source),
            ExternalMetrics(config.openface_csv, config.sync),
        )
        titles = rendered.name, f"{len(result.frames)} frames, compared with {real.name}"
        written = finish(config, folder, result, about, titles)
        if recorder is not None:
            written += finish_pairs(folder, result, about, titles, recorder, audio, {})
    return Done(result, *titles, written)


def drive(
    config: Config,
    talker: TrainedTalker,
    audio: Path,
    folder: Path,
    jitter: float | None,
) -> Done:
    """Let the head speak another recording; there is no real frame to compare with."""
    samples = read_audio(audio)
    if config.max_frames is not None:
        samples = samples[: config.max_frames * SAMPLES_PER_FRAME]
    title = f"{talker.method}, step {talker.step}"
    subtitle = f"{num_frames_of(len(samples))} frames, driven by {audio.name}"
    about = {**about_talker(talker), "driven_by": audio.name, "audio_sha256": sha256_of(audio)}
    speaker = speaker_of(audio, talker.model.background.layers.size)
    fan, not_measured = find_fan(talker, has_speaker=speaker is not None)
    with Videos(folder) as videos:
        recorder = DrivenRecorder(videos, speaker is not None)
        result = evaluate_driven(
            Talker(talker).render(samples),
            samples,
            jitter,
            ExternalMetrics(config.openface_csv, config.sync),
            speaker,
            fan,
            recorder.watch if config.images else None,
        )
        result.not_measured.update(not_measured)
        add_cost(result, talker, about, config.speed)
        titles = title, subtitle
        written = finish(config, folder, result, about, titles)
        if config.images:
            paths = videos.finish(AudioTrack(audio, audio_offset(audio)))
            images = Images(video_uri(paths["comparison"]), recorder.columns)
            write_page(folder, result, about, titles, images, {})
            written.append(folder / "evaluation.html")
    return Done(result, title, subtitle, written)


def find_fan(talker: TrainedTalker, has_speaker: bool) -> tuple[FanDistance | None, dict[str, str]]:
    """The detector of LMD, or why there is none."""
    if not has_speaker:
        return None, {"lmd": "needs a recording that shows its speaker: give a video to --audio"}
    try:
        return FanDistance.load(talker.model.device), {}
    except NotMeasured as reason:
        return None, {"lmd": str(reason)}


def mouth_labels(config: Config, frames: Sequence[int]) -> dict[int, str]:
    """Frame -> caption of its mouth in the strip: what is spoken, else the time."""
    if config.alignment is None:
        chosen = spread_frames(frames, NUM_MOUTHS)
        return {frame: f"{frame / FPS:.2f} s" for frame in chosen}
    found = frames_of_speech(read_alignment(config.alignment), frames, NUM_MOUTHS)
    if not found:
        first, last = frames[0] / FPS, frames[-1] / FPS
        raise ValueError(
            f"{config.alignment} names nothing between {first:.2f} and {last:.2f} s, the frames"
            " that are measured; expected times in seconds from the start of the whole clip."
        )
    return found


def finish(
    config: Config,
    folder: Path,
    result: Evaluation,
    about: dict[str, Any],
    titles: tuple[str, str],
) -> list[Path]:
    """Write the tables; without new pictures, those of an earlier evaluation go."""
    if not config.images:
        remove_images(folder, [*(config.videos or ()), *([config.audio] if config.audio else [])])
    write_tables(folder, result, about, titles)
    return [folder / f"evaluation.{suffix}" for suffix in ("json", "md")]


def finish_pairs(
    folder: Path,
    result: Evaluation,
    about: dict[str, Any],
    titles: tuple[str, str],
    recorder: PairRecorder,
    audio: AudioTrack | None,
    paper: dict[str, UInt8[np.ndarray, "_ _ 3"]],
) -> list[Path]:
    """Write the videos and the page of a comparison."""
    paths = recorder.videos.finish(audio)
    strip = recorder.mouths.picture()
    if strip is not None:
        paper = {"mouths": strip, **paper}
    images = Images(video_uri(paths["comparison"]), worst=recorder.worst_frames())
    write_page(folder, result, about, titles, images, paper)
    return [folder / "evaluation.html"]
