"""The same bits for any number of threads, and several Python threads at once."""

import os
import shutil
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from raster_scenes import draw_with_gradients, random_scene

from gaussiantalker_ns.kernels import compile, rasterizer
from gaussiantalker_ns.rendering import rasterize as rasterize_module


def run(scene):
    picture, alpha, gradients, _ = draw_with_gradients(scene, "numba", torch.ones(1), absgrad=True)
    return {"picture": picture, "alpha": alpha, **gradients}


@pytest.mark.parametrize("b", [1, 3])
def test_threads_and_repetition_do_not_change_a_bit(monkeypatch: pytest.MonkeyPatch, b: int):
    scene = random_scene(3000, b=b, per_frame=True, seed=20)
    monkeypatch.setattr(compile, "_num_threads", 1)
    first = run(scene)
    for count in (1, 2, 3, 2):
        monkeypatch.setattr(compile, "_num_threads", count)
        again = run(scene)
        for name, value in first.items():
            assert torch.equal(value, again[name]), (count, name)


def test_python_threads_may_draw_at_the_same_time(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(compile, "_num_threads", 2)
    scenes = [random_scene(500, seed=seed) for seed in range(4)]
    alone = [run(scene) for scene in scenes]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(run, scenes * 5))
    for i, found in enumerate(together):
        for name, value in alone[i % 4].items():
            assert torch.equal(value, found[name]), name


def test_an_error_in_a_helping_thread_is_raised(monkeypatch: pytest.MonkeyPatch):
    def fail(*_: object) -> None:
        raise RuntimeError("broken")

    errand = compile._Errand(fail, ())
    errand.run()
    with pytest.raises(RuntimeError, match="broken"):
        errand.finish()


def test_work_that_has_not_begun_is_taken_back():
    done = []
    errand = compile._Errand(lambda: done.append(1), ())
    errand.finish()
    errand.run()
    assert not done


def test_thread_count_governs_torch_too():
    before, torch_before = compile._num_threads, torch.get_num_threads()
    try:
        compile.set_num_threads(1)
        assert torch.get_num_threads() == 1 and compile.num_threads() == 1
        with pytest.raises(ValueError, match="0 threads were asked for; expected 1 to"):
            compile.set_num_threads(0)
        with pytest.raises(ValueError, match="100000 threads were asked for"):
            compile.set_num_threads(100_000)
    finally:
        compile._num_threads = before
        torch.set_num_threads(torch_before)


def test_a_read_only_installation_compiles_elsewhere(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setattr(compile.numba.config, "CACHE_DIR", "")
    monkeypatch.setattr(compile.tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr(compile, "_is_writable", lambda folder: False)
    compile.ensure_cache_folder()
    chosen = Path(compile.numba.config.CACHE_DIR)
    assert chosen.parent == tmp_path and chosen.is_dir()
    compile.ensure_cache_folder()
    assert Path(compile.numba.config.CACHE_DIR) == chosen


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="temporary files are the user's own")
@pytest.mark.parametrize("fault", ["a link", "open to others", "another's", "a file"])
def test_compiled_code_of_others_is_not_used(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, fault: str
):
    """Numba unpickles what lies in the folder."""
    monkeypatch.setattr(compile.numba.config, "CACHE_DIR", "")
    monkeypatch.setattr(compile.tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr(compile, "_is_writable", lambda folder: False)
    usual = tmp_path / f"gaussiantalker-numba-{os.getuid()}"
    if fault == "a link":
        (tmp_path / "elsewhere").mkdir(mode=0o700)
        usual.symlink_to(tmp_path / "elsewhere")
    elif fault == "open to others":
        usual.mkdir()
        usual.chmod(0o750)
    elif fault == "another's":
        usual.mkdir(mode=0o700)
        user = os.getuid()
        found = os.lstat(usual)
        theirs = os.stat_result([*found[:4], user + 1, *found[5:]])
        monkeypatch.setattr(Path, "lstat", lambda path: theirs)
    else:
        usual.touch()
    compile.ensure_cache_folder()
    chosen = Path(compile.numba.config.CACHE_DIR)
    assert chosen.parent == tmp_path and chosen != usual
    assert stat.S_IMODE(os.lstat(chosen).st_mode) == 0o700


def test_kernels_are_compiled_again_when_a_plain_module_beside_them_changes(tmp_path: Path):
    """They take their constants from such modules."""
    stamp = compile._kernel_stamp.__wrapped__
    (tmp_path / "limits.py").write_text("LIMIT = 1\n")
    before = stamp(tmp_path)
    assert stamp(tmp_path) == before
    (tmp_path / "limits.py").write_text("LIMIT = 12\n")
    assert stamp(tmp_path) != before


def test_a_kernel_hands_out_every_job_once(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(compile, "_num_threads", 3)
    seen = np.zeros(1000, np.int64)
    count_jobs(seen)
    assert (seen == 1).all()


@compile.pooled_kernel
def count_jobs(queue, seen):
    while True:
        job = compile.next_job(queue)
        if job >= seen.size:
            break
        seen[job] += 1


def test_kernels_are_compiled_ahead_where_they_were_not(monkeypatch: pytest.MonkeyPatch):
    calls = []

    def rasterize(*arguments, **settings):
        calls.append(settings["absgrad"])
        return torch.zeros(1, requires_grad=True), None, None

    monkeypatch.setattr(rasterize_module, "rasterize", rasterize)
    for compiled in (True, False):
        monkeypatch.setattr(rasterizer, "is_compiled", lambda compiled=compiled: compiled)
        rasterize_module.warm_up()
        assert calls == ([] if compiled else [False, True])


PAINT = """
import sys
sys.path.insert(0, sys.argv[1])
import numpy as np
from gaussiantalker_ns.kernels import tiles
assert tiles.__file__.startswith(sys.argv[1]), tiles.__file__
ones = np.ones((4, 4, 3), np.float32)
tiles.paint_head(ones, ones[..., :1], np.zeros((4, 4, 3), np.uint8))
"""


def test_kernels_of_a_package_that_cannot_be_written_are_kept_by_the_user(tmp_path: Path):
    """Compiled once, with a line that says so, into the user's cache folder."""
    package = tmp_path / "site" / "gaussiantalker_ns"
    shutil.copytree(
        Path(compile.__file__).parents[1], package, ignore=shutil.ignore_patterns("*.pyc", "assets")
    )
    for cache in list(package.rglob("__pycache__")):
        shutil.rmtree(cache)
    # What keeps even an administrator from writing there.
    (package / "kernels" / "__pycache__").write_text("")
    environment = {k: v for k, v in os.environ.items() if k != "NUMBA_CACHE_DIR"}
    environment |= {"XDG_CACHE_HOME": str(tmp_path / "user"), "HOME": str(tmp_path)}
    command = [sys.executable, "-c", PAINT, str(package.parent)]
    for announced in (True, False):
        result = subprocess.run(
            command, env=environment, capture_output=True, text=True, check=True
        )
        assert ("Compiling the CPU kernels" in result.stderr) is announced, result.stderr
        assert result.stderr.count("\n") == int(announced)
    assert list((tmp_path / "user" / "numba").rglob("tiles.paint_rows-*.nbi"))
