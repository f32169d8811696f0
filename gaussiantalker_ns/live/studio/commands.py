"""What the jobs run: argument lists of `process`, `ns-train`, `pack` and `drive`."""

import re
from pathlib import Path

from gaussiantalker_ns.live.studio.jobs import Step
from gaussiantalker_ns.live.studio.projects import Project
from gaussiantalker_ns.live.studio.settings import StudioSettings, Training

PROGRESS = "progress.json"
"""Name of the progress file in the folder of a job."""

RUN = "run"
"""The time stamp of every training, so that one that goes on finds its folder."""

CHECKPOINT = re.compile(r"step-(\d{1,9})\.ckpt")

CHECKPOINTS_A_TRAINING = 12
"""How often a training is saved: what a power cut costs."""

NO_FULL_EVALUATION = 10**9
"""Steps between measurements of all held-out frames; the page shows single pictures instead."""


def process_steps(settings: StudioSettings, project: Project) -> list[Step]:
    """Make the data set of a project, or go on with it."""
    video = project.video
    assert video is not None, "a video was looked at before"
    argv = (
        *settings.gaussiantalker,
        "process",
        f"--video={video}",
        f"--output-dir={project.data}",
        f"--consent={project.description.consent}",
        f"--progress-file={project.process_job.folder / PROGRESS}",
    )
    return [Step("process", argv)]


def run_folder(project: Project, training: Training) -> Path:
    """Where `ns-train` writes a run."""
    return project.training / project.slug / training.method / RUN


def next_step(run: Path) -> int:
    """The step with which a training goes on: after its newest checkpoint, or 0.

    Example: a folder with `nerfstudio_models/step-000000199.ckpt` gives 200.
    """
    names = (path.name for path in (run / "nerfstudio_models").glob("step-*.ckpt"))
    found = [CHECKPOINT.fullmatch(name) for name in names]
    return max((int(match[1]) + 1 for match in found if match), default=0)


def train_steps(
    settings: StudioSettings, project: Project, training: Training, talker: Path
) -> list[Step]:
    """Train a project, or go on with its training, and pack its talker.

    Args:
        settings: The studio's.
        project: The project.
        training: The quality.
        talker: The talker file to write.
    """
    run = run_folder(project, training)
    first = next_step(run)
    steps = []
    if first < training.num_steps:
        steps.append(Step("train", train_command(settings, project, training, first)))
    pack = (
        *settings.gaussiantalker,
        "pack",
        f"--load-config={run / 'config.yml'}",
        f"--output={talker}",
        "--overwrite",
    )
    return [*steps, Step("pack", pack)]


def train_command(
    settings: StudioSettings, project: Project, training: Training, first: int
) -> tuple[str, ...]:
    """The training from a step on."""
    # A resumed trainer runs this many more steps.
    left = training.num_steps - first
    run = run_folder(project, training)
    return (
        *settings.ns_train,
        training.method,
        f"--data={project.data}",
        f"--output-dir={project.training}",
        f"--experiment-name={project.slug}",
        f"--timestamp={RUN}",
        "--vis=tensorboard",
        f"--max-num-iterations={left}",
        f"--steps-per-save={max(training.num_steps // CHECKPOINTS_A_TRAINING, 1)}",
        f"--steps-per-eval-image={training.picture_steps}",
        f"--steps-per-eval-batch={NO_FULL_EVALUATION}",
        f"--steps-per-eval-all-images={NO_FULL_EVALUATION}",
        f"--pipeline.canonical-steps={training.canonical_steps}",
        f"--pipeline.progress-dir={project.train_job.folder}",
        "--pipeline.write-talker=False",
        *training.options,
        *((f"--load-dir={run / 'nerfstudio_models'}",) if first else ()),
    )


def drive_steps(
    settings: StudioSettings, folder: Path, talker: Path, audio: Path | None, text: str | None
) -> list[Step]:
    """Make a talker speak a recording or a text.

    Args:
        settings: The studio's.
        folder: The folder of the job, where the video is written.
        talker: Who speaks.
        audio: The recording, or None.
        text: The text, where there is no recording.
    """
    said = f"--audio={audio}" if audio is not None else f"--text={text}"
    argv = (
        *settings.gaussiantalker,
        "drive",
        f"--talker={talker}",
        said,
        f"--output={folder / 'video.mp4'}",
        f"--progress-file={folder / PROGRESS}",
    )
    return [Step("drive", argv)]
