"""Two and five commands at once in one folder: exactly one works, the others say whose it is.

    python -m gaussiantalker_ns.scripts.dev.concurrent_commands FOLDER [--rounds drive:2 ...]

Every round starts commands with two inputs in turn, 0 to 3 s apart, all with the same output. What
the winner leaves must have the checksums of a run that was alone, so that nothing is mixed. In the
rounds called `killed` the first command is killed while it works, and the next one must follow.
What lone runs left is remembered in FOLDER, so that the rounds may be run in several parts.

It has more than 300 lines: four commands, what each leaves behind, and one way to judge them.
"""

import hashlib
import json
import random
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import tyro

from gaussiantalker_ns.assets import asset_path
from gaussiantalker_ns.files import sha256_of, write_text
from gaussiantalker_ns.folder_lock import LOCK_NAME

GAUSSIANTALKER = "from gaussiantalker_ns.scripts.cli import main; main()"
NS_TRAIN = "from nerfstudio.scripts.train import entrypoint; entrypoint()"

INPUTS = ("a", "b")
"""Two inputs whose outputs differ in every file that matters."""

LATEST_START_S = 3.0
IN_USE = re.compile(r"is in use by .*\(process (\d+) on ")
ALREADY_THERE = re.compile(r"exists already|holds the data set of another video|was made with")
"""What one says that comes when the winner is done."""

ROUNDS = (
    *["drive:2"] * 5,
    *["drive:5"] * 4,
    *["process:2"] * 4,
    *["process:5"] * 2,
    *["ablate:2"] * 3,
    *["ablate:5"] * 2,
    *["train:2"] * 2,
    "process:killed",
    "drive:killed",
    "train:killed",
)

Checksums = dict[str, str]


@dataclass
class Config:
    """Start commands at once."""

    folder: tyro.conf.Positional[Path]
    """Where inputs, outputs and the checksums of lone runs go; must not hold anything else."""
    rounds: tuple[str, ...] = ROUNDS
    """Command and how many of it: drive, process, ablate or train, and a number or `killed`."""
    latest_start_s: float = LATEST_START_S
    """The commands of a round start within this time."""
    clip_seconds: float = 3.2
    """Length of the two clips; `process` wants 3 s at least."""
    seed: int = 0
    """Fixes the starts."""


@dataclass(frozen=True)
class Command:
    """A command line with an input, and what it leaves behind."""

    arguments: Callable[[str], list[str]]
    """Name of an input -> arguments of Python."""
    output: Path
    checksums: Callable[[Path], Checksums]
    """Output -> what must not depend on the other commands."""


def file_checksums(folder: Path, *left_out: str) -> Checksums:
    """Every file of a folder, without some names."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    kept = [path for path in files if path.name not in left_out]
    return {str(path.relative_to(folder)): sha256_of(path) for path in kept}


def video_checksums(video: Path) -> Checksums:
    """Encoded pictures and sound, what the record beside them says, and the names of all files."""
    import av

    found = {path.name: "" for path in video.parent.iterdir()}
    with av.open(str(video)) as container:
        for stream in container.streams:
            digest = hashlib.sha256()
            for packet in container.demux(stream):
                digest.update(bytes(packet))
            container.seek(0)
            found[f"stream {stream.index}"] = digest.hexdigest()
    record = json.loads(video.with_name(f"{video.name}.provenance.json").read_text())
    del record["created"]
    return {**found, "record": json.dumps(record, sort_keys=True)}


def weights(folder: Path) -> Checksums:
    """The trained numbers of every checkpoint in a folder."""
    import torch

    found = {}
    for path in sorted(folder.rglob("*.ckpt")):
        state = torch.load(path, map_location="cpu", weights_only=True)["pipeline"]
        digest = hashlib.sha256()
        for name, value in sorted(state.items()):
            digest.update(name.encode())
            digest.update(
                value.numpy().tobytes() if hasattr(value, "numpy") else repr(value).encode()
            )
        found[str(path.relative_to(folder))] = digest.hexdigest()
    return found


def study_checksums(folder: Path) -> Checksums:
    """The weights and figures of a study; its times differ."""
    found = weights(folder)
    for path in sorted(folder.rglob("result.json")):
        stored = json.loads(path.read_text())
        figures = stored["identity"], [point["metrics"] for point in stored["curve"]]
        found[str(path.relative_to(folder))] = json.dumps(figures, sort_keys=True)
    return found


@dataclass
class Commands:
    """The inputs, and the four commands that use them."""

    config: Config
    alone: dict[str, Checksums] = field(init=False)
    """Command and input -> checksums of a run that was alone."""

    def __post_init__(self) -> None:
        """Read what is known from before, and make the clips."""
        self.alone = json.loads(self.record.read_text()) if self.record.is_file() else {}
        if not self.inputs.is_dir():
            self.make_clips()

    @property
    def record(self) -> Path:
        """File of the checksums of lone runs."""
        return self.config.folder / "alone.json"

    @property
    def inputs(self) -> Path:
        """Folder of clips, recordings and data sets."""
        return self.config.folder / "inputs"

    @property
    def work(self) -> Path:
        """Folder of all outputs."""
        return self.config.folder / "work"

    def make_clips(self) -> None:
        """Cut two clips, with their sound, out of the packaged presenter's."""
        self.inputs.mkdir(parents=True)
        for number, name in enumerate(INPUTS):
            cut_clip(
                asset_path("sample/presenter.mp4"),
                self.inputs / f"{name}.mp4",
                5.0 + 10.0 * number,
                self.config.clip_seconds,
            )

    def command(self, name: str) -> Command:
        """The command of that name."""
        inputs, work = self.inputs, self.work
        train = ["--pipeline.canonical-steps", "3", "--max-num-iterations", "8", "--vis"]
        train += ["tensorboard", "--output-dir", str(work), "--experiment-name", "train"]
        train += ["--timestamp", "run", "--pipeline.num-threads", "1", "--steps-per-save", "4"]
        train += ["--pipeline.model.articulation.steps", "5"]
        ablate = ["--table", "5", "--rows", "reference", "--seeds", "1", "--canonical-steps", "2"]
        ablate += ["--num-steps", "6", "--output-dir", str(work / "study")]
        process = ["--size", "128", "--output-dir", str(work / "data")]
        drive = ["--output", str(work / "talk.mp4"), "--end", "0.8"]
        commands = {
            "process": Command(
                lambda name: gaussiantalker("process", "--video", inputs / f"{name}.mp4", *process),
                work / "data",
                lambda folder: file_checksums(folder, "report.html"),
            ),
            "drive": Command(
                lambda name: gaussiantalker("drive", "--audio", inputs / f"{name}.mp4", *drive),
                work / "talk.mp4",
                video_checksums,
            ),
            "ablate": Command(
                lambda name: gaussiantalker("ablate", "--data", self.data(name), *ablate),
                work / "study",
                study_checksums,
            ),
            "train": Command(
                lambda name: [
                    "-c", NS_TRAIN, "gaussiantalker-cpu", "--data", str(self.data(name)), *train
                ],
                work / "train" / "gaussiantalker-cpu" / "run",
                weights,
            ),
        }  # fmt: skip
        return commands[name]

    def data(self, name: str) -> Path:
        """The data set of an input, which is made when it is wanted first."""
        folder = self.inputs / f"data-{name}"
        if not folder.is_dir():
            video = self.inputs / f"{name}.mp4"
            made = gaussiantalker("process", "--video", video, "--size", "128", "--output-dir")
            subprocess.run([sys.executable, *made, str(folder)], check=True, capture_output=True)
        return folder

    def checksums_alone(self, name: str, given: str) -> Checksums:
        """What a command leaves behind when it is alone; run when it is asked for first."""
        key = f"{name} {given}"
        if key not in self.alone:
            self.clear()
            command = self.command(name)
            arguments = [sys.executable, *command.arguments(given)]
            done = subprocess.run(arguments, capture_output=True, text=True, check=False)
            if done.returncode != 0:
                raise RuntimeError(f"{name} alone failed:\n{done.stdout}\n{done.stderr}")
            found = command.checksums(command.output)
            assert found and found not in self.alone.values(), "the inputs cannot be told apart"
            self.alone[key] = found
            write_text(self.record, json.dumps(self.alone))
        return self.alone[key]

    def clear(self) -> None:
        """Remove all outputs."""
        shutil.rmtree(self.work, ignore_errors=True)
        self.work.mkdir(parents=True)


def gaussiantalker(*arguments: str | Path) -> list[str]:
    """Arguments of Python that run our command."""
    return ["-c", GAUSSIANTALKER, *map(str, arguments)]


def cut_clip(source: Path, target: Path, start_s: float, length_s: float) -> None:
    """Copy a part of a video with its sound, decoded and encoded again."""
    import av
    from av.video.frame import PictureType

    with av.open(str(source)) as container, av.open(str(target), "w") as written:
        picture, sound = container.streams.video[0], container.streams.audio[0]
        assert picture.average_rate is not None and sound.rate is not None
        video = written.add_stream("libx264", rate=picture.average_rate, options={"crf": "16"})
        video.width, video.height, video.pix_fmt = picture.width, picture.height, "yuv420p"
        audio = written.add_stream("aac", rate=sound.rate)
        streams = {"video": video, "audio": audio}
        for frame in container.decode(picture, sound):
            kind = "video" if isinstance(frame, av.VideoFrame) else "audio"
            if frame.time is None or not start_s <= frame.time < start_s + length_s:
                continue
            assert frame.time_base is not None, "decoded frames have a time base"
            frame.pts = round((frame.time - start_s) / float(frame.time_base))
            if isinstance(frame, av.VideoFrame):
                frame.pict_type = PictureType.NONE
            written.mux(streams[kind].encode(frame))
        for stream in streams.values():
            written.mux(stream.encode(None))


@dataclass(frozen=True)
class Ended:
    """How one of several commands ended."""

    given: str
    pid: int
    status: int
    said: str


def run_at_once(command: Command, starts_s: list[float]) -> list[Ended]:
    """Start commands with the inputs in turn, after the given times, and wait for all."""
    begun, running = time.monotonic(), []
    for number, start_s in sorted(enumerate(starts_s), key=lambda item: item[1]):
        time.sleep(max(begun + start_s - time.monotonic(), 0.0))
        given = INPUTS[number % len(INPUTS)]
        process = subprocess.Popen(
            [sys.executable, *command.arguments(given)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        running.append((given, process))
    ended = []
    for given, process in running:
        said = process.communicate()[0]
        ended.append(Ended(given, process.pid, process.returncode, said))
    return ended


def faults(ended: list[Ended], found: Checksums, alone: Callable[[str], Checksums]) -> list[str]:
    """What is not as it should be after several commands: nothing, if exactly one has won."""
    winners = [one for one in ended if one.status == 0]
    if len(winners) != 1:
        return [f"{len(winners)} of {len(ended)} commands won", *(one.said for one in ended)]
    (winner,) = winners
    wrong = []
    for one in ended:
        if one is winner:
            continue
        named = IN_USE.search(" ".join(one.said.split()))
        if named is None and not ALREADY_THERE.search(" ".join(one.said.split())):
            wrong.append(f"one said neither whose it is nor that it is done:\n{one.said}")
        elif named is not None and int(named[1]) != winner.pid:
            wrong.append(f"process {named[1]} was named, but {winner.pid} has won")
    return wrong + mixed(found, alone(winner.given))


def mixed(found: Checksums, wanted: Checksums) -> list[str]:
    """Which files are not those of a run that was alone."""
    names = sorted(found.keys() | wanted.keys())
    return [f"{name} differs" for name in names if found.get(name) != wanted.get(name)]


def kill_at_work(command: Command, work: Path, delay_s: float) -> None:
    """Start a command, and kill it some time after it has become the owner."""
    process = subprocess.Popen(
        [sys.executable, *command.arguments(INPUTS[0])],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while not any(work.rglob(f"*{LOCK_NAME}")):
        if process.poll() is not None:
            raise RuntimeError("the command ended before it was seen at work")
        time.sleep(0.01)
    time.sleep(delay_s)
    process.kill()
    process.wait()
    assert any(work.rglob(f"*{LOCK_NAME}")), "it was killed too late"


def run_round(commands: Commands, name: str, number: str, draw: random.Random) -> list[str]:
    """Run one round and say what is wrong with it."""
    commands.clear()
    command = commands.command(name)
    if number == "killed":
        kill_at_work(command, commands.work, draw.uniform(0.0, 1.0))
        ended = run_at_once(command, [0.0])
    else:
        latest = commands.config.latest_start_s
        ended = run_at_once(command, [draw.uniform(0.0, latest) for _ in range(int(number))])
    found = command.checksums(command.output)
    return faults(ended, found, lambda given: commands.checksums_alone(name, given))


def run_rounds(config: Config) -> Iterator[tuple[str, list[str]]]:
    """Run all rounds; each gives its name and what is wrong."""
    commands = Commands(config)
    draw = random.Random(config.seed)
    for round_ in config.rounds:
        name, number = round_.split(":")
        yield round_, run_round(commands, name, number, draw)


def main(config: Config) -> None:
    """Print a line a round, and exit with 1 if something was wrong."""
    failed = 0
    for number, (name, wrong) in enumerate(run_rounds(config), start=1):
        failed += bool(wrong)
        print(f"{number:3d} of {len(config.rounds)}  {name:16s} {wrong or 'one won'}", flush=True)
    print(f"{len(config.rounds) - failed} of {len(config.rounds)} rounds as they should be")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main(tyro.cli(Config))
