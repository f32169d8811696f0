"""Pages with a talker: everything in one file, or beside the files of a folder."""

import base64
import html
import re
from dataclasses import dataclass

from gaussiantalker_ns.web.files import CLIENT_DIR, MODULES, bundle, read_module
from gaussiantalker_ns.web.pack import PackedTalker

PLACE = re.compile(r"\{\{(\w+)\}\}")

OFFLINE_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline' 'wasm-unsafe-eval' blob: data:;"
    " worker-src blob: data:; style-src 'unsafe-inline'; media-src blob:; img-src blob: data:"
)
"""What the browser lets a page in one file do: it may reach no address at all."""

FOLDER_POLICY = (
    "default-src 'none'; script-src 'self' 'unsafe-inline' 'wasm-unsafe-eval' data:;"
    " worker-src 'self' data:; connect-src 'self'; style-src 'unsafe-inline'; media-src blob:;"
    " img-src blob: data:"
)
"""The same beside its files, which it may load."""

FROM_RFC_1924 = str.maketrans("&<>", ".,:")
"""Digits that HTML gives a meaning -> digits that it does not; `inline.mjs` knows them."""

FOLDER_PACK, FOLDER_PAGE = "talker.gtweb", "page.mjs"
FOLDER_DEMO = "example.sound"


@dataclass(frozen=True)
class PageText:
    """What a page says in its owner's words."""

    title: str
    """Name of the talker."""
    statement: str
    """That it is synthetic."""
    size: int
    """Side of its pictures."""


def text_of(data: bytes) -> str:
    """Bytes as text of base 85, to be read together with their number.

    Example: four zero bytes are 00000.
    """
    return base64.b85encode(data + bytes(-len(data) % 4)).decode("ascii").translate(FROM_RFC_1924)


def element(name: str, data: bytes) -> str:
    """Bytes in an element of a page."""
    return (
        f'<script type="text/plain" id="{name}" data-bytes="{len(data)}">{text_of(data)}</script>'
    )


def filled(text: PageText, policy: str, scripts: str) -> str:
    """The page with its texts, each of which is escaped, and its scripts, which are ours."""
    values = {
        "title": html.escape(text.title),
        "statement": html.escape(text.statement),
        "size": str(text.size),
        "policy": html.escape(policy),
        "scripts": scripts,
    }
    template = (CLIENT_DIR / "page.html").read_text(encoding="utf-8")
    return PLACE.sub(lambda found: values[found[1]], template)


def single_page(packed: PackedTalker, title: str, demo: bytes | None) -> str:
    """A page that holds the talker and all that runs it."""
    worker = bundle("worker", is_module=False)
    parts = [
        element("pack", packed.data),
        *(element(name.removesuffix(".wasm"), read_module(name)) for name in MODULES),
        *([] if demo is None else [element("demo", demo)]),
        f'<script type="text/plain" id="worker-source">{worker}</script>',
        f'<script type="module">{bundle("inline", is_module=False)}'
        "window.talker = from_inline.startInline();</script>",
    ]
    return filled(page_text(packed, title), OFFLINE_POLICY, "\n".join(parts))


def folder_page(packed: PackedTalker, title: str, has_demo: bool) -> str:
    """The example page of a folder, which loads the files beside it."""
    demo = f'await (await fetch("{FOLDER_DEMO}")).arrayBuffer()' if has_demo else "null"
    script = (
        f'<script type="module">import {{ startPage }} from "./{FOLDER_PAGE}";\n'
        f'window.talker = startPage("{FOLDER_PACK}", {{}}, {demo});</script>'
    )
    return filled(page_text(packed, title), FOLDER_POLICY, script)


def page_text(packed: PackedTalker, title: str) -> PageText:
    """The texts of a page."""
    return PageText(title, packed.header["about"]["statement"], packed.header["head"]["size"])
