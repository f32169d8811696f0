"""Where the time of a driven video goes, from sound to encoded pictures.

With several threads the parts run side by side: they then add up to more than a frame takes.
"""

import json
import os
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from gaussiantalker_ns.inference.talker import Talker, TalkerStream

PARTS = ("features", "network", "rasterizer", "background", "compositing", "encoding")
"""Parts of the work in order; what is left of the wall time is `other`."""

WARM_UP_FRAMES = 25


@dataclass
class DriveBenchmarkConfig:
    """Drive a trained head by a recording and time the parts of the work."""

    load_config: Path
    """The run's config.yml, or a folder above it."""
    audio: Path
    """Speech of at least a few seconds."""
    sizes: tuple[int, ...] = (256, 512)
    """Sides of the frames in pixels; each is measured by itself."""
    threads: tuple[int, ...] = (1, 2)
    """Numbers of CPU threads; each is measured by itself. GPUs ignore it."""
    num_frames: int = 150
    """Frames that are timed, after `WARM_UP_FRAMES`."""
    output: Path | None = None
    """JSON file for the figures."""


@dataclass
class Stopwatch:
    """Adds up the seconds that wrapped functions take by themselves; GPUs are waited for."""

    device: str
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(PARTS, 0.0))
    _inside: threading.local = field(default_factory=threading.local)

    def reset(self) -> None:
        """Begin anew."""
        self.seconds.update(dict.fromkeys(PARTS, 0.0))

    def now(self) -> float:
        """The time, after all work so far."""
        if self.device.startswith("cuda"):
            import torch

            torch.cuda.synchronize()
        return time.perf_counter()

    def wrapped(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function with its time counted as a part's."""

        def timed(*args: Any, **kwargs: Any) -> Any:
            outer = getattr(self._inside, "seconds", 0.0)
            self._inside.seconds = 0.0
            start = self.now()
            result = function(*args, **kwargs)
            passed = self.now() - start
            self.seconds[part] += passed - self._inside.seconds
            self._inside.seconds = outer + passed
            return result

        return timed


def watch_stream(stream: "TalkerStream", watch: Stopwatch) -> "TalkerStream":
    """Time the parts of a stream; the network and the rasterizer are the model's."""
    renderer: Any = stream._renderer
    stream.push_audio = watch.wrapped("features", stream.push_audio)
    renderer._compose = watch.wrapped("compositing", renderer._compose)
    renderer._paint = watch.wrapped("compositing", renderer._paint)
    renderer._behind._prepare = watch.wrapped("background", renderer._behind._prepare)
    return stream


def measure(talker: "Talker", config: DriveBenchmarkConfig, size: int) -> dict[str, float]:
    """Frames per second and milliseconds per frame of every part, at one size."""
    from gaussiantalker_ns.audio.read import read_audio
    from gaussiantalker_ns.inference.scene import Scene
    from gaussiantalker_ns.inference.video_writer import SegmentWriter
    from gaussiantalker_ns.kernels.compile import num_threads
    from gaussiantalker_ns.timebase import SAMPLES_PER_FRAME

    model: Any = talker.checkpoint.model
    watch = Stopwatch(str(model.device))
    # The recording is heard again and again until there are enough frames.
    wanted = range((WARM_UP_FRAMES + config.num_frames) * SAMPLES_PER_FRAME)
    samples = read_audio(config.audio).take(wanted, mode="wrap")
    stream: Any = talker.stream
    setattr(talker, "stream", lambda *args: watch_stream(stream(*args), watch))  # noqa: B010
    model.deformed_gaussians = watch.wrapped("network", model.deformed_gaussians)
    model.splat = watch.wrapped("rasterizer", model.splat)
    started = cpu = 0.0
    try:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "talk.mp4"
            with SegmentWriter(path, size, size, in_thread=num_threads() > 1) as writer:
                writer._encode = watch.wrapped("encoding", writer._encode)
                frames = talker.render(samples, scene=Scene(size=size), gain=1.0)
                for index, frame in enumerate(frames):
                    if index == WARM_UP_FRAMES:
                        watch.reset()
                        started, cpu = watch.now(), time.process_time()
                    writer.write(frame)
            wall, cpu = watch.now() - started, time.process_time() - cpu
    finally:
        del model.deformed_gaussians, model.splat, talker.stream
    milliseconds = {part: 1e3 * watch.seconds[part] / config.num_frames for part in PARTS}
    total = 1e3 * wall / config.num_frames
    other = max(total - sum(milliseconds.values()), 0.0)
    cpu_milliseconds = 1e3 * cpu / config.num_frames
    return {"fps": 1e3 / total, **milliseconds, "other": other, "cpu": cpu_milliseconds}


def run_drive(config: DriveBenchmarkConfig) -> None:
    """Measure every case, print the table, write the JSON file."""
    from gaussiantalker_ns.engine.runtime import use_threads
    from gaussiantalker_ns.inference.talker import Talker

    talker = Talker.load(config.load_config)
    model: Any = talker.checkpoint.model
    device = model.device
    rows = []
    for threads in config.threads:
        use_threads(device, threads, model.head.runs_in_kernels)
        for size in config.sizes:
            figures = measure(talker, config, size)
            rows.append({"pixels": size, "threads": threads, **figures})
    load = os.getloadavg()[0]
    table = Table(title=f"Driving on {device}, ms a frame, load {load:.1f}", title_justify="left")
    for header in ("pixels", "threads", "frames/s", *PARTS, "other", "cpu"):
        table.add_column(header, justify="right")
    for row in rows:
        times = (f"{row[part]:.1f}" for part in (*PARTS, "other", "cpu"))
        table.add_row(str(row["pixels"]), str(row["threads"]), f"{row['fps']:.1f}", *times)
    Console(width=130).print(table)
    if config.output is not None:
        config.output.write_text(json.dumps(rows, indent=2) + "\n")
