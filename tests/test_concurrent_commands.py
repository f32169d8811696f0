"""Several commands at once in one folder: the winner's output is that of a run that was alone."""

from pathlib import Path

import pytest

from gaussiantalker_ns.scripts.dev.concurrent_commands import Config, Ended, faults, run_rounds

IN_USE = "data is in use by `gaussiantalker\nprocess` (process 7 on here, since now); expected"


def test_what_is_called_a_fault():
    winner, refused = Ended("a", 7, 0, ""), Ended("b", 8, 1, IN_USE)
    late = Ended("b", 9, 1, "data holds the data set of\nanother video, a.mp4.")
    alone = {"a": {"x": "1"}, "b": {"x": "2"}}.__getitem__
    assert faults([winner, refused, late], {"x": "1"}, alone) == []
    assert faults([winner, refused], {"x": "2"}, alone) == ["x differs"]
    assert faults([winner], {"x": "1", "y": "3"}, alone) == ["y differs"]
    assert faults([winner, winner], {"x": "1"}, alone)[0] == "2 of 2 commands won"
    assert faults([refused], {}, alone)[0] == "0 of 1 commands won"
    (wrong,) = faults([winner, Ended("b", 8, 1, "[Errno 2]")], {"x": "1"}, alone)
    assert "neither whose it is" in wrong
    (wrong,) = faults([Ended("a", 6, 0, ""), refused], {"x": "1"}, alone)
    assert wrong == "process 7 was named, but 6 has won"


@pytest.mark.slow
@pytest.mark.parametrize("round_", ["drive:2", "process:2"])
def test_one_of_two_wins_and_nothing_is_mixed(tmp_path: Path, round_: str):
    config = Config(tmp_path / "at-once", (round_,), latest_start_s=0.5)
    assert list(run_rounds(config)) == [(round_, [])]
