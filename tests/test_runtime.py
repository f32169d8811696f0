"""How many threads a process takes."""

import os

import pytest
import torch

from gaussiantalker_ns.engine import runtime
from gaussiantalker_ns.kernels import compile


@pytest.fixture(autouse=True)
def threads_as_before(monkeypatch: pytest.MonkeyPatch):
    """Eight cores, of which Numba has seen four."""
    torch_threads = torch.get_num_threads()
    monkeypatch.setattr(compile, "_num_threads", None)
    monkeypatch.setattr(compile.numba.config, "NUMBA_NUM_THREADS", 4)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    yield
    torch.set_num_threads(torch_threads)


def test_none_takes_all_cores_whatever_came_before():
    for asked, taken in ((None, 4), (1, 1), (None, 4)):
        runtime.use_threads("cpu", asked)
        assert compile.num_threads() == torch.get_num_threads() == taken


def test_a_run_of_a_larger_machine_takes_all_cores_and_says_so_once(
    capsys: pytest.CaptureFixture[str],
):
    runtime._tell_of_fewer_threads.cache_clear()
    for _ in range(2):
        runtime.use_threads("cpu", 12)
        assert compile.num_threads() == 4
    assert capsys.readouterr().out.count("12 threads were asked for; this machine's 4") == 1


@pytest.mark.parametrize(("asked", "taken"), [(None, 4), (2, 2)])
def test_torch_takes_one_thread_where_kernels_do_the_work(asked: int | None, taken: int):
    runtime.use_threads("cpu", asked, in_kernels=True)
    assert (compile.num_threads(), torch.get_num_threads()) == (taken, 1)


def test_a_gpu_leaves_the_threads_alone():
    runtime.use_threads("cuda", 1)
    assert compile._num_threads is None
