"""The files of the run-time: C sources, WebAssembly made of them, JavaScript and the page."""

import hashlib
import json
import re
from pathlib import Path

WEB_DIR = Path(__file__).parent
NATIVE_DIR = WEB_DIR / "native"
CLIENT_DIR = WEB_DIR / "client"

SOURCES = (
    "vector.h",
    "matrix.h",
    "matrix.c",
    "memory.c",
    "speech.c",
    "deform.c",
    "project.c",
    "raster.c",
)
"""The C sources, which no user needs."""

MODULES = ("kernels.wasm", "kernels-relaxed.wasm")
"""The same code with plain and with relaxed vector instructions."""

MANIFEST = NATIVE_DIR / "manifest.json"
"""Compiler, and checksums of sources and modules."""
