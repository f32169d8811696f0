"""The job of `gaussiantalker evaluate` in three forms: own audio, other recordings, two videos."""

from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from gaussiantalker_ns.audio.read import audio_offset
from gaussiantalker_ns.evaluation.driven import drive_by_others
from gaussiantalker_ns.evaluation.evaluator import (
    Evaluation,
    Metrics,
    evaluate_pairs,
)
from gaussiantalker_ns.evaluation.options import Config, results_folder
from gaussiantalker_ns.evaluation.report.figures import MouthStrip, spread_frames
from gaussiantalker_ns.evaluation.report.page import Images
from gaussiantalker_ns.evaluation.report.phoneme_alignment import frames_of_speech, read_alignment
from gaussiantalker_ns.evaluation.report.tables import as_json
from gaussiantalker_ns.evaluation.report.writer import (
    PairRecorder,
    Videos,
    paper_images,
    video_uri,
    write_page,
)
from gaussiantalker_ns.evaluation.results import Done, add_cost, finish
from gaussiantalker_ns.evaluation.run import (
    TrainedRun,
    about_talker,
    audio_of,
    load_run,
    split_pairs,
)
from gaussiantalker_ns.folder_lock import OwnerLock
from gaussiantalker_ns.inference.checkpoint import find_config
from gaussiantalker_ns.inference.video_writer import AudioTrack
from gaussiantalker_ns.metrics.aue import ExternalMetrics
from gaussiantalker_ns.metrics.frame_pairs import count_frames, video_pairs
from gaussiantalker_ns.timebase import FPS

NUM_MOUTHS = 10
"""Mouth shapes in the strip."""


def measure_run(config_path: Path, data: Path | None) -> dict[str, Any]:
    """Measure the held-out frames of a run; see `evaluate.measure`."""
    run = load_run(config_path, data)
    metrics = Metrics.find(run.model.device)
    pairs = split_pairs(run, "test", None)
    result = evaluate_pairs(pairs, metrics, samples=audio_of(run.audio))
    about = about_talker(run.checkpoint)
    add_cost(result, run.checkpoint, about, speed=False)
    return as_json(result, about)


def evaluate(config: Config) -> Done:
    """Do what the command line asks for and write the files, as their folder's owner.

    Raises:
        FileNotFoundError: Something that was named is not there.
        InUseError: Another command works in the folder.
        ValueError: Something cannot be used; the message says what to do.
    """
    if config.audio:
        return drive_by_others(config)
    folder = results_folder(config)
    with OwnerLock.of_folder(folder):
        if config.videos is not None:
            return compare_videos(config, config.videos, folder)
        assert config.named is not None, "the config checks it"
        return drive_by_own_audio(config, load_run(find_config(config.named), config.data), folder)


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
    return Done.of(result, titles, written)


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
    return Done.of(result, titles, written)


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
