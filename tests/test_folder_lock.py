"""The owner of a folder: one of many at once, and nobody who is dead."""

import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from gaussiantalker_ns import folder_lock
from gaussiantalker_ns.folder_lock import InUseError, Owner, OwnerLock, boot_identity

NUM_ROUNDS = 10

WAIT_S = 300
"""Long enough for five interpreters to start on a busy machine."""

LATEST_START_S = 0.3

OWNER_SCRIPT = """
import sys, time
from pathlib import Path
from gaussiantalker_ns.folder_lock import OwnerLock
lock = OwnerLock.of_folder(Path(sys.argv[1]))
lock.acquire()
print("mine", flush=True)
time.sleep(600)
"""


@pytest.fixture
def owner() -> Owner:
    return Owner.this_process()


def leave_record(folder: Path, owner: Owner, age_s: float = 0.0) -> Path:
    """A record whose owner holds no lock."""
    lock = OwnerLock.of_folder(folder).path
    lock.write_text(json.dumps(asdict(owner)))
    os.utime(lock, (time.time() - age_s,) * 2)
    return lock


@contextmanager
def living_owner(folder: Path):
    """Another process that owns a folder, as long as it is not killed."""
    command = [sys.executable, "-c", OWNER_SCRIPT, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None and process.stdout.readline() == "mine\n"
            yield process
        finally:
            process.kill()


def compete(barrier, results, worker: int, folders: list[Path]) -> None:
    """In every folder: try to own it, write there if it is ours, stay until all have tried."""
    for number, folder in enumerate(folders):
        delay_s = random.Random(f"{worker} {number}").uniform(0, LATEST_START_S)
        barrier.wait()
        time.sleep(delay_s)
        lock = OwnerLock.of_folder(folder)
        try:
            lock.acquire()
        except InUseError as error:
            results.put((number, worker, str(error)))
            barrier.wait()
            continue
        for picture in range(20):
            (folder / f"{picture}.txt").write_text(str(os.getpid()))
        results.put((number, worker, None))
        barrier.wait()
        lock.release()


@pytest.mark.parametrize("num_processes", [2, 5])
def test_exactly_one_of_many_works_in_a_folder(tmp_path: Path, num_processes: int):
    folders = [tmp_path / str(number) for number in range(NUM_ROUNDS)]
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(num_processes, timeout=WAIT_S), context.Queue()
    workers = [
        context.Process(target=compete, args=(barrier, results, worker, folders))
        for worker in range(num_processes)
    ]
    for worker in workers:
        worker.start()
    told = [results.get(timeout=WAIT_S) for _ in range(num_processes * NUM_ROUNDS)]
    for worker in workers:
        worker.join()
    for number, folder in enumerate(folders):
        errors = {worker: error for round_, worker, error in told if round_ == number}
        (winner,) = (worker for worker, error in errors.items() if error is None)
        pid = str(workers[winner].pid)
        refused = [error for error in errors.values() if error is not None]
        assert all(f"(process {pid} on " in error for error in refused)
        written = {path.name: path.read_text() for path in folder.iterdir()}
        assert written == {f"{picture}.txt": pid for picture in range(20)}


def test_the_message_says_who_since_when_and_what_to_do(tmp_path: Path):
    with living_owner(tmp_path) as process, pytest.raises(InUseError) as refused:
        OwnerLock.of_folder(tmp_path).acquire()
    message = str(refused.value)
    assert message.startswith(f"{tmp_path} is in use by `-c {tmp_path}` (process {process.pid} on ")
    assert f"since {time.strftime('%Y-%m-%d')}" in message
    assert "Wait until that one is done, stop it, or choose another place." in message
    assert "delete" not in message


def test_an_owner_that_was_killed_is_followed_at_once(tmp_path: Path):
    with living_owner(tmp_path) as process:
        os.kill(process.pid, signal.SIGKILL)
        # Not waited for: a dead process that its parent has not asked about keeps its pid.
        time.sleep(0.2)
        started = time.monotonic()
        with OwnerLock.of_folder(tmp_path) as lock:
            assert json.loads(lock.path.read_text())["pid"] == os.getpid()
        assert time.monotonic() - started < folder_lock.PATIENCE_S
    assert list(tmp_path.iterdir()) == []


def test_an_owner_of_an_earlier_start_of_the_machine_is_dead(tmp_path: Path, owner: Owner):
    leave_record(tmp_path, replace(owner, boot="before the power went"))
    with OwnerLock.of_folder(tmp_path) as lock:
        assert json.loads(lock.path.read_text())["boot"] == boot_identity()


def test_another_process_with_the_same_number_is_not_the_owner(tmp_path: Path, owner: Owner):
    leave_record(tmp_path, replace(owner, process_start=owner.process_start - 3600))
    with OwnerLock.of_folder(tmp_path):
        pass


def test_another_machine_counts_while_it_touches_its_record(tmp_path: Path, owner: Owner):
    away = replace(owner, host="elsewhere", boot="another")
    lock = leave_record(tmp_path, away, age_s=folder_lock.FRESH_S / 2)
    with pytest.raises(InUseError, match=f"elsewhere.*If that machine is off, delete {lock}"):
        OwnerLock.of_folder(tmp_path).acquire()
    assert json.loads(lock.read_text())["host"] == "elsewhere"
    leave_record(tmp_path, away, age_s=folder_lock.FRESH_S * 2)
    with OwnerLock.of_folder(tmp_path):
        assert json.loads(lock.read_text())["host"] == owner.host


def test_a_container_that_ended_on_this_machine_is_dead(tmp_path: Path, owner: Owner):
    leave_record(tmp_path, replace(owner, host="3f2a91c0"))
    with OwnerLock.of_folder(tmp_path):
        pass


@pytest.mark.parametrize("text", ["", '{"pid": 4', "[]", '{"pid": 1, "more": 2}'])
def test_a_record_that_is_not_whole_has_no_owner(tmp_path: Path, text: str):
    OwnerLock.of_folder(tmp_path).path.write_text(text)
    with OwnerLock.of_folder(tmp_path):
        pass


def test_without_locks_the_record_decides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(folder_lock, "try_lock", lambda descriptor: None)
    with living_owner(tmp_path), pytest.raises(InUseError, match="in use by"):
        OwnerLock.of_folder(tmp_path).acquire()
    with OwnerLock.of_folder(tmp_path):
        pass


def test_a_held_lock_without_a_name_is_respected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(folder_lock, "PATIENCE_S", 0.1)
    with OwnerLock.of_folder(tmp_path) as lock:
        lock.path.write_text("")
        with pytest.raises(InUseError, match="another program, which left no name"):
            OwnerLock.of_folder(tmp_path).acquire()


def test_an_owner_keeps_its_record_fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(folder_lock, "BEAT_S", 0.02)
    with OwnerLock.of_folder(tmp_path) as lock:
        os.utime(lock.path, (0, 0))
        deadline = time.monotonic() + 10
        while lock.path.stat().st_mtime < 1:
            assert time.monotonic() < deadline
            time.sleep(0.02)


def test_a_forgotten_lock_is_released(tmp_path: Path):
    lock = OwnerLock.of_folder(tmp_path)
    lock.acquire()
    del lock
    with OwnerLock.of_folder(tmp_path):
        pass


def test_an_output_is_owned_beside_it(tmp_path: Path):
    output = tmp_path / "new" / "me.mp4"
    with OwnerLock.of_output(output) as lock:
        assert lock.path.parent == output.parent and not output.exists()
        with pytest.raises(InUseError, match=f"^{output} is in use"):
            OwnerLock.of_output(output).acquire()
        with OwnerLock.of_output(output.with_name("you.mp4")):
            pass
    assert not output.parent.exists(), "it was made for the lock"
