"""`gaussiantalker evaluate`: how well a trained talker shows frames it has not seen."""

from pathlib import Path
from typing import Any

from rich.text import Text

from gaussiantalker_ns.evaluation.options import Config


def measure(config_path: Path, data: Path | None = None) -> dict[str, Any]:
    """Measure the held-out frames of a run, without pictures and without speed.

    Returns:
        `method`, `checkpoint`, `step` and more about the run; `metrics` by the keys of
        `metrics.registry.MEASURES`, and `not_measured` with what each of the others needs.
    """
    from gaussiantalker_ns.evaluation.evaluate import measure_run

    return measure_run(config_path, data)


def run(config: Config) -> int:
    """Print the figures and write the files.

    Raises:
        FileNotFoundError: Something that was named is not there.
        InUseError: Another command works in the folder of the results.
        ValueError: Something cannot be used; the message says what to do.
    """
    from nerfstudio.utils.rich_utils import CONSOLE

    from gaussiantalker_ns.evaluation.evaluate import evaluate

    # Pyright sees this file twice: in its folder, and through the link in the package.
    done = evaluate(config)  # pyright: ignore[reportArgumentType]
    CONSOLE.print(done.table)
    for reason in done.reasons:
        CONSOLE.print(Text(reason, "dim"))
    for path in done.written:
        CONSOLE.print(Text(f"Wrote {path}"))
    return 0
