"""The console command `gaussiantalker` with one sub-command per task."""

import importlib
import io
import os
import sys
import traceback
import warnings
from importlib.metadata import version
from pathlib import Path

import tyro
from rich.console import Console
from rich.text import Text

COMMANDS = {
    "process": "Turn a talking-portrait video into a data set.",
    "drive": "Make a talking video from any audio with a trained head.",
    "serve": "Let a head talk live, in a browser page and for applications.",
    "pack": "Put a trained head into one file that is safe to share.",
    "info": "Show what a talker file is, whose consent it has, and a picture.",
    "export": "Make a page of a trained head that talks in any browser, or a PLY file.",
    "evaluate": "Measure a trained head on frames it has not seen.",
    "batch": "Make many videos from a table, here or on a cluster.",
    "ablate": "Train and compare the rows of the paper's ablation tables.",
    "camera-path": "Write a Nerfstudio camera path in step with an audio file.",
    "doctor": "Show what this machine has, and what is missing.",
}
"""Sub-command -> one line of help; the module of that name holds its `Config` and `run`."""

INTERRUPTED = 130
"""Exit status of a program that was stopped with Ctrl-C."""

PACKAGE = Path(__file__).parents[1]


def prepare_process() -> None:
    """Settings that have to be made before torch is imported; what a user has set stays.

    Threads of OpenMP that spin while they wait for each other slow everything down as soon as
    another program runs. Nerfstudio and torch warn at their import about what only they can
    change; our own warnings are of another category and stay. Where the output cannot hold a
    character, such as Nerfstudio's check mark in a locale of ASCII, it becomes a question mark.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
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
    sys.exit(run_command(name, rest))


def run_command(name: str, arguments: list[str]) -> int:
    """Run a sub-command; the one place that turns an error into a message and an exit status.

    What a user can cause is one sentence. A fault of ours keeps its traceback.
    """
    try:
        module = importlib.import_module(f"gaussiantalker_ns.scripts.{name.replace('-', '_')}")
        config = tyro.cli(module.Config, prog=f"gaussiantalker {name}", args=arguments)
        status = module.run(config)
        sys.stdout.flush()
    except KeyboardInterrupt:
        tell("Interrupted. Give the same command again to go on.", "yellow")
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever reads, such as `head`, has seen enough; Python's own last flush must not complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        sentence = sentence_of(error)
        if sentence is None:
            traceback.print_exc()
            product = f"gaussiantalker-ns {version('gaussiantalker-ns')}"
            sentence = (
                f"This is a fault of {product} itself. Please report it to the project, with the"
                " lines above and the command."
            )
        tell(sentence, "bold red")
        return 1
    return status


def tell(message: str, style: str) -> None:
    """Print a message where errors go, without breaking its lines."""
    Console(stderr=True).print(Text(message, style), soft_wrap=True)


def sentence_of(error: Exception) -> str | None:
    """What to tell a user about an error; None for a fault of ours."""
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        return (
            f"{error.filename} cannot be used ({error.strerror}); expected a path that can be read,"
            " or written if it is an output. Check its name, its rights and the free space."
        )
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return (
            f"The memory does not suffice ({str(error).splitlines()[0] if str(error) else 'full'})."
            " Close other programs, or choose a smaller --size."
        )
    if isinstance(error, ImportError) and not (error.name or "").startswith(PACKAGE.name):
        return f"{error}; expected a whole installation. `gaussiantalker doctor` shows what lacks."
    if not isinstance(error, ValueError | OSError | EOFError):
        return None
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if Path(frame.filename).is_relative_to(PACKAGE)]
    if not ours or ours[-1] is frames[-1]:
        return str(error) or type(error).__name__
    # Another library has found it, often in a file of the user's; it does not say in which.
    place = f"{Path(ours[-1].filename).relative_to(PACKAGE)}, line {ours[-1].lineno}"
    return (
        f"{str(error) or type(error).__name__} ({type(error).__name__}, met in {place}). If the"
        " files that you named are in order, please report this line to the project."
    )
