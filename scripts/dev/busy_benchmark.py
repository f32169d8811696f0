"""What driving and training keep of their speed while another program takes one core.

OpenMP's threads by default spin while they wait for each other, so that a thread whose core is
taken holds up all the others. Nothing is to be set against it from outside: the variables that
could are refused, and the driven video and the training run as in anybody's Python program.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.table import Table

OPENMP_SETTINGS = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME", "OMP_NUM_THREADS")
"""Environment variables that would decide what is measured."""

SPIN = "while True: pass"


@dataclass
class BusyBenchmarkConfig:
    """Measure in turn on a quiet machine and beside a program that keeps one core busy."""

    load_config: Path
    """The run's config.yml, or a folder above it: what is driven."""
    audio: Path
    """Speech of at least a few seconds."""
    data: Path
    """Data set on which `gaussiantalker-cpu` is trained for a while."""
    seconds: float = 5.0
    """Length of each measurement."""
    rounds: int = 3
    """How often quiet and busy come in turn."""
    threads: int | None = None
    """CPU threads; None takes all cores, also for a run that was trained with fewer."""
    works: tuple[Literal["drive", "training"], ...] = ("drive", "training")
    """What is measured."""
    output: Path | None = None
    """JSON file for the figures."""


@contextmanager
def spinning_program() -> Iterator[None]:
    """Another program, in a session of its own, that keeps one core busy."""
    spinning = subprocess.Popen([sys.executable, "-c", SPIN], start_new_session=True)
    try:
        time.sleep(0.2)
        yield
    finally:
        spinning.kill()
        spinning.wait()


def rate(work: Callable[[], int], seconds: float) -> float:
    """How much work is done in a second; `work` does a little and returns how much."""
    done, start = 0, time.perf_counter()
    while (passed := time.perf_counter() - start) < seconds:
        done += work()
    return done / passed


def in_turn(work: Callable[[], int], config: BusyBenchmarkConfig) -> dict[str, list[float]]:
    """Work a second, quiet and busy in turn, after a warm-up."""
    rate(work, min(config.seconds, 2.0))
    rates: dict[str, list[float]] = {"quiet": [], "busy": []}
    for _ in range(config.rounds):
        rates["quiet"].append(rate(work, config.seconds))
        with spinning_program():
            rates["busy"].append(rate(work, config.seconds))
    return rates


@contextmanager
def driving(config: BusyBenchmarkConfig, folder: Path) -> Iterator[Callable[[], int]]:
    """Drive the head from sound to an encoded video, a frame at a time."""
    from gaussiantalker_ns.audio.read import read_audio
    from gaussiantalker_ns.engine.runtime import use_threads
    from gaussiantalker_ns.inference.talker import Talker
    from gaussiantalker_ns.inference.video_writer import SegmentWriter
    from gaussiantalker_ns.kernels.compile import num_threads

    talker = Talker.load(config.load_config)
    model: Any = talker.checkpoint.model
    use_threads(model.device, config.threads, model.head.runs_in_kernels)
    # An hour, more than is rendered: the recording again and again.
    samples = read_audio(config.audio).take(range(3600 * 16_000), mode="wrap")
    frames: Any = talker.render(samples, gain=1.0)
    first = next(frames)
    size = first.shape[1], first.shape[0]
    with (
        closing(frames),
        SegmentWriter(folder / "talk.mp4", *size, in_thread=num_threads() > 1) as writer,
    ):

        def render_and_encode() -> int:
            writer.write(next(frames))
            return 1

        yield render_and_encode


def training(config: BusyBenchmarkConfig) -> Callable[[], int]:
    """Train the deformation stage, a step at a time."""
    from gaussiantalker_ns.scripts.dev.profile_training import ProfileTraining, train_step

    trainer = ProfileTraining(config.data, num_threads=config.threads).build("deformation")
    steps, batch = count(), trainer.pipeline.datamanager.batch_size

    def step() -> int:
        train_step(trainer, next(steps))
        return batch

    return step


def kept(rates: dict[str, list[float]]) -> float:
    """The fraction of the quiet speed that is left beside the other program."""
    return sum(rates["busy"]) / sum(rates["quiet"])


def run_busy(config: BusyBenchmarkConfig) -> None:
    """Measure both, print the table, write the JSON file."""
    found = [name for name in OPENMP_SETTINGS if name in os.environ]
    if found:
        raise ValueError(
            f"{' and '.join(found)} is set, which decides what is measured here; expected none of"
            f" {', '.join(OPENMP_SETTINGS)}. Give the command as `env -u {found[0]} python ...`."
        )
    results = {}
    if "drive" in config.works:
        with (
            tempfile.TemporaryDirectory() as folder,
            driving(config, Path(folder)) as render_and_encode,
        ):
            results["drive"] = in_turn(render_and_encode, config)
    if "training" in config.works:
        results["training, deformation stage"] = in_turn(training(config), config)
    load = os.getloadavg()[0]
    table = Table(title=f"Frames a second, load {load:.1f}", title_justify="left")
    for header in ("work", "quiet", "beside a busy program", "kept"):
        table.add_column(header, justify="right")
    for name, rates in results.items():
        columns = (", ".join(f"{rate:.1f}" for rate in rates[kind]) for kind in ("quiet", "busy"))
        table.add_row(name, *columns, f"{100 * kept(rates):.0f} %")
    Console(width=110).print(table)
    if config.output is not None:
        config.output.write_text(json.dumps(results, indent=2) + "\n")
