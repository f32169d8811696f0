"""Measurements behind docs/benchmarks.md: `python scripts/dev/benchmark.py COMMAND --help`.

Every command prints a table and can write its figures as JSON. Speeds are compared with something
measured in turn in the same run, because a busy machine slows both.
"""

import tyro

from gaussiantalker_ns.scripts.dev.busy_benchmark import BusyBenchmarkConfig, run_busy
from gaussiantalker_ns.scripts.dev.drive_benchmark import DriveBenchmarkConfig, run_drive
from gaussiantalker_ns.scripts.dev.gpu_benchmark import GpuBenchmarkConfig, run_gpu
from gaussiantalker_ns.scripts.dev.picture_fit import FitConfig, run_fit
from gaussiantalker_ns.scripts.dev.raster_benchmark import RasterConfig, run_raster
from gaussiantalker_ns.scripts.dev.solver_benchmark import SolverConfig, run_solvers

app = tyro.extras.SubcommandApp()


@app.command(name="raster")
def _raster(config: tyro.conf.OmitArgPrefixes[RasterConfig]) -> None:
    """Time the CPU rasterizer against one in plain torch."""
    run_raster(config)


@app.command(name="fit")
def _fit(config: tyro.conf.OmitArgPrefixes[FitConfig]) -> None:
    """Fit a picture with gsplat's densification on the CPU, and write it."""
    run_fit(config)


@app.command(name="drive")
def _drive(config: tyro.conf.OmitArgPrefixes[DriveBenchmarkConfig]) -> None:
    """Time the parts of a driven video: features, network, rasterizer, compositing, encoding."""
    run_drive(config)


@app.command(name="busy")
def _busy(config: tyro.conf.OmitArgPrefixes[BusyBenchmarkConfig]) -> None:
    """Drive and train in turn on a quiet machine and beside a program that takes one core."""
    run_busy(config)


@app.command(name="gpu")
def _gpu(config: tyro.conf.OmitArgPrefixes[GpuBenchmarkConfig]) -> None:
    """Time a trained head: frames and training steps a second, memory, waits for the GPU."""
    run_gpu(config)


@app.command(name="solvers")
def _solvers(config: tyro.conf.OmitArgPrefixes[SolverConfig]) -> None:
    """Time the tracking's Levenberg-Marquardt against SciPy's least squares."""
    run_solvers(config)


if __name__ == "__main__":
    app.cli()
