"""Where the time of a driven video goes: features, network, rasterizer, compositing, encoding."""

import json
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from gaussiantalker_ns.inference.talker import Talker

PARTS = ("features", "network", "rasterizer", "compositing", "encoding")
"""Parts of the work in order; what is left of the wall time is `other`."""


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
    """Frames that are timed, after 25 that warm everything up."""
    output: Path | None = None
    """JSON file for the figures."""


@dataclass
class Stopwatch:
    """Adds up the seconds that wrapped functions take; GPUs are waited for."""

    device: str
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(PARTS, 0.0))

    def now(self) -> float:
        """The time, after all work so far."""
        if self.device.startswith("cuda"):
            import torch

            torch.cuda.synchronize()
        return time.perf_counter()

    def wrapped(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function with its time counted as a part's."""

        def timed(*args: Any, **kwargs: Any) -> Any:
            start = self.now()
            result = function(*args, **kwargs)
            self.seconds[part] += self.now() - start
            return result

        return timed


def measure(talker: "Talker", config: DriveBenchmarkConfig, size: int) -> dict[str, float]:
    """Frames per second and milliseconds per frame of every part, at one size."""
    from gaussiantalker_ns.audio.read import read_audio
    from gaussiantalker_ns.inference.scene import Scene
    from gaussiantalker_ns.inference.video_writer import SegmentWriter

    model = talker.checkpoint.model
    watch = Stopwatch(str(model.device))
    samples = read_audio(config.audio)
    stream = talker.stream(scene=Scene(size=size), gain=1.0)
    renderer = stream._renderer
    renderer._compose = watch.wrapped("compositing", renderer._compose)  # pyright: ignore
    renderer._paint = watch.wrapped("compositing", renderer._paint)  # pyright: ignore
    network, splat = model.deformed_gaussians, model.splat
    model.deformed_gaussians = watch.wrapped("network", network)  # pyright: ignore
    model.splat = watch.wrapped("rasterizer", splat)  # pyright: ignore
    step, count, started = 3200, 0, 0.0
    try:
        with tempfile.TemporaryDirectory() as folder:
            with SegmentWriter(Path(folder) / "talk.mp4", size, size) as writer:
                encode = watch.wrapped("encoding", writer.write)
                push = watch.wrapped("features", stream.push_audio)
                for start in range(0, 1 << 40, step):
                    # The recording is heard again and again until there are enough frames.
                    push(samples.take(range(start, start + step), mode="wrap"), 16_000)
                    for frame in stream.frames():
                        encode(frame)
                        count += 1
                        if count == 25:
                            watch.seconds.update(dict.fromkeys(PARTS, 0.0))
                            started = watch.now()
                    if count >= 25 + config.num_frames:
                        break
                wall = watch.now() - started
    finally:
        del model.deformed_gaussians, model.splat
    milliseconds = {part: 1e3 * watch.seconds[part] / (count - 25) for part in PARTS}
    total = 1e3 * wall / (count - 25)
    return {"fps": 1e3 / total, **milliseconds, "other": total - sum(milliseconds.values())}


def run_drive(config: DriveBenchmarkConfig) -> None:
    """Measure every case, print the table, write the JSON file."""
    from gaussiantalker_ns.engine.runtime import use_threads
    from gaussiantalker_ns.inference.talker import Talker

    talker = Talker.load(config.load_config)
    device = talker.checkpoint.model.device
    rows = []
    for threads in config.threads:
        use_threads(device, threads)
        for size in config.sizes:
            figures = measure(talker, config, size)
            rows.append({"pixels": size, "threads": threads, **figures})
    load = os.getloadavg()[0]
    table = Table(title=f"Driving on {device}, ms a frame, load {load:.1f}", title_justify="left")
    for header in ("pixels", "threads", "frames/s", *PARTS, "other"):
        table.add_column(header, justify="right")
    for row in rows:
        times = (f"{row[part]:.1f}" for part in (*PARTS, "other"))
        table.add_row(str(row["pixels"]), str(row["threads"]), f"{row['fps']:.1f}", *times)
    Console(width=110).print(table)
    if config.output is not None:
        config.output.write_text(json.dumps(rows, indent=2) + "\n")
