"""The console command `gaussiantalker` with one sub-command per task."""

import importlib
import os
import sys
import warnings

import tyro

COMMANDS = {
    "process": "Turn a talking-portrait video into a data set.",
    "drive": "Make a talking video from any audio with a trained head.",
    "evaluate": "Measure a trained head on frames it has not seen.",
    "ablate": "Train and compare the rows of the paper's ablation tables.",
    "camera-path": "Write a Nerfstudio camera path in step with an audio file.",
    "doctor": "Show what this machine has, and what is missing.",
}
"""Sub-command -> one line of help; the module of that name holds its `Config` and `run`."""


def prepare_process() -> None:
    """Settings that have to be made before torch is imported; what a user has set stays.

    Threads of OpenMP that spin while they wait for each other slow everything down as soon as
    another program runs. Nerfstudio and torch warn at their import about what only they can
    change; our own warnings are of another category and stay.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    warnings.simplefilter("ignore", FutureWarning)


def _overview() -> str:
    width = max(len(name) for name in COMMANDS)
    rows = [f"  {name.ljust(width)}  {text}" for name, text in COMMANDS.items()]
    return "\n".join(
        [
            "usage: gaussiantalker COMMAND [OPTIONS]",
            "",
            "Audio-driven talking heads with 3D Gaussians, as a Nerfstudio method.",
            "",
            "commands:",
            *rows,
            "",
            "`gaussiantalker COMMAND --help` explains a command; `ns-train gaussiantalker` trains.",
        ]
    )


def main(arguments: list[str] | None = None) -> None:
    """Run the sub-command named by the first argument.

    Only the chosen sub-command's module is imported, so that `--help` answers at once.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_overview())
        return
    name, *rest = arguments
    if name not in COMMANDS:
        print(f"gaussiantalker: unknown command '{name}'.\n\n{_overview()}", file=sys.stderr)
        sys.exit(2)
    prepare_process()
    module = importlib.import_module(f"gaussiantalker_ns.scripts.{name.replace('-', '_')}")
    config = tyro.cli(module.Config, prog=f"gaussiantalker {name}", args=rest)
    sys.exit(module.run(config))
