"""The console command: overview, unknown names, and that every listed command has its module."""

import importlib
import os
import subprocess
import sys

import pytest

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
