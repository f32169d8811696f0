"""The tree itself: no file cycles, folders and modules of a size that one can read."""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = "gaussiantalker_ns"
HOMES = {PACKAGE: ROOT / PACKAGE, f"{PACKAGE}.dataparsers": ROOT / "dataparsers"}
HOMES[f"{PACKAGE}.scripts"] = ROOT / "scripts"

MOST_FILES = 16
MOST_ROOT_MODULES = 12
MOST_LINES, FEWEST_LINES = 300, 40
REASON = "300 lines"
"""A module that is longer says so, and why, in its docstring."""


def module_files() -> dict[str, Path]:
    """Every module of the package by its dotted name; the links stand for the root folders."""
    found = {}
    for name, home in HOMES.items():
        for path in sorted(home.rglob("*.py")):
            parts = path.relative_to(home).with_suffix("").parts
            if name == PACKAGE and parts[0] in ("dataparsers", "scripts"):
                continue
            if parts[:1] == ("dev",) and name.endswith("scripts"):
                continue
            parts = parts[:-1] if parts[-1] == "__init__" else parts
            found[".".join((name, *parts))] = path
    return found


def imported(path: Path, modules: dict[str, Path]) -> Iterator[str]:
    """Modules of ours that a file imports anywhere: lazily, and for type checkers, too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == PACKAGE:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in modules else str(node.module)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in modules)


def find_cycle(graph: dict[str, set[str]]) -> list[str]:
    """Any cycle of a graph as the path around it; empty if there is none.

    Example: {"a": {"b"}, "b": {"a"}} gives ["a", "b", "a"].
    """
    done: set[str] = set()

    def walk(node: str, way: list[str]) -> list[str]:
        if node in way:
            return [*way[way.index(node) :], node]
        if node in done:
            return []
        for following in sorted(graph[node]):
            cycle = walk(following, [*way, node])
            if cycle:
                return cycle
        done.add(node)
        return []

    for start in sorted(graph):
        cycle = walk(start, [])
        if cycle:
            return cycle
    return []


def test_a_cycle_is_found():
    assert find_cycle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]
    assert find_cycle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


def test_no_file_imports_itself_through_others():
    modules = module_files()
    graph = {name: set(imported(path, modules)) - {name} for name, path in modules.items()}
    assert find_cycle(graph) == []


def test_folders_are_not_crowded():
    folders: dict[Path, int] = {}
    for path in module_files().values():
        folders[path.parent] = folders.get(path.parent, 0) + 1
    assert {f.name: n for f, n in folders.items() if n > MOST_FILES} == {}
    modules = [path for path in (ROOT / PACKAGE).glob("*.py") if path.name != "__init__.py"]
    assert len(modules) <= MOST_ROOT_MODULES


def test_modules_are_neither_long_nor_slivers():
    wrong = {}
    for name, path in module_files().items():
        text = path.read_text(encoding="utf-8")
        length = text.count("\n")
        explained = REASON in (ast.get_docstring(ast.parse(text)) or "")
        too_short = length < FEWEST_LINES and path.name != "__init__.py"
        if too_short or (length > MOST_LINES and not explained):
            wrong[name] = length
    assert wrong == {}
