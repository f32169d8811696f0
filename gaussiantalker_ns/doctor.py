"""Checks of this machine: what it has, what is missing, and what to do about it.

No check imports torch or Nerfstudio at the top: this is for machines where they may not import.
"""

import os
import platform
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, metadata, version
from importlib.util import find_spec
from pathlib import Path

import psutil
from packaging.specifiers import SpecifierSet

from gaussiantalker_ns.assets import ASSET_SHA256, ASSETS_DIR

MINIMUM_MEMORY_GIB = 4.0
"""Below this much free memory the CPU preset may not train."""

MINIMUM_DISK_GIB = 2.0
"""A one-minute clip at 512 px takes about a third of this, with its frames and masks."""

TRANSFORMERS_MODELS = {
    "wav2vec2": "facebook/wav2vec2-base-960h",
    "hubert": "facebook/hubert-large-ls960-ft",
    "face parsing": "jonathandinu/face-parsing",
}
"""What can use weights from the Hugging Face hub -> the repository it takes them from."""


@dataclass(frozen=True)
class Finding:
    """One row of the table."""

    subject: str
    state: str
    """One of `ok`, `optional` (absent, but the product runs), `missing` (it cannot run)."""
    found: str
    advice: str = ""


def check_python() -> Finding:
    """Python must be one of the versions the package declares."""
    running, declared = platform.python_version(), metadata("gaussiantalker-ns")["Requires-Python"]
    found = f"{running} on {platform.system()} {platform.machine()}"
    if SpecifierSet(declared).contains(running, prereleases=True):
        return Finding("Python", "ok", found)
    advice = f"gaussiantalker-ns needs Python {declared}: make an environment with one of these."
    return Finding("Python", "missing", found, advice)


def check_package(name: str, advice: str) -> Finding:
    """Report the version of the distribution called `name`, without importing it."""
    try:
        return Finding(name, "ok", version(name))
    except PackageNotFoundError:
        return Finding(name, "missing", "not installed", advice)


def check_device() -> Finding:
    """CUDA or not, and the rasterizer backend that follows from it."""
    try:
        import torch
    except (ImportError, OSError) as error:
        advice = "pip install --force-reinstall torch"
        return Finding("device", "missing", f"torch cannot be imported: {error}", advice)
    cores = psutil.cpu_count(logical=False) or os.cpu_count()
    if torch.cuda.is_available():
        return Finding("device", "ok", f"{torch.cuda.get_device_name()}: rasterizer backend gsplat")
    return Finding(
        "device",
        "ok",
        f"CPU with {cores} cores: rasterizer backend numba",
        "No CUDA device: use `ns-train gaussiantalker-cpu`, the preset made for this.",
    )


def check_numba() -> Finding:
    """Numba's version and the number of threads its kernels use."""
    try:
        import numba
    except (ImportError, OSError) as error:
        return Finding("numba", "missing", str(error), "pip install numba")
    return Finding("numba", "ok", f"{numba.__version__}, {numba.get_num_threads()} threads")


def check_assets() -> Finding:
    """The model files that travel with the package."""
    missing = [name for name in ASSET_SHA256 if not (ASSETS_DIR / name).is_file()]
    if missing:
        return Finding(
            "model files",
            "missing",
            f"no {', '.join(missing)} in {ASSETS_DIR}",
            "Re-install gaussiantalker-ns; its wheel carries them.",
        )
    return Finding("model files", "ok", ", ".join(ASSET_SHA256))


def check_lpips() -> Finding:
    """LPIPS needs AlexNet weights, which no package carries."""
    try:
        from gaussiantalker_ns.losses.perceptual import backbone_path, backbone_url

        path, url = backbone_path("alex"), backbone_url("alex")
    except (ImportError, OSError) as error:
        found = f"torch, which knows their folder, cannot be imported: {error}"
        return Finding("LPIPS weights", "optional", found, "Install torch again first.")
    if path.is_file():
        return Finding("LPIPS weights", "ok", str(path))
    return Finding(
        "LPIPS weights",
        "optional",
        f"no {path}",
        "Fetched when `gaussiantalker` or `gaussiantalker-lite` begins to train. Without network,"
        f" put {url} there, or train with"
        " --pipeline.model.objective.perceptual-loss.network ms-ssim. `evaluate` leaves LPIPS out"
        " until they are there.",
    )


def check_transformers(purpose: str, repository: str) -> Finding:
    """Whether the hub's cache holds the weights of `repository`."""
    from huggingface_hub import scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    subject = f"weights for {purpose}"
    try:
        cached = {entry.repo_id for entry in scan_cache_dir().repos}
    except CacheNotFound:
        cached = set()
    if repository in cached:
        return Finding(subject, "ok", repository)
    return Finding(
        subject,
        "optional",
        f"{repository} is not in the local cache",
        "Downloaded on first use.",
    )


def check_ffmpeg() -> Finding:
    """`ns-render` writes videos through an ffmpeg executable."""
    system = shutil.which("ffmpeg")
    if system:
        return Finding("ffmpeg", "ok", system)
    if find_spec("imageio_ffmpeg"):
        import imageio_ffmpeg

        return Finding("ffmpeg", "ok", f"{imageio_ffmpeg.get_ffmpeg_exe()} (from imageio-ffmpeg)")
    return Finding("ffmpeg", "missing", "none on the PATH", "pip install imageio-ffmpeg")


def check_memory() -> Finding:
    """Free memory."""
    free = psutil.virtual_memory().available / 2**30
    total = psutil.virtual_memory().total / 2**30
    found = f"{free:.1f} of {total:.1f} GiB free"
    if free < MINIMUM_MEMORY_GIB:
        return Finding("memory", "optional", found, "Close other programs, or train smaller.")
    return Finding("memory", "ok", found)


def check_disk() -> Finding:
    """Free disk space where the command is run."""
    free = shutil.disk_usage(Path.cwd()).free / 2**30
    found = f"{free:.1f} GiB free in {Path.cwd()}"
    if free < MINIMUM_DISK_GIB:
        return Finding("disk", "optional", found, "A one-minute clip takes under 1 GiB; make room.")
    return Finding("disk", "ok", found)


def examine() -> list[Finding]:
    """Run every check."""
    reinstall = "pip install gaussiantalker-ns"
    checks: list[Callable[[], Finding]] = [
        check_python,
        lambda: check_package("torch", reinstall),
        lambda: check_package("nerfstudio", reinstall),
        lambda: check_package("gsplat", reinstall),
        check_device,
        check_numba,
        check_assets,
        *(
            lambda purpose=purpose, repository=repository: check_transformers(purpose, repository)
            for purpose, repository in TRANSFORMERS_MODELS.items()
        ),
        check_lpips,
        check_ffmpeg,
        check_memory,
        check_disk,
    ]
    return [check() for check in checks]
