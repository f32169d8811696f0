"""The stages of `batch` from a data set to a video, on a head trained for a few steps."""

from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from synthetic_talker import write_synthetic_talker
from talker_runs import small_config

from gaussiantalker_ns.audio.read import write_wav
from gaussiantalker_ns.batch import stages
from gaussiantalker_ns.batch.inputs import Input, find_input
from gaussiantalker_ns.batch.options import DriveOptions, PackingOptions, TrainOptions
from gaussiantalker_ns.batch.plan import DriveWork, PackWork, TrainWork
from gaussiantalker_ns.batch.stages import Settings, Split
from gaussiantalker_ns.batch.store import Store, open_store
from gaussiantalker_ns.inference import drive_job

SETTINGS = Settings(threads=1, part_frames=16)


def packets(content: bytes, folder: Path) -> list[bytes]:
    """The encoded pictures of a video."""
    path = folder / "packets.mp4"
    path.write_bytes(content)
    with av.open(str(path)) as container:
        return [bytes(packet) for packet in container.demux(video=0) if packet.dts is not None]


@pytest.fixture(scope="module", params=["folder", "url"])
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A place with a data set."""
    root = tmp_path_factory.mktemp("batch")
    address = str(root / "out") if request.param == "folder" else f"memory://{root.name}/out"
    place = open_store(address)
    place.put(write_synthetic_talker(root / "data", num_frames=33, size=64), "datasets/head")
    return place


def drive_work(name: str, talker: str | Input, audio: Path) -> DriveWork:
    source = find_input("audio", str(audio))
    # Of pictures of 64 px x264 makes other bytes from time to time.
    options = DriveOptions(size=256)
    return DriveWork(f"{name}.0", name, talker, source, None, "en-us", options)


def test_a_talker_is_trained_packed_and_driven_in_parts(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(drive_job, "SEGMENT_FRAMES", 8)

    def config(options: TrainOptions) -> Any:
        return small_config(tmp_path, tmp_path, 4, 8)

    monkeypatch.setattr(TrainOptions, "config", config)
    folder = tmp_path / "work"
    folder.mkdir()
    trained = stages.train(TrainWork("run", "head", TrainOptions()), store, folder, SETTINGS)
    assert trained["steps"] == 8
    work = PackWork("me", "head", "run", PackingOptions(track_seconds=1.0))
    assert stages.pack(work, store, folder, SETTINGS)["megabytes"] > 0
    speech = 0.1 * np.random.default_rng(0).standard_normal(20_000)
    write_wav(tmp_path / "speech.wav", speech.astype(np.float32))

    whole = drive_work("whole", "me", tmp_path / "speech.wav")
    made: Any = stages.drive(whole, store, folder, Settings(threads=1, part_frames=100))
    assert made["num_frames"] == 31
    parted = drive_work("parted", "me", tmp_path / "speech.wav")
    assert stages.drive(parted, store, folder, SETTINGS) == Split(31)
    for first, stop in ((16, 31), (0, 16)):
        stages.drive_part(parted, store, folder, SETTINGS, first, stop)
    stages.join(parted, store, folder, SETTINGS, 31)
    names = ("mp4", "mp4.provenance.json", "jpg")
    assert {f"{n}.{e}" for n in ("whole", "parted") for e in names} == store.names("videos")
    pictures = [packets(store.read(f"videos/{n}.mp4"), tmp_path) for n in ("whole", "parted")]
    assert len(pictures[0]) == 31 and pictures[0] == pictures[1]
    assert store.names("parts") == set()
    with pytest.raises(ValueError, match="records no consent"):
        stages.drive(whole, store, folder, Settings(require_consent=True))
