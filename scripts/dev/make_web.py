"""Rebuild the WebAssembly modules of the browser run-time from their C sources.

Run `python -m gaussiantalker_ns.scripts.dev.make_web`; it needs clang and wasm-ld 18 or newer, on
Debian the packages clang-19 and lld-19. `--check` builds into a temporary folder and says whether
the bytes are those that are shipped, which another compiler's need not be.
"""

import hashlib
import json
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import tyro

from gaussiantalker_ns.web.files import MANIFEST, MODULES, NATIVE_DIR, SOURCES

OLDEST_COMPILER = 18
"""The first release whose header has the relaxed instructions under their final names."""

NEWEST_COMPILER = 30

FLAGS = (
    "--target=wasm32",
    "-std=c17",
    "-O3",
    "-flto",
    "-nostdlib",
    "-ffreestanding",
    "-fno-math-errno",
    "-mbulk-memory",
    "-mnontrapping-fptoint",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-Wl,--no-entry",
    "-Wl,--lto-O3",
    "-Wl,--strip-all",
)
"""Without -ffast-math: what is reordered is written so."""

VARIANTS = {
    "kernels.wasm": ("-msimd128",),
    "kernels-relaxed.wasm": ("-msimd128", "-mrelaxed-simd", "-DRELAXED"),
}
"""Module -> the flags that are its own."""


@dataclass
class Config:
    """Rebuild the WebAssembly modules of the browser run-time."""

    check: bool = False
    """Only compare with what is shipped."""


def find_tools() -> tuple[str, str] | None:
    """Compiler and linker of one release that knows the instructions, the newest; or None."""
    for release in range(NEWEST_COMPILER, OLDEST_COMPILER - 1, -1):
        pair = shutil.which(f"clang-{release}"), shutil.which(f"wasm-ld-{release}")
        if pair[0] and pair[1]:
            return pair[0], pair[1]
    clang, linker = shutil.which("clang"), shutil.which("wasm-ld")
    if clang and linker and release_of(clang) >= OLDEST_COMPILER:
        return clang, linker
    return None


def release_of(clang: str) -> int:
    """Number of a compiler's release."""
    said = subprocess.run([clang, "--version"], check=True, capture_output=True, text=True).stdout
    found = re.search(r"version (\d+)", said)
    return int(found[1]) if found else 0


def build(folder: Path) -> str:
    """Compile both modules into a folder and return the compiler's version.

    Raises:
        FileNotFoundError: There is no compiler that can.
    """
    tools = find_tools()
    if tools is None:
        raise FileNotFoundError(
            "There is no clang with wasm-ld of release 18 or newer on the PATH; expected both."
            " On Debian: apt-get install clang-19 lld-19."
        )
    clang, linker = tools
    sources = [str(NATIVE_DIR / name) for name in SOURCES if name.endswith(".c")]
    for name, own in VARIANTS.items():
        command = [clang, *FLAGS, *own, f"-fuse-ld={linker}", "-o", str(folder / name), *sources]
        subprocess.run(command, check=True)
    said = subprocess.run([clang, "--version"], check=True, capture_output=True, text=True).stdout
    return said.splitlines()[0]


def manifest(folder: Path, compiler: str) -> dict[str, object]:
    """Checksums of sources and modules."""
    places = {NATIVE_DIR: SOURCES, folder: MODULES}
    sums = {
        name: hashlib.sha256((place / name).read_bytes()).hexdigest()
        for place, names in places.items()
        for name in names
    }
    return {"compiler": compiler, "sha256": sums}


def main(config: Config) -> int:
    """Build, and write or compare."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        compiler = build(folder)
        built = manifest(folder, compiler)
        if config.check:
            same = built == json.loads(MANIFEST.read_text(encoding="utf-8"))
            print("The same bytes." if same else f"Other bytes, by {compiler}.")
            return 0 if same else 1
        for module in MODULES:
            shutil.copy(folder / module, NATIVE_DIR / module)
            print(f"{module}: {(NATIVE_DIR / module).stat().st_size} bytes")
        MANIFEST.write_text(json.dumps(built, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Config)))
