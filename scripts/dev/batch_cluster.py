"""`gaussiantalker batch` on a Ray cluster of three nodes of this machine, two of which are killed.

    python scripts/dev/batch_cluster.py --videos a.mp4 b.mp4 --audio 1.wav 2.wav 3.wav 4.wav \\
        --output-dir out

runs every video with every recording on the cluster, kills one node while it trains and another
while it drives, runs the same in processes without Ray, and compares: all rows finished, no piece
of work finished twice, the same frames.
"""

import csv
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import psutil
import tyro

from gaussiantalker_ns.batch.job import BatchJob, BatchOptions
from gaussiantalker_ns.batch.status import Status

HEALTH = {"health_check_initial_delay_ms": 1000, "health_check_period_ms": 1000}
"""Sooner than Ray's default a node that is gone is known to be."""


@dataclass
class Config:
    """Compare a batch on a cluster that loses two of three nodes with a plain one."""

    videos: tuple[Path, ...]
    """Short videos."""
    audio: tuple[Path, ...]
    """Recordings that each of them speaks."""
    output_dir: Path
    """Folder of both results."""
    steps: int = 40
    """Steps of the trainings."""


@contextmanager
def three_nodes() -> Iterator[Any]:
    """A cluster of three nodes with one core each, the first of which leads."""
    from ray.cluster_utils import Cluster

    cluster = Cluster()
    try:
        cluster.add_node(num_cpus=1, include_dashboard=False, _system_config=HEALTH)
        for _ in range(2):
            cluster.add_node(num_cpus=1)
        cluster.wait_for_nodes()
        yield cluster
    finally:
        cluster.shutdown()


def node_of(cluster: Any, pid: int) -> Any:
    """The node, not the leading one, that a worker process belongs to; None if it is none."""
    try:
        parents = {parent.pid for parent in psutil.Process(pid).parents()}
    except psutil.NoSuchProcess:
        return None
    for node in cluster.worker_nodes:
        (raylet,) = node.all_processes["raylet"]
        if raylet.process.pid in parents:
            return node
    return None


@dataclass
class Killer:
    """Kills a node for each kind of task, as soon as one of its workers does such a task."""

    cluster: Any
    seen: Any
    """Yields the kind of a task and the process that does it, for all tasks begun so far."""
    kinds: tuple[str, ...] = ("train", "part")
    """What is to be interrupted, in order."""
    killed: list[str] = field(default_factory=list)
    done: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        """Look for work to interrupt until all kinds are done, or `done` is set."""
        for wanted in self.kinds:
            while wanted not in self.killed and not self.done.wait(0.05):
                for kind, pid in self.seen():
                    node = node_of(self.cluster, pid) if kind == wanted else None
                    if node is not None:
                        self.cluster.remove_node(node, allow_graceful=False)
                        self.killed.append(wanted)
                        break

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Kill meanwhile."""
        thread = threading.Thread(target=self.run, daemon=True)
        thread.start()
        try:
            yield
        finally:
            self.done.set()
            thread.join()


def running_work(output_dir: Path, least_s: float) -> Iterator[tuple[str, int]]:
    """Kind and process of work that is done for some time, by the locks of its folders."""
    for lock in (output_dir / "work").glob("*/.in-use.json"):
        try:
            owner = json.loads(lock.read_text())
            if time.time() - owner["since"] > least_s:
                yield lock.parent.name.partition("-")[0], owner["pid"]
        except (OSError, ValueError):
            continue


def decoded(path: Path) -> str:
    """A checksum of all frames of a video."""
    from gaussiantalker_ns.metrics.frame_pairs import video_frames

    digest = sha256()
    for frame in video_frames(path):
        digest.update(frame.tobytes())
    return digest.hexdigest()


def write_table(config: Config) -> Path:
    """The table of all videos and recordings."""
    config.output_dir.mkdir(parents=True, exist_ok=True)
    path = config.output_dir / "jobs.csv"
    columns = ("video", "audio", "train.steps", "train.canonical_steps", "train.num_points")
    columns += ("process.size", "pack.track_seconds")
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(columns)
        for video in config.videos:
            for audio in config.audio:
                options = (config.steps, config.steps // 2, 1000, 256, 2)
                rows.writerow((video.resolve(), audio.resolve(), *options))
    return path


def main(config: Config) -> int:
    """Run both and compare."""
    table, places = write_table(config), {n: config.output_dir / n for n in ("ray", "plain")}
    options = {"part_seconds": 20.0, "num_workers": 2}
    began = time.monotonic()
    with three_nodes() as cluster:
        cluster_options = BatchOptions(ray=cluster.address, **options)
        job = BatchJob(str(table), str(places["ray"]), cluster_options)
        killer = Killer(cluster, lambda: list(running_work(places["ray"], 4.0)), ("train", "drive"))
        with killer.at_work():
            bad = job.run(Status())
    print(f"cluster: {time.monotonic() - began:.0f} s, nodes killed in {killer.killed}, bad {bad}")
    began = time.monotonic()
    plain = BatchJob(str(table), str(places["plain"]), BatchOptions(**options))
    bad += plain.run(Status())
    print(f"plain: {time.monotonic() - began:.0f} s")
    names = sorted(path.name for path in (places["plain"] / "videos").glob("*.mp4"))
    equal = [
        decoded(places["ray"] / "videos" / n) == decoded(places["plain"] / "videos" / n)
        for n in names
    ]
    records = {
        kind: sorted(p.name for p in (place / "records").iterdir())
        for kind, place in places.items()
    }
    print(f"{len(names)} videos, {sum(equal)} with the same frames; {len(records['ray'])} records")
    return 0 if not bad and all(equal) and records["ray"] == records["plain"] else 1


if __name__ == "__main__":
    raise SystemExit(main(tyro.cli(Config)))
