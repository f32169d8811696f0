"""Make the talker that comes with the package: process the sample clip, train on it, pack it.

Run `python -m gaussiantalker_ns.scripts.dev.make_talker --work-dir FOLDER` (about a quarter of an
hour on two cores). What is done is not done again; a new network needs a new folder. The checksum
that it prints belongs into the NOTICE of the assets; a test compares the two.
"""

import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import tyro

from gaussiantalker_ns.assets import ASSETS_DIR, asset_path
from gaussiantalker_ns.files import sha256_of, write_text

CONSENT = "Nobody is shown: the presenter is a rendered character, and the voice is a synthesiser."
LICENCE = "CC0 1.0 (public domain)"
NAME = "sample/presenter.talker"

MOST_BYTES = 6_000_000
"""What the package has room for."""


@dataclass
class MakeTalker:
    """Where to work, and how exactly the presenter is kept."""

    work_dir: Path
    """Folder of data set and run."""
    data: Path | None = None
    """The sample's data set, if it has been processed before."""
    run: Path | None = None
    """The sample's run, if it has been trained before; needs no other step than packing."""
    num_threads: int = 2
    """CPU threads of the training."""
    track_seconds: float = 40.0
    """Length of the motion track, at most the whole clip's."""

    def main(self) -> Path:
        """Make the file and its entry in the NOTICE; returns its path."""
        data = self.data or self.process()
        run = self.run or self.train(data)
        return self.pack(run, data)

    def process(self) -> Path:
        """The data set of the sample clip; a second run finds it done."""
        data = self.work_dir / "data"
        video = str(asset_path("sample/presenter.mp4"))
        options = ["--video", video, "--output-dir", str(data), "--consent", CONSENT]
        gaussiantalker("process", *options)
        return data

    def train(self, data: Path) -> Path:
        """The trained run, `gaussiantalker-cpu` with its defaults."""
        run = self.work_dir / "presenter" / "gaussiantalker-cpu" / "trained"
        if not (run / "presenter.talker").is_file():
            options = ["gaussiantalker-cpu", "--data", str(data), "--output-dir"]
            options += [str(self.work_dir), "--experiment-name", "presenter"]
            options += ["--timestamp", "trained", "--vis", "tensorboard"]
            options += ["--pipeline.num-threads", str(self.num_threads)]
            subprocess.run([program("ns-train"), *options], check=True)
        return run

    def pack(self, run: Path, data: Path) -> Path:
        """The file, small enough for the package, and its checksum in the NOTICE."""
        output = ASSETS_DIR / NAME
        options = ["--load-config", str(run), "--data", str(data), "--output", str(output)]
        options += ["--precision", "float16", "--licence", LICENCE, "--overwrite"]
        options += ["--track-seconds", str(self.track_seconds)]
        gaussiantalker("pack", *options)
        size = output.stat().st_size
        if size > MOST_BYTES:
            raise ValueError(
                f"{output} has {size} bytes; expected at most {MOST_BYTES}. Lower --track-seconds."
            )
        notice = ASSETS_DIR / "NOTICE"
        write_text(notice, with_checksum(notice.read_text(encoding="utf-8"), sha256_of(output)))
        return output


def with_checksum(notice: str, sha256: str) -> str:
    """The NOTICE with another checksum in the entry of the talker.

    Raises:
        ValueError: It has no such entry.
    """
    pattern = re.compile(rf"({re.escape(NAME)}\n(?:    .*\n)*?    sha256:   )[0-9a-f]{{64}}")
    changed, count = pattern.subn(lambda found: found[1] + sha256, notice)
    if count != 1:
        raise ValueError(f"The NOTICE has {count} entries of {NAME} with a sha256; expected one.")
    return changed


def program(name: str) -> str:
    """A console command of this environment."""
    return str(Path(sys.executable).with_name(name))


def gaussiantalker(*arguments: str) -> None:
    """Run a sub-command of the package."""
    subprocess.run([program("gaussiantalker"), *arguments], check=True)


if __name__ == "__main__":
    made = tyro.cli(MakeTalker).main()
    print(f"Wrote {made}: {made.stat().st_size} bytes, sha256 {sha256_of(made)}")
