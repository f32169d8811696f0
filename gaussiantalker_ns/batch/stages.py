"""The work of every stage, as a worker does it: from a store, in a folder, into the store.

Heavy libraries are imported where they are used: a worker chooses its threads before.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gaussiantalker_ns.batch.inputs import Input, fetched
from gaussiantalker_ns.batch.plan import (
    DriveWork,
    EvaluateWork,
    MeasureWork,
    PackWork,
    ProcessWork,
    TrainWork,
)
from gaussiantalker_ns.batch.store import Store

if TYPE_CHECKING:
    from gaussiantalker_ns.inference.drive_job import DriveJob
    from gaussiantalker_ns.inference.talker import Talker

Facts = dict[str, Any]
"""What a record says of finished work, in terms of JSON."""


@dataclass(frozen=True)
class Settings:
    """What all workers are told."""

    threads: int = 1
    """CPU threads of each task."""
    part_frames: int = 1500
    """Frames of a video that one worker renders; longer videos are shared out."""
    require_consent: bool = False
    """Whether a talker without a statement of consent is refused."""


@dataclass(frozen=True)
class Split:
    """A video that is too long for one worker."""

    num_frames: int


@contextmanager
def _uncounted(name: str, total: int | None) -> Iterator[Any]:
    """A step of `process` without a progress bar."""
    print(name if total is None else f"{name} ({total})", flush=True)
    yield lambda done: None


def process(work: ProcessWork, store: Store, folder: Path, settings: Settings) -> Facts:
    """Turn a video into a data set; steps that an earlier attempt has finished are skipped."""
    from gaussiantalker_ns.preprocess.process_job import ProcessJob

    video = fetched(work.video, folder / "input")
    dataset = folder / "dataset"
    asked = work.options.settings(video, work.consent, settings.threads)
    done = ProcessJob(dataset, asked).run(_uncounted, lambda name: print(f"{name}: skipped"))
    talker = done.talker
    assert talker is not None, "all steps were asked for"
    store.put(dataset, f"datasets/{work.key}")
    warnings = [warning["title"] for warning in talker["warnings"]]
    return {"num_frames": talker["num_frames"], "warnings": warnings}


def train(work: TrainWork, store: Store, folder: Path, settings: Settings) -> Facts:
    """Train a talker from the beginning: what was begun elsewhere would not give the same."""
    from gaussiantalker_ns.engine.training import train_to_end

    data = store.get(f"datasets/{work.dataset}", folder / "input")
    shutil.rmtree(folder / "runs", ignore_errors=True)
    config: Any = work.options.config()
    config.data = config.pipeline.datamanager.data = data
    config.output_dir, config.experiment_name, config.timestamp = folder / "runs", work.key, "run"
    config.pipeline.num_threads = settings.threads
    # The next stage writes the talker file.
    config.pipeline.write_talker = False
    steps = config.max_num_iterations
    config.steps_per_save = steps
    config.steps_per_eval_batch = config.steps_per_eval_image = steps + 1
    config.steps_per_eval_all_images = steps + 1
    config.vis, config.logging.local_writer.enable = "tensorboard", False
    train_to_end(config, work.options.seed)
    store.put(config.get_base_dir(), f"runs/{work.key}")
    return {"method": config.method_name, "steps": steps}


def pack(work: PackWork, store: Store, folder: Path, settings: Settings) -> Facts:
    """Write the talker file of a run."""
    del settings
    from gaussiantalker_ns.inference.checkpoint import load_checkpoint
    from gaussiantalker_ns.inference.talker_file.pack import pack as write_talker

    data = store.get(f"datasets/{work.dataset}", folder / "input")
    run = store.get(f"runs/{work.run}", folder / "run")
    checkpoint = load_checkpoint(run / "config.yml", data)
    output = folder / f"{work.key}.talker"
    write_talker(checkpoint, output, work.options.options(), overwrite=True)
    num_bytes = output.stat().st_size
    store.put(output, f"talkers/{work.key}.talker")
    return {"megabytes": num_bytes / 1e6}


def evaluate(work: EvaluateWork, store: Store, folder: Path, settings: Settings) -> Facts:
    """Measure the held-out frames of a run."""
    del settings
    from gaussiantalker_ns.evaluation.evaluate import measure_run

    data = store.get(f"datasets/{work.dataset}", folder / "input")
    run = store.get(f"runs/{work.run}", folder / "run")
    found = measure_run(run / "config.yml", data)
    return {"metrics": found["metrics"], "not_measured": found["not_measured"]}


@lru_cache(maxsize=2)
def _loaded(path: str, version: str, threads: int) -> "Talker":
    """A talker, which the next tasks of this process find loaded."""
    del version
    from gaussiantalker_ns.engine.runtime import use_threads
    from gaussiantalker_ns.inference.talker import Talker

    talker = Talker.load(path)
    model: Any = talker.checkpoint.model
    use_threads(model.device, threads, model.head.runs_in_kernels)
    return talker


def _talker_of(work: DriveWork, store: Store, settings: Settings) -> "Talker":
    """The talker of a video."""
    kept = store.work_folder("talkers")
    if isinstance(work.talker, Input):
        path, version = fetched(work.talker, kept / work.talker.version), work.talker.version
    else:
        local = kept / f"{work.talker}.talker"
        path = local if local.exists() else store.get(f"talkers/{work.talker}.talker", kept)
        version = work.talker
    talker = _loaded(str(path), version, settings.threads)
    if settings.require_consent and talker.checkpoint.origin().consent is None:
        raise no_consent(path)
    return talker


def no_consent(talker: Path) -> ValueError:
    """The error for a talker whose person is not known to have agreed."""
    return ValueError(
        f"{talker} records no consent of the person shown, which --require-consent asks for;"
        " expected a talker of a video that was processed with a statement (`consent`). Record it"
        " and pack again."
    )


def _job_of(work: DriveWork, store: Store, folder: Path) -> "DriveJob":
    """The job that renders a video in a folder."""
    from gaussiantalker_ns.audio.espeak import Voice, speak_to_file
    from gaussiantalker_ns.inference.drive_job import DriveJob

    inputs = folder / "input"
    if work.audio is not None:
        audio = fetched(work.audio, inputs)
    else:
        assert work.text is not None, "a row has audio or text"
        spoken = f"parts/{work.key}/spoken.wav"
        if "spoken.wav" not in store.names(f"parts/{work.key}"):
            inputs.mkdir(parents=True, exist_ok=True)
            speak_to_file(work.text, inputs / "spoken.wav", Voice(work.voice))
            store.put(inputs / "spoken.wav", spoken)
        # Said once, so that all parts of a video hear the same.
        audio = store.get(spoken, inputs)
    named = {option: str(fetched(file, inputs / option)) for option, file in work.files.items()}
    options = work.options.with_files(named)
    return DriveJob(
        audio=audio,
        output=folder / f"{work.video_name}.mp4",
        motion=options.motion(),
        scene=options.scene(),
        start_s=options.start,
        end_s=options.end,
        overwrite=True,
        audio_track=options.audio_track,
    )


def drive(work: DriveWork, store: Store, folder: Path, settings: Settings) -> Facts | Split:
    """Render a video, or say how long it is if others are to help."""
    from gaussiantalker_ns.inference.drive_job import frames_in

    talker = _talker_of(work, store, settings)
    job = _job_of(work, store, folder)
    for notice in job.notices():
        print(notice, flush=True)
    num_frames = frames_in(job.driven(talker))
    if num_frames > settings.part_frames:
        return Split(num_frames)
    job.run(talker)
    return _finished_video(work, store, job, num_frames)


def drive_part(
    work: DriveWork, store: Store, folder: Path, settings: Settings, first: int, stop: int
) -> Facts:
    """Render some frames of a long video into segments, except those that are there."""
    parts, job = f"parts/{work.key}", _job_of(work, store, folder)
    wanted = set(job.segment_names(range(first, stop)))
    if not wanted <= store.names(parts):
        talker = _talker_of(work, store, settings)
        # A folder of its own, as other workers render other parts.
        made = folder / f"frames-{first:08d}"
        made.mkdir(parents=True, exist_ok=True)
        for path in job.write_segments(talker, job.driven(talker), range(first, stop), made):
            store.put(path, f"{parts}/{path.name}")
    return {"frames": [first, stop]}


def join(work: DriveWork, store: Store, folder: Path, settings: Settings, num_frames: int) -> Facts:
    """Put the segments of a long video together."""
    parts, job = f"parts/{work.key}", _job_of(work, store, folder)
    talker = _talker_of(work, store, settings)
    names = job.segment_names(range(num_frames))
    segments = [store.get(f"{parts}/{name}", folder / "segments") for name in names]
    job.join_segments(talker, segments, num_frames, folder)
    # Its time is that of the joining alone.
    return {**_finished_video(work, store, job, num_frames), "is_joined": True}


def _finished_video(work: DriveWork, store: Store, job: "DriveJob", num_frames: int) -> Facts:
    """Move a video to its place, with its record of origin and a picture of it."""
    from gaussiantalker_ns.files import resize, write_image
    from gaussiantalker_ns.metrics.frame_pairs import video_frames
    from gaussiantalker_ns.timebase import FPS

    output = job.output
    *_, picture = video_frames(output, min(num_frames, FPS))
    thumbnail = output.with_suffix(".jpg")
    write_image(thumbnail, resize(picture, THUMBNAIL_SIDE))
    sidecar = output.with_name(f"{output.name}.provenance.json")
    for path in (output, sidecar, thumbnail):
        store.put(path, f"videos/{path.name}")
    store.remove(f"parts/{work.key}")
    return {"num_frames": num_frames, "seconds_of_video": num_frames / FPS}


THUMBNAIL_SIDE = 160
"""Pixels of the picture in the report."""


def measure(work: MeasureWork, store: Store, folder: Path, settings: Settings) -> Facts:
    """Measure a driven video: how steady it is, and how its lips follow its own sound."""
    del settings
    from gaussiantalker_ns.audio.read import read_audio
    from gaussiantalker_ns.evaluation.evaluator import evaluate_driven
    from gaussiantalker_ns.metrics.frame_pairs import video_frames

    video = store.get(f"videos/{work.video_name}.mp4", folder / "input")
    found = evaluate_driven(video_frames(video), read_audio(video), None)
    return {"metrics": found.metrics}
