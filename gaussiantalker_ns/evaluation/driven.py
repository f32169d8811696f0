"""Driving by other recordings: how a head speaks voices that it was not trained on."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table
from rich.text import Text

from gaussiantalker_ns.audio.read import audio_offset, read_audio
from gaussiantalker_ns.evaluation.evaluator import Evaluation, evaluate_driven
from gaussiantalker_ns.evaluation.options import Config, recording_folder, results_folder
from gaussiantalker_ns.evaluation.report.page import Images
from gaussiantalker_ns.evaluation.report.tables import markdown_cell, markdown_table
from gaussiantalker_ns.evaluation.report.writer import (
    DrivenRecorder,
    Videos,
    video_uri,
    write_page,
)
from gaussiantalker_ns.evaluation.results import Done, add_cost, finish
from gaussiantalker_ns.evaluation.run import about_talker, load_run, real_jitter, speaker_of
from gaussiantalker_ns.files import sha256_of, write_text
from gaussiantalker_ns.folder_lock import OwnerLock
from gaussiantalker_ns.inference.checkpoint import find_config
from gaussiantalker_ns.inference.talker import Talker
from gaussiantalker_ns.inference.trained_talker import TrainedTalker, is_talker_file, load_trained
from gaussiantalker_ns.inference.video_writer import AudioTrack
from gaussiantalker_ns.metrics.aue import ExternalMetrics
from gaussiantalker_ns.metrics.lmd import FanDistance
from gaussiantalker_ns.metrics.registry import NotMeasured, shown
from gaussiantalker_ns.timebase import SAMPLES_PER_FRAME, num_frames_of

RECORDING_COLUMNS = (
    ("opening r", "lips_open_correlation"),
    ("... best lag", "lips_open_correlation_lagged"),
    ("width r", "lips_width_correlation"),
    ("... best lag", "lips_width_correlation_lagged"),
    ("opening std", "lips_open_amplitude"),
    ("lip lag, ms", "lips_lag_ms"),
    ("audio-lip r", "audio_lip_correlation"),
)
"""What is compared between recordings; all but the last need recordings that show their speaker."""


@dataclass(frozen=True)
class Spoken:
    """One recording, as the head spoke it."""

    audio: Path
    folder: Path
    """Where its own results lie."""
    result: Evaluation


def title_of(talker: TrainedTalker) -> str:
    """What a talker is called in tables."""
    return f"{talker.method}, step {talker.step}"


def drive_by_others(config: Config) -> Done:
    """Let the head speak each of some recordings; several of them get a joint table, too.

    Raises:
        FileNotFoundError: The talker or a recording is not there.
        InUseError: Another command works in a folder of the results.
        ValueError: Something cannot be used.
    """
    folder = results_folder(config)
    with OwnerLock.of_folder(folder):
        talker, jitter = load_driven(config)
        if len(config.audio) == 1:
            return drive(config, talker, config.audio[0], folder, jitter, config.speed)[1]
        spoken = []
        for audio in config.audio:
            own = recording_folder(config, audio)
            with OwnerLock.of_folder(own):
                # Speed does not depend on who speaks: once is enough.
                speed = config.speed and not spoken
                result, _ = drive(config, talker, audio, own, jitter, speed)
            spoken.append(Spoken(audio, own, result))
        return finish_several(talker, spoken, folder)


def load_driven(config: Config) -> tuple[TrainedTalker, float | None]:
    """The talker, and the jitter of its real held-out frames where it has some."""
    named = config.named
    assert named is not None, "the config checks it"
    if is_talker_file(named):
        return load_trained(named, config.data), None
    run = load_run(find_config(named), config.data)
    return run.checkpoint, real_jitter(run, config.max_frames)


def finish_several(talker: TrainedTalker, spoken: Sequence[Spoken], folder: Path) -> Done:
    """Write the joint table of several recordings, with the means of what all of them have."""
    title = f"{title_of(talker)}, driven by {len(spoken)} recordings"
    means = mean_values([one.result.metrics for one in spoken])
    rows = [(one.audio.name, len(one.result.frames), one.result.metrics) for one in spoken]
    table = Table(title=Text(title), title_justify="left")
    table.add_column("recording")
    for name in ("frames", *(name for name, _ in RECORDING_COLUMNS)):
        table.add_column(name, justify="right")
    for name, count, values in rows:
        table.add_row(Text(name), str(count), *cells_of(values))
    table.add_section()
    table.add_row("mean", str(sum(count for _, count, _ in rows)), *cells_of(means))

    header = ["recording", "frames", *(name for name, _ in RECORDING_COLUMNS)]
    lines = [[markdown_cell(name), str(count), *cells_of(values)] for name, count, values in rows]
    lines.append(["**mean**", "", *cells_of(means)])
    text = f"{markdown_cell(title)}.\n\n{markdown_table(header, lines)}"
    entries = [
        {
            "recording": one.audio.name,
            "frames": len(one.result.frames),
            "folder": one.folder.name,
            "metrics": one.result.metrics,
            "not_measured": one.result.not_measured,
        }
        for one in spoken
    ]
    content: dict[str, Any] = {**about_talker(talker), "recordings": entries, "mean": means}
    write_text(folder / "recordings.json", json.dumps(content, indent=2) + "\n")
    write_text(folder / "recordings.md", text)
    written = [folder / "recordings.json", folder / "recordings.md"]
    pages = [one.folder / "evaluation.html" for one in spoken]
    written += [page for page in pages if page.is_file()]
    # What several recordings lack for one reason is said once.
    reasons = {one.result.not_measured.get(key) for one in spoken for _, key in RECORDING_COLUMNS}
    return Done(table, sorted(reason for reason in reasons if reason), written)


def mean_values(metrics: Sequence[dict[str, float]]) -> dict[str, float]:
    """Means over the recordings of the columns that every one of them has."""
    keys = [key for _, key in RECORDING_COLUMNS if all(key in values for values in metrics)]
    return {key: float(np.mean([values[key] for values in metrics])) for key in keys}


def cells_of(values: dict[str, float]) -> list[str]:
    """The columns of a recording's row."""
    return [shown(key, values.get(key)) for _, key in RECORDING_COLUMNS]


def drive(
    config: Config,
    talker: TrainedTalker,
    audio: Path,
    folder: Path,
    jitter: float | None,
    speed: bool,
) -> tuple[Evaluation, Done]:
    """Let the head speak another recording; there is no real frame to compare with."""
    samples = read_audio(audio)
    if config.max_frames is not None:
        samples = samples[: config.max_frames * SAMPLES_PER_FRAME]
    titles = title_of(talker), f"{num_frames_of(len(samples))} frames, driven by {audio.name}"
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
        add_cost(result, talker, about, speed)
        written = finish(config, folder, result, about, titles)
        if config.images:
            paths = videos.finish(AudioTrack(audio, audio_offset(audio)))
            images = Images(video_uri(paths["comparison"]), recorder.columns)
            write_page(folder, result, about, titles, images, {})
            written.append(folder / "evaluation.html")
    return result, Done.of(result, titles, written)


def find_fan(talker: TrainedTalker, has_speaker: bool) -> tuple[FanDistance | None, dict[str, str]]:
    """The detector of LMD, or why there is none."""
    if not has_speaker:
        return None, {"lmd": "needs a recording that shows its speaker: give a video to --audio"}
    try:
        return FanDistance.load(talker.model.device), {}
    except NotMeasured as reason:
        return None, {"lmd": str(reason)}
