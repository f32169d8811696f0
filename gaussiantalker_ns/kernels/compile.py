"""Compilation of the CPU kernels: options, cache, threads and launching.

Numba keeps compiled code beside the source when that folder can be written, else in the user's
cache folder; where neither can be written a folder of the system's temporary files is used, so that
importing never fails. `NUMBA_CACHE_DIR` overrides all of them, as usual. The first kernel that is
not found there says in one line that kernels are compiled.
"""

import atexit
import contextlib
import functools
import inspect
import os
import queue
import shutil
import stat
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba as _numba
import numpy as np
import torch
from llvmlite import ir
from numba.core import event
from numba.extending import intrinsic

# Numba makes its settings and decorators at run time, out of sight of type checkers.
numba: Any = _numba

_num_threads: int | None = None


def _is_writable(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def _is_private(folder: Path) -> bool:
    """Whether a folder is no link, ours, and closed to everybody else."""
    if not hasattr(os, "getuid"):  # Windows, where temporary files are the user's own.
        return folder.is_dir()
    try:
        found = folder.lstat()
    except OSError:
        return False
    mine = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid()
    return mine and not found.st_mode & (stat.S_IRWXG | stat.S_IRWXO)


def ensure_cache_folder(package_folder: Path | None = None) -> None:
    """Give Numba a folder for compiled code when neither the package nor the home can be written.

    Args:
        package_folder: Folder of the kernels; the installed package by default.
    """
    package_folder = Path(__file__).parent if package_folder is None else package_folder
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    if numba.config.CACHE_DIR or any(
        _is_writable(folder) for folder in (package_folder / "__pycache__", Path(home) / "numba")
    ):
        return
    user = os.getuid() if hasattr(os, "getuid") else "user"
    fallback = Path(tempfile.gettempdir()) / f"gaussiantalker-numba-{user}"
    with contextlib.suppress(OSError):
        fallback.mkdir(mode=0o700)
    if not _is_private(fallback):
        # Numba unpickles what it finds, so code that others could have put there is not for us.
        fallback = Path(tempfile.mkdtemp(prefix=f"{fallback.name}-"))
        atexit.register(shutil.rmtree, fallback, ignore_errors=True)
    numba.config.CACHE_DIR = str(fallback)


ensure_cache_folder()


class _CompilationNotice(event.Listener):
    """Tells whoever waits for the first compilation of a kernel what they wait for."""

    def on_start(self, event: event.Event) -> None:
        """Say so once, when a kernel of ours is compiled."""
        assert event.data is not None, "Numba says what it compiles"
        function = event.data["dispatcher"].py_func
        if function.__module__.startswith(f"{__package__}."):
            tell_of_compilation()

    def on_end(self, event: event.Event) -> None:
        """Nothing is said when it is done."""


@functools.cache
def tell_of_compilation() -> None:
    """Say once why the first frame of a new installation takes longer."""
    message = "Compiling the CPU kernels; this takes up to half a minute, once."
    print(message, file=sys.stderr, flush=True)


event.register("numba:compile", _CompilationNotice())

OPTIONS: dict[str, Any] = {
    "cache": True,
    "nogil": True,
    "error_model": "numpy",
    "boundscheck": False,
}
"""Options of every kernel; without fast-math, so that each operation rounds as it is written."""


CONSTANTS = tuple((Path(__file__).parents[1] / "gaussians").glob("*.py"))
"""Modules outside this folder whose constants kernels take."""


@functools.cache
def _kernel_stamp(folder: Path) -> str:
    """Changes with every source file beside a kernel, and with those that all kernels build on.

    Kernels take constants from plain modules, too.
    """
    files = sorted({*folder.glob("*.py"), *Path(__file__).parent.glob("*.py"), *CONSTANTS})
    return str([(file.name, file.stat().st_mtime, file.stat().st_size) for file in files])


def _compile(function: Callable[..., Any], **options: Any) -> Any:
    plain = inspect.unwrap(function)
    compiled = numba.njit(**OPTIONS, **options)(plain)
    # Numba itself would look at the kernel's own file only, and run on with what it used to call.
    cache_file = getattr(compiled._cache, "_cache_file", None)
    if cache_file is not None:
        cache_file._source_stamp = _kernel_stamp(Path(plain.__code__.co_filename).parent)
    return compiled


def jit(function: Callable[..., Any]) -> Any:
    """Compile a function that kernels call, without the checks that tests put around it."""
    return _compile(function)


def fast_jit(function: Callable[..., Any]) -> Any:
    """Like `jit`, but sums may be reordered and fused, so that they use vectors."""
    return _compile(function, fastmath=True)


def inline_jit(function: Callable[..., Any]) -> Any:
    """Like `jit`, but compiled into its callers: handing over arrays costs more than small work."""
    return _compile(function, forceinline=True)


def emitted(function: Callable[..., Any]) -> Any:
    """Make a function for kernels out of one that emits LLVM code (Numba's `intrinsic`)."""
    return intrinsic(inspect.unwrap(function))


@emitted
def next_job(typingctx: Any, queue: Any) -> Any:
    """Take the next number from the queue of a `pooled_kernel`; no other thread gets it."""

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        counter = context.make_array(sig.args[0])(context, builder, args[0]).data
        return builder.atomic_rmw("add", counter, ir.Constant(ir.IntType(64), 1), "monotonic")

    return numba.types.int64(queue), emit


class _Errand:
    """One thread's fraction of a launch, which the launching thread can take back."""

    def __init__(self, compiled: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        self.compiled, self.arguments = compiled, arguments
        self.claim, self.done = threading.Lock(), threading.Lock()
        self.done.acquire()
        self.error: BaseException | None = None

    def run(self) -> None:
        """Do the work unless it was taken back."""
        if self.claim.acquire(blocking=False):
            try:
                self.compiled(*self.arguments)
            except BaseException as error:  # Handed to the launching thread.
                self.error = error
            finally:
                self.done.release()

    def finish(self) -> None:
        """Take the work back if it has not begun, else wait for it."""
        if not self.claim.acquire(blocking=False):
            self.done.acquire()
        self.arguments = ()
        if self.error is not None:
            raise self.error


def _serve() -> None:
    while True:
        _errands.get().run()


_errands: queue.SimpleQueue[_Errand] = queue.SimpleQueue()
_helpers: list[threading.Thread] = []


def pooled_kernel(function: Callable[..., Any]) -> Any:
    """Compile a kernel whose jobs several threads share out among themselves as they get to them.

    The kernel's first argument is a queue: it takes numbers with `next_job` until there are no
    more jobs of that number; results must not depend on who does which. The launching thread works
    too and does not wait for threads that have not begun, so that a busy machine costs no more than
    its share. Unlike OpenMP's, idle threads sleep and leave the cores to torch.
    """
    compiled = _compile(function)

    @functools.wraps(function)
    def launch(*arguments: Any) -> None:
        arguments = (np.zeros(1, np.int64), *arguments)
        others = num_threads() - 1
        while len(_helpers) < others:
            _helpers.append(threading.Thread(target=_serve, daemon=True, name="kernel-helper"))
            _helpers[-1].start()
        errands = [_Errand(compiled, arguments) for _ in range(others)]
        for errand in errands:
            _errands.put(errand)
        compiled(*arguments)
        for errand in errands:
            errand.finish()

    def is_cached() -> bool:
        """Whether compiled code of the kernel lies on disk."""
        folder = Path(compiled._cache.cache_path)
        return any(folder.glob(f"*.{function.__name__}-*.nbi"))

    kernel: Any = launch
    kernel.is_cached = is_cached
    return kernel


def num_threads() -> int:
    """How many threads kernels use."""
    return thread_limit() if _num_threads is None else _num_threads


def thread_limit() -> int:
    """The largest number of threads: what Numba took at start (`NUMBA_NUM_THREADS`)."""
    return numba.config.NUMBA_NUM_THREADS


def set_num_threads(count: int, torch_count: int | None = None) -> None:
    """Set the number of threads of all kernels, and of torch.

    Args:
        count: Between 1 and `thread_limit`.
        torch_count: Threads of torch's own operations; None takes as many.
    """
    global _num_threads  # noqa: PLW0603
    limit = thread_limit()
    if not 1 <= count <= limit:
        raise ValueError(
            f"{count} threads were asked for; expected 1 to {limit}. The upper limit is the number"
            " of CPU cores, or the environment variable NUMBA_NUM_THREADS at start."
        )
    _num_threads = count
    torch.set_num_threads(count if torch_count is None else torch_count)
