#!/usr/bin/env bash
# Build the wheel, install it without the checkout on the path, and run its entry points.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/environment.sh
prepare_environment ".[dev]"
python=$(cd "$(dirname "$PYTHON")" && pwd)/$(basename "$PYTHON")

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$python" -m build --wheel --outdir "$work/dist" . > "$work/build.log" 2>&1 || { cat "$work/build.log"; exit 1; }
"$python" -m venv "$work/venv"
install_into "$work/venv/bin/python" "$work"/dist/*.whl

cd "$work"
venv/bin/python - << 'PYTHON'
import sys
from importlib.metadata import distribution

files = distribution("gaussiantalker-ns").files or []
top_level = {file.parts[0] for file in files if file.parts[0] != ".." and not file.parts[0].endswith(".dist-info")}
assert top_level == {"gaussiantalker_ns"}, f"the wheel installs {sorted(top_level)}, expected only gaussiantalker_ns"

import gaussiantalker_ns

assert "site-packages" in gaussiantalker_ns.__file__, gaussiantalker_ns.__file__
heavy = {"torch", "nerfstudio"} & set(sys.modules)
assert not heavy, f"importing gaussiantalker_ns loaded {sorted(heavy)}"
print(f"gaussiantalker_ns {gaussiantalker_ns.__version__}: one top-level name, nothing heavy imported")

from gaussiantalker_ns.assets import ASSET_SHA256, asset_path
from gaussiantalker_ns.viewer.client import page_script

assert page_script().strip(), "the viewer's client.js is empty"
for name in (*ASSET_SHA256, "sample/presenter.talker"):
    asset_path(name)
print("The viewer's script and the model files came with the wheel")
PYTHON
venv/bin/gaussiantalker --help
venv/bin/gaussiantalker doctor
talker=$(venv/bin/python -c 'from gaussiantalker_ns.assets import asset_path; print(asset_path("sample/presenter.talker"))')
venv/bin/gaussiantalker info "$talker" --picture presenter.png
venv/bin/ns-train --help > ns-train.txt
grep -q nerfacto ns-train.txt
echo "The wheel's commands work outside the checkout."
