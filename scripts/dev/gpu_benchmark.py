"""What a trained head costs on a GPU: frames and training steps a second, memory, host waits.

It runs on a CPU too, where there is nothing to wait for.
"""

import json
import platform
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    import torch

    from gaussiantalker_ns.inference.checkpoint import LoadedCheckpoint
    from gaussiantalker_ns.inference.frame_renderer import FrameRenderer

PAPER_FPS = {"gaussiantalker": 98.0, "gaussiantalker-lite": 121.0}
"""Frames a second in the paper's Table 1, at 512 px on the authors' GPU."""

TRAINING_PARTS = ("loading", "network", "rasterizer", "losses", "gradients", "optimisers")
"""Parts of a training step in order; what is left of the step is `other`."""

GIBIBYTE = 2**30
WARM_UP_STEPS = 15
PROJECT_FILES = ("gaussiantalker_ns", "dataparsers", "gsplat", "nerfstudio")
"""Folders of the Python lines that are named for a wait."""


@dataclass
class GpuBenchmarkConfig:
    """Measure driving and training of a trained head on this machine."""

    load_config: Path
    """The run's config.yml, or a folder above it."""
    data: Path | None = None
    """The data set, if it has moved since the training."""
    batches: tuple[int, ...] = (1, 4, 32)
    """Frames that are rendered together; each number is measured by itself."""
    seconds: float = 3.0
    """How long each speed is measured, above 0."""
    num_steps: int = 40
    """Training steps that are timed in each stage, at least 1."""
    output: Path | None = None
    """JSON file for the figures."""


class Clock:
    """Reads the time when a device has done its work, and what it took."""

    def __init__(self, device: "torch.device") -> None:
        self.on_gpu = device.type == "cuda"

    def now(self) -> float:
        """Seconds, after all work so far."""
        if self.on_gpu:
            import torch

            torch.cuda.synchronize()
        return time.perf_counter()

    def seconds_each(self, run: Callable[[], Any], seconds: float, warm_up: int = 3) -> float:
        """Mean time of a call; the clock is read after each one is complete."""
        for _ in range(warm_up):
            run()
        start, count = self.now(), 0
        while (passed := self.now() - start) < seconds or count == 0:
            run()
            count += 1
        return passed / count

    def peak_gibibytes(self, reset: bool = False) -> float | None:
        """Most memory that tensors took on the GPU since the last reset."""
        if not self.on_gpu:
            return None
        import torch

        peak = torch.cuda.max_memory_allocated() / GIBIBYTE
        if reset:
            torch.cuda.reset_peak_memory_stats()
        return peak


def host_waits(run: Callable[[], Any], on_gpu: bool) -> dict[str, int]:
    """Lines of Python in which the host waits for the GPU, and how often each does in one call."""
    if not on_gpu:
        return {}
    import torch

    found: Counter[str] = Counter()

    def count(message: Any, category: Any, filename: str, lineno: int, *rest: Any) -> None:
        # Switching the mode on warns too, that it is a prototype.
        if "called a synchronizing" in str(message):
            found[_caller(f"{Path(filename).name}:{lineno}")] += 1

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = count  # pyright: ignore[reportAttributeAccessIssue]
        torch.cuda.set_sync_debug_mode("warn")
        try:
            run()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return dict(found.most_common())


def _caller(otherwise: str) -> str:
    """The two innermost lines of this project and of what it stands on."""
    import traceback

    lines = [
        f"{Path(frame.filename).name}:{frame.lineno}"
        for frame in reversed(traceback.extract_stack())
        if any(name in Path(frame.filename).parts for name in PROJECT_FILES)
        and Path(frame.filename).name != Path(__file__).name
    ]
    return " < ".join(lines[:2]) or otherwise


def driving_figures(checkpoint: "LoadedCheckpoint", config: GpuBenchmarkConfig) -> dict[str, Any]:
    """Frames a second of finished pictures and of the head alone, memory, and waits of a block."""
    import numpy as np

    from gaussiantalker_ns.evaluation.cost import frames_per_second
    from gaussiantalker_ns.inference.frame_renderer import FrameRenderer
    from gaussiantalker_ns.inference.motion import MotionConfig
    from gaussiantalker_ns.inference.scene import Scene

    clock = Clock(checkpoint.model.device)
    clock.peak_gibibytes(reset=True)
    renderer = FrameRenderer(checkpoint, Scene(), MotionConfig(blink="none"))
    rows = checkpoint.model.bank.audio.cpu().numpy()
    offsets = np.arange(renderer.window_frames) - renderer.window_frames // 2
    figures: dict[str, Any] = {"fps": {}, "head_fps": {}}
    for batch in config.batches:
        frames = np.arange(batch)
        windows = rows[(frames[:, None] + offsets) % len(rows)]
        figures["fps"][batch] = frames_per_second(checkpoint, batch, config.seconds)
        with _nothing_behind(renderer):
            seconds = clock.seconds_each(lambda: renderer.submit(windows, frames), config.seconds)  # noqa: B023
        figures["head_fps"][batch] = batch / seconds
    figures["peak_gib"] = clock.peak_gibibytes()
    block = np.arange(4)
    windows = rows[(block[:, None] + offsets) % len(rows)]
    figures["waits"] = host_waits(lambda: list(renderer.render(windows, block)), clock.on_gpu)
    renderer.close()
    return figures


@contextmanager
def _nothing_behind(renderer: "FrameRenderer") -> Iterator[None]:
    """Leave out background, compositing and the way to main memory."""
    from gaussiantalker_ns.inference.frame_renderer import Block

    renderer._compose = lambda head, box, frames: Block(frames, box, [], ())  # pyright: ignore
    try:
        yield
    finally:
        del renderer._compose


def training_figures(
    checkpoint: "LoadedCheckpoint", config: GpuBenchmarkConfig, stage: str
) -> dict[str, Any]:
    """Milliseconds of a training step and of its parts, memory, and waits of a step."""
    from gaussiantalker_ns.engine.training import forget_writers
    from gaussiantalker_ns.scripts.dev.profile_training import train_step

    with tempfile.TemporaryDirectory(prefix="gaussiantalker-benchmark-") as folder:
        trainer = build_trainer(checkpoint, config, stage, Path(folder))
        clock = Clock(trainer.pipeline.model.device)
        number = trainer._start_step
        for _ in range(WARM_UP_STEPS):
            train_step(trainer, number)
            number += 1
        clock.peak_gibibytes(reset=True)
        start = clock.now()
        for _ in range(config.num_steps):
            train_step(trainer, number)
            number += 1
        total = clock.now() - start
        figures: dict[str, Any] = {
            "batch": trainer.pipeline.datamanager.batch_size,
            "gaussians": len(trainer.pipeline.model.gauss_params["means"]),
            "ms": 1e3 * total / config.num_steps,
            "peak_gib": clock.peak_gibibytes(),
        }
        parts: dict[str, float] = dict.fromkeys(TRAINING_PARTS, 0.0)
        with _timed_parts(trainer, clock, parts):
            start = clock.now()
            for _ in range(config.num_steps):
                train_step(trainer, number)
                number += 1
            total = clock.now() - start
        figures["parts_ms"] = {k: 1e3 * v / config.num_steps for k, v in parts.items()}
        other = 1e3 * total / config.num_steps - sum(figures["parts_ms"].values())
        figures["parts_ms"]["other"] = other
        figures["waits"] = host_waits(lambda: train_step(trainer, number), clock.on_gpu)
        trainer.pipeline.datamanager.close()
        # Its log lies in the folder that goes now; later runs in this process would write to it.
        forget_writers()
    return figures


def build_trainer(
    checkpoint: "LoadedCheckpoint", config: GpuBenchmarkConfig, stage: str, folder: Path
) -> Any:
    """A trainer of the run's configuration: new in the canonical stage, resumed in the other."""
    import yaml

    from gaussiantalker_ns.inference.checkpoint import pointed_to_data

    text = checkpoint.config_path.read_text()
    run: Any = yaml.load(text, Loader=yaml.Loader)
    pointed_to_data(run, checkpoint.config_path, config.data)
    run.output_dir, run.vis = folder, "tensorboard"
    run.machine.device_type = checkpoint.model.device.type
    run.logging.local_writer.enable = False
    run.load_dir = run.load_checkpoint = None
    if stage == "canonical":
        run.pipeline.canonical_steps = 10**6
    else:
        run.load_dir, run.load_step = checkpoint.path.parent, checkpoint.step
        run.pipeline.canonical_steps = min(run.pipeline.canonical_steps, checkpoint.step)
    trainer = run.setup(local_rank=0, world_size=1)
    trainer.setup()
    return trainer


@contextmanager
def _timed_parts(trainer: Any, clock: Clock, parts: dict[str, float]) -> Iterator[None]:
    """Add up the seconds of a step's parts, for each of which the GPU is waited for."""
    import torch

    model = trainer.pipeline.model
    places = [
        (trainer.pipeline.datamanager, "next_train", "loading"),
        (model.head, "deltas", "network"),
        (model.head, "features", "network"),
        (model.head, "canonical", "network"),
        (model, "splat", "rasterizer"),
        (model, "get_loss_dict", "losses"),
        (torch.Tensor, "backward", "gradients"),
        (trainer.optimizers, "optimizer_scaler_step_some", "optimisers"),
    ]
    kept = [(owner, name, vars(owner).get(name)) for owner, name, _ in places]
    inside: list[str] = []

    def timed(function: Callable[..., Any], part: str) -> Callable[..., Any]:
        def run(*arguments: Any, **options: Any) -> Any:
            if inside:  # The outer part's time has it already.
                return function(*arguments, **options)
            inside.append(part)
            start = clock.now()
            try:
                return function(*arguments, **options)
            finally:
                parts[part] += clock.now() - start
                inside.pop()

        return run

    try:
        for owner, name, part in places:
            setattr(owner, name, timed(getattr(owner, name), part))
        yield
    finally:
        for owner, name, value in kept:
            if value is None:
                delattr(owner, name)
            else:
                setattr(owner, name, value)


def run_gpu(config: GpuBenchmarkConfig) -> None:
    """Measure, print the tables, write the JSON file."""
    import torch

    from gaussiantalker_ns.inference.checkpoint import load_checkpoint

    checkpoint = load_checkpoint(config.load_config, config.data)
    model = checkpoint.model
    on_gpu = model.device.type == "cuda"
    figures: dict[str, Any] = {
        "device": torch.cuda.get_device_name(model.device) if on_gpu else platform.processor(),
        "torch": torch.__version__,
        "method": checkpoint.method,
        "step": checkpoint.step,
        "gaussians": len(model.gauss_params["means"]),
        "pixels": model.background.layers.size,
        "driving": driving_figures(checkpoint, config),
    }
    report_driving(figures)
    for stage in ("canonical", "deformation"):
        figures[stage] = training_figures(checkpoint, config, stage)
        report_training(stage, figures[stage])
    if config.output is not None:
        config.output.write_text(json.dumps(figures, indent=2) + "\n")


def report_driving(figures: dict[str, Any]) -> None:
    """Print what driving costs."""
    driving, console = figures["driving"], Console(width=110)
    title = "{device}: {method}, step {step}, {gaussians} Gaussians, {pixels} px".format(**figures)
    table = Table(title=title, title_justify="left")
    for header in ("frames at once", "finished frames/s", "head alone, frames/s", "the paper's"):
        table.add_column(header, justify="right")
    paper = PAPER_FPS.get(figures["method"])
    for batch, fps in driving["fps"].items():
        head = f"{driving['head_fps'][batch]:.0f}"
        table.add_row(str(batch), f"{fps:.0f}", head, f"{paper:.0f}" if paper else "98 / 121")
    console.print(table)
    console.print(f"peak memory {_gib(driving['peak_gib'])}; waits of a block of 4:")
    console.print(driving["waits"] or "none seen")


def report_training(stage: str, figures: dict[str, Any]) -> None:
    """Print what a training step costs."""
    console = Console(width=110)
    per_second = 1e3 / figures["ms"]
    title = (
        f"{stage} step, {figures['batch']} frames, {figures['gaussians']} Gaussians: "
        f"{figures['ms']:.1f} ms = {per_second * figures['batch']:.0f} frames/s, "
        f"peak memory {_gib(figures['peak_gib'])}"
    )
    table = Table(title=title, title_justify="left")
    for part in figures["parts_ms"]:
        table.add_column(f"{part}, ms", justify="right")
    table.add_row(*(f"{value:.2f}" for value in figures["parts_ms"].values()))
    console.print(table)
    console.print(f"waits of a step: {figures['waits'] or 'none seen'}")


def _gib(value: float | None) -> str:
    return "not measured on a CPU" if value is None else f"{value:.1f} GiB"
