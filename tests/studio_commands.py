"""Stand-ins for the commands that the studio runs: they write what the real ones write, at once.

A folder, named by the environment, says how they behave and keeps what they were called with:
`hold` has every command wait until that file is gone, `fail` has it end with the file's text as its
error.
"""

import json
import os
import shutil
import sys
import time
from pathlib import Path

CONTROL = "FAKE_STUDIO_COMMANDS"
REPORT = "<!doctype html><title>Report</title><p>A good video.</p>"


def call_arguments(arguments: list[str]) -> dict[str, str]:
    pairs = (one[2:].partition("=") for one in arguments if one.startswith("--"))
    return {name: value for name, _, value in pairs}


def wait(control: Path) -> None:
    if (control / "fail").exists():
        print("\x1b[31m" + (control / "fail").read_text() + "\x1b[0m", file=sys.stderr)
        sys.exit(1)
    while (control / "hold").exists():
        time.sleep(0.02)


def process(options: dict[str, str], control: Path) -> None:
    data = Path(options["output-dir"])
    data.mkdir(parents=True, exist_ok=True)
    progress = {"step": "landmarks", "done": 3, "total": 8}
    Path(options["progress-file"]).write_text(json.dumps(progress))
    (data / "talker.json").write_text(json.dumps({"steps": {"video": {}}}))
    wait(control)
    (data / "report.html").write_text(REPORT)


def train(options: dict[str, str], control: Path, method: str) -> None:
    run = Path(options["output-dir"], options["experiment-name"], method, options["timestamp"])
    checkpoints = run / "nerfstudio_models"
    checkpoints.mkdir(parents=True, exist_ok=True)
    (run / "config.yml").write_text("")
    first = 10 if "load-dir" in options else 0
    last = first + int(options["max-num-iterations"])
    told = Path(options["pipeline.progress-dir"])
    facts = {"stage": "canonical", "done": first + 1, "total": last, "seconds_left": 65.0}
    (told / "progress.json").write_text(json.dumps(facts))
    (told / "picture.jpg").write_bytes(b"a picture")
    if first == 0:
        (checkpoints / "step-000000009.ckpt").touch()
    wait(control)
    (checkpoints / f"step-{last - 1:09d}.ckpt").touch()


def main(program: str, *arguments: str) -> None:
    control = Path(os.environ[CONTROL])
    with (control / "calls.jsonl").open("a") as calls:
        calls.write(json.dumps([program, *arguments]) + "\n")
    options = call_arguments(list(arguments))
    if program == "ns-train":
        train(options, control, arguments[0])
    elif arguments[0] == "process":
        process(options, control)
    elif arguments[0] == "pack":
        wait(control)
        shutil.copy(os.environ["FAKE_STUDIO_TALKER"], options["output"])
    else:
        Path(options["progress-file"]).write_text(json.dumps({"done": 2, "total": 5}))
        wait(control)
        Path(options["output"]).write_bytes(b"a video")


if __name__ == "__main__":
    main(*sys.argv[1:])
