"""`scripts/demo.sh` with commands that only write down what they were asked for."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]

COMMANDS = {
    "python": 'exec {python} "$@"',
    "ns-train": "true",
    "gaussiantalker": """
echo "$*" >> {log}
case $1 in
drive) touch "$7"; sha256sum "$5" > "$7.provenance.json" ;;
evaluate) mkdir -p "$3/evaluation"; touch "$3/evaluation/evaluation."{{html,md}} ;;
esac
""",
}
"""Command -> its script in the pretended environment."""


def pretended_environment(folder: Path, log: Path) -> Path:
    """A virtual environment in which the demo finds everything installed."""
    (folder / "bin").mkdir(parents=True)
    for name, script in COMMANDS.items():
        path = folder / "bin" / name
        path.write_text("#!/usr/bin/env bash\n" + script.format(python=sys.executable, log=log))
        path.chmod(0o755)
    stamp = "{ pwd -P; cat pyproject.toml; } | cksum > " + f"'{folder}/.gaussiantalker-ns-'"
    subprocess.run(["bash", "-c", stamp], cwd=ROOT, check=True)
    return folder


def test_another_recording_of_the_same_name_is_driven_again(tmp_path: Path):
    log = tmp_path / "log"
    variables = {
        **os.environ,
        "GAUSSIANTALKER_VENV": str(pretended_environment(tmp_path / "venv", log)),
        "GAUSSIANTALKER_DEMO": str(tmp_path / "demo"),
    }
    (tmp_path / "me.mp4").touch()
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "speech.wav").write_text(folder)
    for folder in ("a", "a", "b", "b", "a"):
        files = [str(tmp_path / "me.mp4"), str(tmp_path / folder / "speech.wav")]
        subprocess.run(
            ["bash", "scripts/demo.sh", *files],
            cwd=ROOT, env=variables, check=True, capture_output=True,
        )  # fmt: skip
    heard = [line.split()[4] for line in log.read_text().splitlines() if line.startswith("drive")]
    assert [Path(path).parent.name for path in heard] == ["a", "b", "a"]
