"""`gaussiantalker evaluate`: how well a trained talker shows frames it has not seen."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

MEASURES = {
    "face_psnr": ("PSNR, face box", "dB", "higher"),
    "face_ssim": ("SSIM, face box", "", "higher"),
    "head_psnr": ("PSNR, head mask", "dB", "higher"),
    "lips_psnr": ("PSNR, lip box", "dB", "higher"),
    "eyes_psnr": ("PSNR, eye box", "dB", "higher"),
    "psnr": ("PSNR, whole frame", "dB", "higher"),
    "ssim": ("SSIM, whole frame", "", "higher"),
    "lips_open_correlation": ("Mouth opening, correlation with the real one", "", "higher"),
    "lips_width_correlation": ("Mouth width, correlation with the real one", "", "higher"),
    "lips_open_amplitude": ("Mouth opening, spread over that of the real one", "", "near 1"),
    "lips_landmark_distance": ("Lip landmark distance (MediaPipe)", "px", "lower"),
    "lips_num_frames": ("Frames with a face in render and truth", "", ""),
    "fps": ("Speed of this evaluation, landmarks included", "frames/s", "higher"),
}
"""Key -> what is measured, its unit, and which way is better; docs/evaluation.md defines them."""


@dataclass
class Config:
    """Measure a trained talker on the held-out frames of its clip, driven by their own audio."""

    load_config: Path
    """The run's config.yml, or a folder above it."""
    data: Path | None = None
    """The data set's folder, if it has moved since the training."""
    output: Path | None = None
    """Where to write the figures as JSON; by default evaluation.json beside the config."""


def table_of(metrics: dict[str, float], title: str) -> Table:
    """Lay the figures out, in the order of `MEASURES`."""
    table = Table(title=Text(title), title_justify="left")
    table.add_column("measure")
    table.add_column("value", justify="right")
    table.add_column("unit")
    table.add_column("better")
    for key, (name, unit, better) in MEASURES.items():
        if key in metrics:
            value = metrics[key]
            digits = f"{value:.0f}" if key == "lips_num_frames" else f"{value:.3f}"
            table.add_row(name, digits, unit, better)
    return table


def measure(config_path: Path, data: Path | None) -> dict[str, Any]:
    """Render the test split of a run and return its figures, with method, checkpoint and steps."""
    from nerfstudio.utils.eval_utils import eval_setup

    from gaussiantalker_ns.driving.checkpoint import pointed_to_data

    config, pipeline, checkpoint, step = eval_setup(
        config_path,
        test_mode="test",
        update_config_callback=lambda trained: pointed_to_data(trained, config_path, data),
    )
    metrics = pipeline.get_average_eval_image_metrics()
    assert metrics is not None, "the pipeline measures its evaluation frames"
    return {
        "method": config.method_name,
        "checkpoint": checkpoint.name,
        "step": step,
        "metrics": {key: float(metrics[key]) for key in MEASURES if key in metrics},
    }


def run(config: Config) -> int:
    """Print the table and write the figures."""
    from nerfstudio.utils.rich_utils import CONSOLE

    from gaussiantalker_ns.driving.checkpoint import find_config

    try:
        config_path = find_config(config.load_config)
        result = measure(config_path, config.data)
    except (ValueError, FileNotFoundError) as error:
        CONSOLE.print(Text(str(error), "bold red"))
        return 1
    output = config.output or config_path.with_name("evaluation.json")
    partial = output.with_name(f".partial-{output.name}")
    partial.write_text(json.dumps(result, indent=2) + "\n")
    os.replace(partial, output)
    title = f"{result['method']}, step {result['step']}: held-out frames, their own audio"
    CONSOLE.print(table_of(result["metrics"], title))
    CONSOLE.print(Text(f"Wrote {output}"))
    return 0
