"""The console command: overview, unknown names, and that every listed command has its module."""

import importlib
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from gaussiantalker_ns.folder_lock import InUseError
from gaussiantalker_ns.scripts import cli


def test_overview_names_every_command(capsys):
    cli.main(["--help"])
    printed = capsys.readouterr().out
    for name, text in cli.COMMANDS.items():
        assert name in printed and text in printed


def test_unknown_command_exits_with_status_2(capsys):
    with pytest.raises(SystemExit) as exit_info:
        cli.main(["dance"])
    assert exit_info.value.code == 2
    assert "unknown command 'dance'" in capsys.readouterr().err


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_command_help(name, capsys):
    module = importlib.import_module(f"gaussiantalker_ns.scripts.{name.replace('-', '_')}")
    assert callable(module.run)
    with pytest.raises(SystemExit) as exit_info:
        cli.main([name, "--help"])
    assert exit_info.value.code == 0
    assert f"gaussiantalker {name}" in capsys.readouterr().out


def test_commands_wait_passively_and_print_no_warnings_of_imports():
    code = (
        "import os, warnings; from gaussiantalker_ns.scripts.cli import prepare_process;"
        "prepare_process(); warnings.warn('torch.jit is deprecated', FutureWarning);"
        "warnings.warn('ours'); print(os.environ['OMP_WAIT_POLICY'])"
    )
    environment = {k: v for k, v in os.environ.items() if k != "OMP_WAIT_POLICY"}
    for wanted in (None, "active"):
        chosen = environment if wanted is None else {**environment, "OMP_WAIT_POLICY": wanted}
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=chosen
        )
        assert done.stdout.strip() == (wanted or "passive")
        assert "ours" in done.stderr and "deprecated" not in done.stderr


@dataclass
class ProbeConfig:
    """A command for these tests."""

    number: int = 1

    def __post_init__(self) -> None:
        if self.number < 1:
            raise ValueError(f"--number is {self.number}; expected at least 1.")


@pytest.fixture
def probe(monkeypatch: pytest.MonkeyPatch):
    """Make a command whose work is a function."""

    def add(work) -> None:
        module = SimpleNamespace(Config=ProbeConfig, run=work)
        monkeypatch.setitem(cli.COMMANDS, "probe", "For tests.")
        monkeypatch.setitem(sys.modules, "gaussiantalker_ns.scripts.probe", module)

    return add


def status_and_message(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    with pytest.raises(SystemExit) as exit_info:
        cli.main(["probe", *arguments])
    assert isinstance(exit_info.value.code, int)
    return exit_info.value.code, capsys.readouterr().err


def test_a_command_that_works_has_its_own_status(probe, capsys):
    probe(lambda config: config.number)
    assert status_and_message(capsys, "--number", "3") == (3, "")


@pytest.mark.parametrize(
    "error",
    [
        ValueError("--size is 0; expected more."),
        FileNotFoundError("No video at me.mp4; expected an existing file."),
        InUseError("data is in use by `gaussiantalker process`."),
        OSError("page.png could not be written (No space left on device)."),
    ],
)
def test_what_a_user_can_cause_is_one_sentence(probe, capsys, error: Exception):
    def fail(config: ProbeConfig) -> int:
        raise error

    probe(fail)
    status, message = status_and_message(capsys)
    assert status == 1 and message.startswith(str(error)) and "Traceback" not in message


@pytest.mark.parametrize(
    ("command", "arguments", "sentence"),
    [
        ("probe", ["--number", "0"], "--number is 0; expected at least 1."),
        ("evaluate", [], "--load-config is None and --videos is None; expected one of them"),
    ],
)
def test_options_that_do_not_fit_are_an_error_of_usage(probe, capsys, command, arguments, sentence):
    probe(lambda config: 0)
    with pytest.raises(SystemExit) as exit_info:
        cli.main([command, *arguments])
    message = " ".join(capsys.readouterr().err.replace("\u2502", " ").split())
    assert exit_info.value.code == 2 and sentence in message and "Traceback" not in message


def test_an_error_of_the_system_names_the_path(probe, capsys, tmp_path):
    probe(lambda config: (tmp_path / "gone").read_text())
    status, message = status_and_message(capsys)
    assert status == 1 and len(message.splitlines()) == 1
    assert message.startswith(f"{tmp_path / 'gone'} cannot be used (No such file or directory)")


@pytest.mark.parametrize("kind", [AssertionError, TypeError, KeyError, AttributeError])
def test_a_fault_of_ours_shows_where_it_happened(probe, capsys, kind: type[Exception]):
    def fail(config: ProbeConfig) -> int:
        raise kind("the invariant")

    probe(fail)
    status, message = status_and_message(capsys)
    *trace, last = message.splitlines()
    assert status == 1 and trace[0].startswith("Traceback") and "the invariant" in trace[-1]
    assert last.startswith("This is a fault of gaussiantalker-ns ") and "Please report" in last


def test_an_error_that_a_library_raised_says_where_it_was_met(probe, capsys, tmp_path):
    (tmp_path / "poses.json").write_text("{")
    probe(lambda config: read_pose_file(tmp_path / "poses.json"))
    status, message = status_and_message(capsys)
    assert status == 1 and len(message.splitlines()) == 1
    assert "(JSONDecodeError, met in scripts/cli.py, line " in message
    assert "please report this line" in message


def read_pose_file(path: Path) -> None:
    """What a module of ours would do that forgets about damaged files."""
    json.loads(path.read_text())


@pytest.mark.parametrize("error", [MemoryError(), torch.cuda.OutOfMemoryError("CUDA, 2 GiB")])
def test_too_little_memory_is_said(probe, capsys, error: Exception):
    def fail(config: ProbeConfig) -> int:
        raise error

    probe(fail)
    status, message = status_and_message(capsys)
    assert status == 1 and message.startswith("The memory does not suffice (")


def test_a_missing_library_is_said(probe, capsys):
    probe(lambda config: importlib.import_module("a_library_that_is_not_there"))
    status, message = status_and_message(capsys)
    assert status == 1 and message.startswith("No module named 'a_library_that_is_not_there'")
    assert "gaussiantalker doctor" in message


def test_ctrl_c_is_no_error(probe, capsys):
    def stop(config: ProbeConfig) -> int:
        raise KeyboardInterrupt

    probe(stop)
    assert status_and_message(capsys) == (
        130,
        "Interrupted. Give the same command again to go on.\n",
    )


def test_a_locale_of_ascii_prints_question_marks():
    code = (
        "from gaussiantalker_ns.scripts.cli import prepare_process; prepare_process()\n"
        "from rich.console import Console; Console().print(':white_check_mark: Done')\n"
        "print('\\u2705 and \\udcff')"
    )
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, check=True, env=environment)
    assert done.stdout.split() == b"? Done ? and ?".split()


@pytest.mark.skipif(sys.platform == "win32", reason="pipes end in another way")
def test_a_reader_that_stops_reading_gets_no_complaint():
    code = (
        "import sys; from types import SimpleNamespace; from dataclasses import make_dataclass\n"
        "from gaussiantalker_ns.scripts import cli\n"
        "def run(config): [print('x' * 1000) for _ in range(1000)]\n"
        "cli.COMMANDS['probe'] = ''\n"
        "probe = SimpleNamespace(Config=make_dataclass('Config', []), run=run)\n"
        "sys.modules['gaussiantalker_ns.scripts.probe'] = probe\n"
        "cli.main(['probe'])"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.read(10)
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 1
