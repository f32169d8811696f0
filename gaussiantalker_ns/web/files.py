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

IMPORT = re.compile(r'^import (\{[^}]*\}) from "\./(\w+)\.mjs";\n', re.MULTILINE)
EXPORT = re.compile(r"^export (?=(?:async )?(?:const|function|class) (\w+))", re.MULTILINE)


def read_module(name: str) -> bytes:
    """A WebAssembly module, after a look at its checksum.

    Raises:
        ValueError: It is not the one that belongs to this version.
    """
    path = NATIVE_DIR / name
    data = path.read_bytes()
    sums = json.loads(MANIFEST.read_text(encoding="utf-8"))["sha256"]
    if hashlib.sha256(data).hexdigest() != sums[name]:
        raise ValueError(
            f"{path} has another checksum than {MANIFEST.name} says; expected the file of this"
            " version. Re-install gaussiantalker-ns."
        )
    return data


def bundle(entry: str, is_module: bool) -> str:
    """Join a script and all that it imports into one, each in a scope of its own.

    Args:
        entry: Name of the script, without its ending.
        is_module: Whether the result exports what the script does; else it is a classic script.
    """
    parts: dict[str, str] = {}

    def add(name: str) -> list[str]:
        text = (CLIENT_DIR / f"{name}.mjs").read_text(encoding="utf-8")
        for found in IMPORT.finditer(text):
            if found[2] not in parts:
                add(found[2])
        names = EXPORT.findall(text)
        inner = EXPORT.sub("", IMPORT.sub(r"const \1 = from_\2;" + "\n", text))
        parts[name] = (
            f"const from_{name} = (() => {{\n{inner}\nreturn {{ {', '.join(names)} }};\n}})();\n"
        )
        return names

    exported = add(entry)
    text = '"use strict";\n' + "".join(parts.values())
    if is_module and exported:
        text += f"export const {{ {', '.join(exported)} }} = from_{entry};\n"
    # In a page it stands inside a script element, which this would end.
    assert "</script" not in text.lower() and "<!--" not in text
    return text


def client_files() -> dict[str, bytes]:
    """Name -> content of the files that a server offers beside a packed talker."""
    return {
        "talker.mjs": bundle("talker", is_module=True).encode(),
        "worker.js": bundle("worker", is_module=False).encode(),
        **{name: read_module(name) for name in MODULES},
    }
