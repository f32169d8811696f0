"""The console command: overview, unknown names, and that every listed command has its module."""

import importlib

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
