"""`gaussiantalker export`: a talker as a page, as a folder for other pages, or as a point cloud."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from gaussiantalker_ns.assets import asset_path
from gaussiantalker_ns.inference.talker_file.reader import read_talker
from gaussiantalker_ns.inference.trained_talker import SAMPLE
from gaussiantalker_ns.web.encoding import Precision
from gaussiantalker_ns.web.files import bundle, client_files
from gaussiantalker_ns.web.pack import PackedTalker, pack_for_web
from gaussiantalker_ns.web.page import (
    FOLDER_DEMO,
    FOLDER_PACK,
    FOLDER_PAGE,
    folder_page,
    single_page,
)
from gaussiantalker_ns.web.ply import write_ply

Format = Literal["html", "folder", "ply"]

MOST_DEMO_BYTES = 8 * 2**20
"""Longest example sound: a page is loaded as a whole."""


@dataclass(frozen=True)
class ExportOptions:
    """What becomes of a talker."""

    format: Format = "html"
    """A page in one file, the same in a folder with a module for other pages, or a point cloud."""
    precision: Precision = "int8"
    """How exactly numbers are kept in pages."""
    track_seconds: float = 14.0
    """Length of the recorded motion in pages."""
    audio: Path | None = None
    """A sound for the page's button, in a format that browsers play; None for no button."""


@dataclass(frozen=True)
class Exported:
    """What was written."""

    path: Path
    num_bytes: int
    """Of the file, or of all files of the folder."""
    has_consent: bool
    """Whether the talker records the consent of the person shown."""


def export(
    talker: Path | None, output: Path, options: ExportOptions, overwrite: bool = False
) -> Exported:
    """Write a talker file in another form, whole or not at all.

    Args:
        talker: The file; None for the sample presenter.
        output: A file ending in .html or .ply, or a folder.
        options: Which form, and how.
        overwrite: Whether an existing result is replaced.

    Raises:
        FileExistsError: The output is there.
        FileNotFoundError: There is no such talker or sound.
        ValueError: A browser cannot run the talker, or a name or a number makes no sense.
    """
    check_output(output, options.format, overwrite)
    path = asset_path(SAMPLE) if talker is None else talker
    if path.is_dir() or path.suffix == ".yml":
        raise ValueError(
            f"{path} is a run; expected a talker file. Make one of it with `gaussiantalker pack"
            f" --load-config {path} --output NAME.talker`."
        )
    if options.format == "ply":
        file = read_talker(path)
        with unfinished(output) as partial:
            write_ply(file.model, partial)
        return Exported(output, size_of(output), file.description.consent is not None)
    demo = read_demo(options.audio)
    packed = pack_for_web(path, options.precision, options.track_seconds)
    title = path.stem
    with unfinished(output) as partial:
        if options.format == "html":
            partial.write_text(single_page(packed, title, demo), encoding="utf-8")
        else:
            write_folder(partial, packed, title, demo)
    return Exported(output, size_of(output), packed.header["about"]["consent"] is not None)


def write_folder(folder: Path, packed: PackedTalker, title: str, demo: bytes | None) -> None:
    """Write the run-time, the packed talker and the example page."""
    folder.mkdir()
    files = {
        **client_files(),
        FOLDER_PAGE: bundle("page", is_module=True).encode(),
        FOLDER_PACK: packed.data,
        "index.html": folder_page(packed, title, demo is not None).encode(),
        **({} if demo is None else {FOLDER_DEMO: demo}),
    }
    for name, content in files.items():
        (folder / name).write_bytes(content)


def read_demo(audio: Path | None) -> bytes | None:
    """The example sound.

    Raises:
        FileNotFoundError: It is not there.
        ValueError: It is too large.
    """
    if audio is None:
        return None
    if not audio.is_file():
        raise FileNotFoundError(f"--audio is {audio}; expected a sound file. Check the path.")
    if audio.stat().st_size > MOST_DEMO_BYTES:
        raise ValueError(
            f"{audio} has {audio.stat().st_size / 1e6:.1f} MB; expected an example of at most"
            f" {MOST_DEMO_BYTES / 1e6:.1f} MB. Cut it, or compress it (.mp3, .m4a)."
        )
    return audio.read_bytes()


def check_output(output: Path, form: Format, overwrite: bool) -> None:
    """Check that the output may be written, before anything is computed."""
    endings = {"html": (".html", ".htm"), "ply": (".ply",), "folder": ("",)}
    if output.suffix.lower() not in endings[form]:
        wanted = "a folder's name without an ending" if form == "folder" else endings[form][0]
        raise ValueError(f"--output is {output}; expected {wanted} for --format {form}.")
    if not output.parent.is_dir():
        raise FileNotFoundError(
            f"{output.parent} does not exist; expected a folder. Make it first."
        )
    if output.exists() and not overwrite:
        raise FileExistsError(
            f"{output} exists already; expected a new name. Add --overwrite to replace it."
        )
    if output.exists() and output.is_dir() != (form == "folder"):
        kind = "a folder" if output.is_dir() else "a file"
        raise FileExistsError(f"{output} is {kind}; it is not replaced. Choose another name.")
    if form == "folder" and output.is_dir() and not (output / FOLDER_PACK).is_file():
        raise FileExistsError(
            f"{output} holds no {FOLDER_PACK}, so it is no exported talker, and is not replaced."
            " Choose another name."
        )


@contextmanager
def unfinished(output: Path) -> Iterator[Path]:
    """A place beside the output that takes its name when the block ends without an error."""
    with tempfile.TemporaryDirectory(prefix=f".partial-{output.name}-", dir=output.parent) as room:
        partial, former = Path(room) / "result", Path(room) / "former"
        yield partial
        if output.is_dir():
            # A folder cannot take the place of another one at once.
            os.replace(output, former)
        os.replace(partial, output)


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    files = path.iterdir() if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files)
