"""The distribution: hand-listed packages, entry points, and an import that loads nothing heavy."""

import os
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def packages_in_tree() -> set[str]:
    """Walk the three source folders as a person would list them."""
    homes = {
        "gaussiantalker_ns": ROOT / "gaussiantalker_ns",
        "gaussiantalker_ns.dataparsers": ROOT / "dataparsers",
        "gaussiantalker_ns.scripts": ROOT / "scripts",
    }
    found = set()
    for name, home in homes.items():
        for marker in home.rglob("__init__.py"):
            relative = marker.parent.relative_to(home)
            if name == "gaussiantalker_ns" and relative.parts[:1] in (
                ("dataparsers",),
                ("scripts",),
            ):
                continue
            if relative.parts[:1] == ("dev",):
                continue  # Tools for developers stay in the checkout.
            found.add(".".join([name, *relative.parts]))
    return found


def test_packages_listed_by_hand_match_the_tree():
    assert set(PYPROJECT["tool"]["setuptools"]["packages"]) == packages_in_tree()


def test_package_directories_point_to_real_folders():
    for name, folder in PYPROJECT["tool"]["setuptools"]["package-dir"].items():
        assert (ROOT / folder / "__init__.py").is_file(), f"{name} -> {folder}"


def test_links_serve_the_root_folders():
    for name in ("dataparsers", "scripts"):
        link = ROOT / "gaussiantalker_ns" / name
        assert link.is_symlink() and link.resolve() == ROOT / name


def package_data() -> dict[str, set[Path]]:
    """Pattern -> the files that it takes into the wheel."""
    listed = PYPROJECT["tool"]["setuptools"]["package-data"]
    return {
        f"{package}: {pattern}": set(ROOT.joinpath(*package.split(".")).glob(pattern))
        for package, patterns in listed.items()
        for pattern in patterns
    }


def test_package_data_exist():
    assert [pattern for pattern, files in package_data().items() if not files] == []


def test_every_file_that_is_no_code_is_package_data():
    listed = set().union(*package_data().values())
    for folder, _, names in os.walk(ROOT / "gaussiantalker_ns"):
        files = {Path(folder, name) for name in names if not name.endswith((".py", ".pyc"))}
        assert Path(folder).name == "__pycache__" or files <= listed, files - listed


def test_import_is_light():
    code = (
        "import sys, gaussiantalker_ns; "
        "print(sorted({'torch', 'nerfstudio', 'numpy'} & set(sys.modules)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"


def test_the_run_time_imports_little():
    """Beyond these libraries only our own modules and Python's are loaded; numba looks at SciPy's
    version, no more."""
    code = (
        "import sys, torch, numba, av, numpy, cv2, jaxtyping, PIL.Image, psutil, safetensors;"
        "names = lambda: {name.partition('.')[0] for name in sys.modules};"
        "before, scipy = names(), 'scipy.ndimage scipy.spatial scipy.sparse'.split();"
        "import gaussiantalker_ns.inference.drive_job;"
        "import gaussiantalker_ns.kernels.rasterizer, gaussiantalker_ns.kernels.deformation;"
        "from gaussiantalker_ns import Talker;"
        "found = names() - before - {'gaussiantalker_ns'} - sys.stdlib_module_names;"
        "print(sorted(found), sorted(set(scipy) & set(sys.modules)), Talker.__name__)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[] [] Talker"


@pytest.mark.parametrize(
    "group", ["console_scripts", "nerfstudio.method_configs", "nerfstudio.dataparser_configs"]
)
def test_declared_entry_points_load(group):
    key = {"console_scripts": "scripts"}.get(group)
    project = PYPROJECT["project"]
    declared = project["scripts"] if key else project["entry-points"][group]
    installed = {
        point.name: point
        for point in entry_points(group=group)
        if point.value.startswith("gaussiantalker_ns")
    }
    assert set(installed) == set(declared)
    for point in installed.values():
        assert point.load() is not None
