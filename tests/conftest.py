"""What every test shares: nothing is fetched, and what needs a GPU or a browser is skipped here."""

import importlib.util
import shutil

import pytest


@pytest.fixture(autouse=True)
def no_downloads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no test fetch weights: what asks torch.hub for some fails by name."""
    import torch

    def refuse(url: str, *arguments: object, **options: object) -> None:
        raise AssertionError(f"a test tried to fetch {url}")

    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)


@pytest.fixture(autouse=True)
def one_thread_count() -> None:
    """Begin every test with as many threads of torch as the first: bits depend on them."""
    import torch

    threads.setdefault("torch", torch.get_num_threads())
    torch.set_num_threads(threads["torch"])


threads: dict[str, int] = {}
"""What the first test found."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip tests on machines without what their markers ask for."""
    skip_marked(items, "gpu", has_gpu, "needs an NVIDIA GPU")
    skip_marked(items, "node", has_node, "needs node on the PATH")
    skip_marked(items, "wasm", has_wasm_compiler, "needs clang and wasm-ld, 18 or newer")
    skip_marked(items, "browser", has_browser, "needs playwright, and a chromium on the PATH")


def skip_marked(items, marker, is_there, reason):
    """Skip the tests of a marker; what they need is looked for only if there are any."""
    marked = [item for item in items if item.get_closest_marker(marker)]
    if marked and not is_there():
        for item in marked:
            item.add_marker(pytest.mark.skip(reason=reason))


def has_gpu() -> bool:
    """Whether CUDA can be used."""
    import torch

    return torch.cuda.is_available()


def has_node() -> bool:
    """Whether scripts can be run without a browser."""
    return bool(shutil.which("node"))


def has_wasm_compiler() -> bool:
    """Whether the browser's kernels can be built."""
    from gaussiantalker_ns.scripts.dev.make_web import find_tools

    return find_tools() is not None


def has_browser() -> bool:
    """Whether a browser can be driven."""
    return bool(shutil.which("chromium")) and importlib.util.find_spec("playwright") is not None
