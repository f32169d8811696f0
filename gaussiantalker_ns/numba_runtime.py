"""How this project's CPU kernels are compiled, cached, threaded and launched.

Numba keeps compiled code beside the source when that folder can be written, else in the user's
cache folder; where neither can be written a folder of the system's temporary files is used, so that
importing never fails. `NUMBA_CACHE_DIR` overrides all of them, as usual.
"""

import functools
import inspect
import os
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
import torch

_LAUNCH_LOCK = threading.RLock()
_num_threads: int | None = None


def _is_writable(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


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
    fallback.mkdir(mode=0o700, exist_ok=True)
    numba.config.CACHE_DIR = str(fallback)


ensure_cache_folder()

OPTIONS: dict[str, Any] = {
    "cache": True,
    "nogil": True,
    "error_model": "numpy",
    "boundscheck": False,
}
"""Options of every kernel; without fast-math, so that each operation rounds as it is written."""

# Only explicit `prange` loops run on several threads: automatic ones would cost a fork and join each.
_ONLY_PRANGE = {
    "comprehension": False,
    "reduction": False,
    "inplace_binop": False,
    "setitem": False,
    "numpy": False,
    "stencil": False,
    "fusion": False,
    "prange": True,
}


def jit(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a function that kernels call, without the checks that tests put around it."""
    return numba.njit(**OPTIONS)(inspect.unwrap(function))


def fast_jit(function: Callable[..., Any]) -> Callable[..., Any]:
    """Like `jit`, but sums may be reordered and fused, so that they use vectors."""
    return numba.njit(fastmath=True, **OPTIONS)(inspect.unwrap(function))


def parallel_kernel(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a function with `prange` loops, and launch it one at a time in this process.

    Numba's fallback threading layer ends the process when two Python threads (training and viewer)
    launch at once; the lock rules that out. The calling thread also takes over the thread count.
    """
    compiled = numba.njit(parallel=_ONLY_PRANGE, **OPTIONS)(inspect.unwrap(function))

    @functools.wraps(function)
    def launch(*arguments: Any) -> Any:
        with _LAUNCH_LOCK:
            if _num_threads is not None:
                numba.set_num_threads(_num_threads)
            return compiled(*arguments)

    return launch


def num_threads() -> int:
    """How many threads kernels use."""
    return numba.config.NUMBA_NUM_THREADS if _num_threads is None else _num_threads


def set_num_threads(count: int) -> None:
    """Set the number of threads of torch and of all kernels together.

    Args:
        count: Between 1 and the limit that Numba took at start (`NUMBA_NUM_THREADS`).
    """
    global _num_threads
    limit = numba.config.NUMBA_NUM_THREADS
    if not 1 <= count <= limit:
        raise ValueError(
            f"{count} threads were asked for; expected 1 to {limit}. The upper limit is the number"
            " of CPU cores, or the environment variable NUMBA_NUM_THREADS at start."
        )
    _num_threads = count
    with _LAUNCH_LOCK:
        # Numba's call may change the count of an OpenMP library it shares with torch: torch last.
        numba.set_num_threads(count)
        torch.set_num_threads(count)
