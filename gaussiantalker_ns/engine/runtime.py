"""Run-time settings of a process that trains or renders: threads, and an ffmpeg for video
writers."""

import atexit
import ctypes
import os
import platform
import shutil
import tempfile
from functools import cache
from pathlib import Path

import torch

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3
"""Names of glibc's `malloc.h` for `mallopt`."""

LARGEST_MMAP_THRESHOLD = 32 * 2**20
"""The largest value that glibc takes on 64-bit machines."""


@cache
def provide_ffmpeg() -> None:
    """Put an `ffmpeg` on the PATH of this process where the system has none.

    Nerfstudio's `ns-render` looks for an executable of that name; imageio-ffmpeg's is called
    otherwise, so a link under the right name is made in a folder of its own,
    which goes with the process.
    """
    if shutil.which("ffmpeg") is not None:
        return
    import imageio_ffmpeg

    folder = Path(tempfile.mkdtemp(prefix="gaussiantalker-ffmpeg-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    link = folder / ("ffmpeg.exe" if os.name == "nt" else "ffmpeg")
    executable = imageio_ffmpeg.get_ffmpeg_exe()
    try:
        link.symlink_to(executable)
    except OSError:
        shutil.copy(executable, link)
    os.environ["PATH"] = f"{folder}{os.pathsep}{os.environ.get('PATH', '')}"
    from nerfstudio.utils.rich_utils import CONSOLE

    CONSOLE.log(f"No ffmpeg on the PATH; videos are written with {executable}")


@cache
def keep_freed_memory() -> None:
    """Let the C library keep the memory of freed tensors for the next ones.

    By default glibc gives megabytes back to the system at every free and asks for them again at the
    next allocation; the page faults cost more time than the arithmetic of tensors this large.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    libc = ctypes.CDLL(None)
    for option, value in (
        (M_MMAP_THRESHOLD, LARGEST_MMAP_THRESHOLD),
        (M_TRIM_THRESHOLD, 2**31 - 1),
        (M_TOP_PAD, LARGEST_MMAP_THRESHOLD),
    ):
        libc.mallopt(option, value)


def use_threads(
    device: torch.device | str, num_threads: int | None, in_kernels: bool = False
) -> None:
    """Choose how many threads torch and our kernels take on a CPU.

    A thread team of OpenMP, torch's, waits for its slowest thread and by default spins while it
    waits; beside another program that takes a core, tenths of the speed are left. Kernels share
    out small jobs among threads that sleep when there are none. So torch takes one thread where the
    kernels do the work, and nobody needs to know of OMP_WAIT_POLICY.

    Args:
        device: Device of the model; nothing is done for a GPU.
        num_threads: Number of threads; None takes all the cores this process may use. A run may
            have been trained on a machine with more of them: then all are taken, too.
        in_kernels: Whether the kernels do most of the work (`TalkingHead.runs_in_kernels`).
    """
    if torch.device(device).type != "cpu":
        return
    keep_freed_memory()
    # Numba takes half a second to import, which a GPU user need not wait for.
    from gaussiantalker_ns.kernels.compile import set_num_threads, thread_limit

    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    limit = thread_limit()
    if num_threads is not None and num_threads > limit:
        _tell_of_fewer_threads(num_threads, limit)
        num_threads = limit
    count = num_threads or min(available or 1, limit)
    set_num_threads(count, 1 if in_kernels else count)


@cache
def _tell_of_fewer_threads(wanted: int, limit: int) -> None:
    from nerfstudio.utils.rich_utils import CONSOLE

    CONSOLE.log(f"{wanted} threads were asked for; this machine's {limit} are used")
