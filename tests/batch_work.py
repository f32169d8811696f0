"""Stages for tests of `batch`: they leave marks and small files in place of what takes minutes."""

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

from scheduled_work import mark, marks

from gaussiantalker_ns.batch.plan import DriveWork, Work
from gaussiantalker_ns.batch.stages import Facts, Settings, Split
from gaussiantalker_ns.batch.store import Store

MARKS = "BATCH_TEST_MARKS"
"""Environment variable: the folder where marks are left."""

SLOW = "BATCH_TEST_SLOW"
"""Environment variable: how long trainings and parts take, in seconds."""


def leave(work: Work, kind: str = "") -> Path:
    """Leave a mark that a piece of work was begun; returns the folder of marks."""
    folder = Path(os.environ[MARKS])
    mark(folder, f"begun-{kind or work.stage}-{work.key}")
    return folder


def ended(work: Work, kind: str = "") -> None:
    """Leave a mark that a piece of work came to its end."""
    mark(Path(os.environ[MARKS]), f"ended-{kind or work.stage}-{work.key}")


def linger() -> None:
    """Take as long as the test wants."""
    time.sleep(float(os.environ.get(SLOW, "0")))


def fake_process(work: Any, store: Store, folder: Path, settings: Settings) -> Facts:
    """A data set with one file."""
    leave(work)
    if "no-face" in work.video.address:
        raise ValueError(f"No face was found in {work.video.address}; <b>expected</b> one.")
    dataset = folder / "dataset"
    dataset.mkdir(exist_ok=True)
    (dataset / "frames.txt").write_text(work.video.address)
    store.put(dataset, f"datasets/{work.key}")
    ended(work)
    return {"num_frames": 80, "warnings": []}


def fake_train(work: Any, store: Store, folder: Path, settings: Settings) -> Facts:
    """A run with one file, after a while; a video named `deadly` kills its first trainings."""
    marked = leave(work)
    data = store.get(f"datasets/{work.dataset}", folder / "input")
    if "deadly" in work.key and marks(marked, f"begun-train-{work.key}") < 3:
        os.kill(os.getpid(), signal.SIGKILL)
    linger()
    run = folder / "run"
    run.mkdir(exist_ok=True)
    (run / "weights.txt").write_text((data / "frames.txt").read_text() + f" {work.options.steps}")
    store.put(run, f"runs/{work.key}")
    ended(work)
    return {"steps": work.options.steps}


def fake_pack(work: Any, store: Store, folder: Path, settings: Settings) -> Facts:
    """A talker of one line."""
    leave(work)
    run = store.get(f"runs/{work.run}", folder / "run")
    made = folder / "talker"
    made.write_bytes((run / "weights.txt").read_bytes())
    store.put(made, f"talkers/{work.key}.talker")
    ended(work)
    return {"megabytes": 0.1}


def fake_evaluate(work: Any, store: Store, folder: Path, settings: Settings) -> Facts:
    """Figures of a run."""
    leave(work)
    ended(work)
    return {"metrics": {"face_psnr": 30.0}, "not_measured": {}}


def spoken(work: DriveWork, store: Store, folder: Path) -> list[str]:
    """The frames of a video: what the talker is, and a number."""
    if isinstance(work.talker, str):
        talker = store.get(f"talkers/{work.talker}.talker", folder / "talker").read_text()
    else:
        talker = work.talker.address
    said = work.text or Path(work.audio.address).read_text()  # type: ignore[union-attr]
    return [f"{talker} {word} {work.options.pose}" for word in said.split()]


def fake_drive(work: Any, store: Store, folder: Path, settings: Settings) -> Facts | Split:
    """A video of a line for each word; longer ones are shared out."""
    leave(work)
    frames = spoken(work, store, folder)
    if len(frames) > settings.part_frames:
        return Split(len(frames))
    return finished(work, store, folder, frames)


def fake_part(
    work: Any, store: Store, folder: Path, settings: Settings, first: int, stop: int
) -> Facts:
    """Some lines of a video."""
    leave(work, f"part{first}")
    linger()
    frames = spoken(work, store, folder)[first:stop]
    store.write(f"parts/{work.key}/{first:04d}", json.dumps(frames).encode())
    ended(work, f"part{first}")
    return {}


def fake_join(work: Any, store: Store, folder: Path, settings: Settings, num_frames: int) -> Facts:
    """All lines of a video."""
    names = sorted(store.names(f"parts/{work.key}"))
    pieces = [json.loads(store.read(f"parts/{work.key}/{name}")) for name in names]
    store.remove(f"parts/{work.key}")
    return finished(work, store, folder, [line for piece in pieces for line in piece])


def finished(work: DriveWork, store: Store, folder: Path, frames: list[str]) -> Facts:
    """Put a video in its place."""
    made = folder / "video"
    made.write_text("\n".join(frames))
    store.put(made, f"videos/{work.video_name}.mp4")
    ended(work, "drive")
    return {"num_frames": len(frames), "seconds_of_video": len(frames) / 25}


def fake_measure(work: Any, store: Store, folder: Path, settings: Settings) -> Facts:
    """Figures of a video."""
    leave(work)
    assert store.exists(f"videos/{work.video_name}.mp4")
    ended(work)
    return {"metrics": {"audio_lip_lag_ms": 12.0, "jitter_px": 0.5}}


FAKES = {
    "process": fake_process,
    "train": fake_train,
    "pack": fake_pack,
    "evaluate": fake_evaluate,
    "drive": fake_drive,
    "part": fake_part,
    "join": fake_join,
    "measure": fake_measure,
}


def counts(folder: Path) -> dict[str, tuple[int, int]]:
    """Piece of work -> how often it was begun, and how often it came to its end."""
    found: dict[str, tuple[int, int]] = {}
    for path in folder.glob("[a-z]*"):
        state, _, name = path.name.rpartition(".")[0].partition("-")
        begun, ends = found.get(name, (0, 0))
        found[name] = (begun + (state == "begun"), ends + (state == "ended"))
    return found
