"""`batch` on a Ray cluster of three nodes of this machine, two of which are killed."""

import os
from pathlib import Path

import pytest
from batch_work import FAKES, MARKS, SLOW, counts
from test_batch_job import FakeOptions, folder, plain_videos, videos

from gaussiantalker_ns.batch.job import BatchJob
from gaussiantalker_ns.batch.status import Status
from gaussiantalker_ns.scripts.dev.batch_cluster import Killer, three_nodes

pytest.importorskip("ray")

ROOT = Path(__file__).parents[1]

__all__ = ["folder"]


def begun(marks: Path):
    """Kind and process of every task that was begun."""
    for path in marks.glob("begun-*"):
        kind = path.name.split("-")[1]
        text = path.read_text()
        if text:
            yield kind.rstrip("0123456789"), int(text)


@pytest.mark.slow
def test_nodes_that_die_lose_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch):
    """Two videos with four recordings each: one node dies in a training, one in a part."""
    marks = Path(os.environ[MARKS])
    expected = plain_videos(folder)
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}{os.pathsep}{ROOT / 'tests'}")
    monkeypatch.setenv(SLOW, "1.5")
    try:
        with three_nodes() as cluster:
            options = FakeOptions(ray=cluster.address)
            table = str(folder / "jobs.csv")
            job = BatchJob(table, str(folder / "out"), options, functions=FAKES)
            killer = Killer(cluster, lambda: list(begun(marks)))
            with killer.at_work():
                bad = job.run(Status())
    # Ray raises plain exceptions here.
    except Exception as error:
        # Ray's own limit of 30 s, which a loaded machine exceeds; nothing else is let through.
        if "timed out during startup" in str(error):
            pytest.skip("the machine is too busy to start Ray")
        raise
    assert killer.killed == ["train", "part"]
    assert bad == [] and videos(job) == expected
    found = counts(marks)
    assert all(ends == 1 for name, (_, ends) in found.items()), "nothing is finished twice"
    again = [name for name, (begins, _) in found.items() if begins > 1]
    assert 1 <= len([name for name in again if name.startswith("train-")]) <= 2
    assert any(name.startswith("part") for name in again)
    assert set(job.store.names("records")) == set(os.listdir(folder / "plain" / "records"))
