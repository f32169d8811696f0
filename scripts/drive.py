"""`gaussiantalker drive`: audio in, talking video out."""

import tempfile
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

# Imported where they are used: torch takes seconds, for which `--help` should not wait.
if TYPE_CHECKING:
    from gaussiantalker_ns.files import ProgressFile
    from gaussiantalker_ns.inference.content_credentials import ContentCredentials
    from gaussiantalker_ns.inference.drive_job import DriveJob
    from gaussiantalker_ns.inference.motion import MotionConfig
    from gaussiantalker_ns.inference.talker import Talker


@dataclass
class Config:
    """Make a talking video from any audio, with any trained talker."""

    output: Path
    """The video: .mp4, .mov (ProRes with alpha) or, without ending, a folder of PNG pictures. With
    several audio files, a folder that gets one mp4 for each."""
    audio: tuple[Path, ...] = ()
    """Audio or video files in any format, of any length, or ready features of the run's encoder
    (.npy, one window per frame at 25 frames/s), which give a video without sound."""
    text: str | None = None
    """A text to speak instead, with espeak-ng's voice (the extra [sample], or the program)."""
    voice: str = "en-us"
    """The voice of --text, one that `espeak-ng --voices` lists."""
    talker: Path | None = None
    """Who talks: a .talker file, a run's config.yml, or a folder above it (the newest run is
    taken); by default the presenter that comes with the package."""
    load_config: Path | None = None
    """The same, under Nerfstudio's name."""
    features: tuple[Path, ...] = ()
    """Ready features (.npy) of the audio files, one for each, where the run's encoder cannot be run
    here; the audio is then only heard."""
    audio_track: int | None = None
    """Which audio track to use where a file has several, counted from 1; the default takes one with
    sound."""
    data: Path | None = None
    """The data set's folder of a run, if it has moved since the training."""
    pose: str = "track"
    """The head's motion: track (the training clip's, in ping-pong), still, or a file of poses."""
    blink: str = "auto"
    """Eyelids: auto (natural blinks), track (the training clip's), none, or a file."""
    torso_mode: Literal["layer", "gaussians", "paste-back"] | None = None
    """What the head is laid over; by default as trained."""
    size: int | None = None
    """Side of the video in pixels; by default as trained."""
    background: str = "clip"
    """clip (the training clip's), alpha (transparent), a colour such as #20a040, or a picture."""
    start: float = 0.0
    """Where to begin in the audio, in seconds."""
    end: float | None = None
    """Where to stop in the audio, in seconds; by default at its end."""
    lip_gain: float = 1.0
    """How far the lips move: 1 as far as in the training clip, 0.5 half, 1.5 half as much again."""
    lip_smoothing: float = 0.6
    """Strength of the low-pass over the lips' motion, in frames; 0 is off."""
    pose_smoothing: float = 0.0
    """Strength of the low-pass over the head's motion, in frames; 0 is off."""
    silence_gate: bool = True
    """Close the mouth where the audio is silent."""
    start_frame: int = 0
    """Frames of head motion and blinks to skip, so that videos need not begin alike."""
    seed: int = 0
    """Seed of the generated blinks."""
    overwrite: bool = False
    """Replace an existing output."""
    progress_file: Path | None = None
    """Keep a small JSON file there that tells other programs how many frames are done."""
    c2pa_certificate: Path | None = None
    """Sign the video (Content Credentials) with this PEM chain, the signer's certificate first."""
    c2pa_key: Path | None = None
    """The certificate's private key, a PEM file without passphrase."""
    c2pa_timestamp_url: str | None = None
    """Time-stamp server (RFC 3161) that dates the signature; by default nobody is asked."""

    def motion(self) -> "MotionConfig":
        """What the head does beside speaking."""
        from gaussiantalker_ns.inference.motion import MotionConfig

        return MotionConfig(
            pose=named_or_file(self.pose, ("track", "still")),  # pyright: ignore[reportArgumentType]
            blink=named_or_file(self.blink, ("auto", "track", "none")),  # pyright: ignore[reportArgumentType]
            pose_smoothing_frames=self.pose_smoothing,
            lip_smoothing_frames=self.lip_smoothing,
            lip_gain=self.lip_gain,
            silence_gate=self.silence_gate,
            start_frame=self.start_frame,
            seed=self.seed,
        )

    def credentials(self) -> "ContentCredentials | None":
        """What signs the videos, tried out; None if nothing is to be signed."""
        from gaussiantalker_ns.inference.content_credentials import ContentCredentials

        if self.c2pa_certificate is not None and self.c2pa_key is not None:
            return ContentCredentials.load(
                self.c2pa_certificate, self.c2pa_key, self.c2pa_timestamp_url
            )
        options = {
            "--c2pa-certificate": self.c2pa_certificate,
            "--c2pa-key": self.c2pa_key,
            "--c2pa-timestamp-url": self.c2pa_timestamp_url,
        }
        given = [name for name, value in options.items() if value is not None]
        if not given:
            return None
        missing = [name for name in ("--c2pa-certificate", "--c2pa-key") if name not in given]
        raise ValueError(
            f"{' and '.join(given)} came without {' and '.join(missing)}; expected a certificate"
            " together with its key. Add what is missing, or leave these options out."
        )

    def features_of_audio(self) -> list[Path | None]:
        """The ready features that go with every audio file."""
        if not self.features:
            return [None] * len(self.audio)
        if len(self.features) != len(self.audio):
            raise ValueError(
                f"--features names {len(self.features)} files for {len(self.audio)} of --audio;"
                " expected one for each, in the same order."
            )
        return list(self.features)

    def outputs(self) -> list[Path]:
        """The output of every audio file."""
        if not self.audio:
            raise ValueError(
                "There is nothing to say: neither --audio nor --text was given; expected a"
                " recording, or a text. Name one."
            )
        if len(self.audio) == 1:
            return [self.output]
        names = [f"{path.stem}.mp4" for path in self.audio]
        if len(set(names)) < len(names):
            raise ValueError(
                f"--audio names files that would all be written to the same video ({names});"
                " expected different file names. Drive them one by one."
            )
        return [self.output / name for name in names]


def named_or_file(value: str, names: tuple[str, ...]) -> str | Path:
    """Keep a known name, make a path of everything else."""
    return value if value in names else Path(value)


def drive_one(job: "DriveJob", talker: "Talker", file: "ProgressFile | None") -> None:
    """Run a job behind a progress bar with the frames per second, told to a file as well."""
    for notice in job.notices():
        Console().print(Text(notice, style="yellow"))
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[speed]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns) as progress:
        task = progress.add_task(f"Driving {escape(job.audio.name)}", total=None, speed="")

        def show(done: int, total: int, fps: float) -> None:
            progress.update(task, completed=done, total=total, speed=f"{fps:.1f} fps")
            if file is not None:
                file.tell({"done": done, "total": total}, at_once=done in (0, total))

        job.run(talker, show)


def run(config: Config) -> int:
    """Drive every audio file; an interrupted job goes on where it stopped.

    Raises:
        FileNotFoundError: Something that was named is not there, or no voice for a text.
        ValueError: Something cannot be used; the message says what to do.
    """
    if config.text is None:
        return drive(config)
    from gaussiantalker_ns.audio.espeak import Voice, speak_to_file

    if config.audio or config.features:
        raise ValueError(
            "--text came with --audio or --features; expected one of them: a text that is spoken,"
            " or a recording. Leave the other out."
        )
    with tempfile.TemporaryDirectory(prefix="gaussiantalker-text-") as folder:
        spoken = Path(folder) / "text.wav"
        speak_to_file(config.text, spoken, Voice(config.voice))
        return drive(replace(config, audio=(spoken,)))


def drive(config: Config) -> int:
    """Drive the audio files of a configuration."""
    from gaussiantalker_ns.files import ProgressFile
    from gaussiantalker_ns.inference.drive_job import DriveJob, refuse_an_input
    from gaussiantalker_ns.inference.scene import Scene
    from gaussiantalker_ns.inference.talker import Talker
    from gaussiantalker_ns.inference.trained_talker import chosen_talker

    named = chosen_talker(config.talker, config.load_config)
    credentials = config.credentials()
    progress_file = config.progress_file and ProgressFile(config.progress_file)
    outputs = config.outputs()
    for output in outputs:
        refuse_an_input(output, config.audio)
    jobs = [
        DriveJob(
            audio=audio,
            output=output,
            motion=config.motion(),
            scene=Scene(config.size, config.background, config.torso_mode),
            start_s=config.start,
            end_s=config.end,
            overwrite=config.overwrite,
            credentials=credentials,
            features=features,
            audio_track=config.audio_track,
        )
        for audio, output, features in zip(config.audio, outputs, config.features_of_audio())
    ]
    with ExitStack() as owned:
        # Before the run is loaded, which takes a while.
        for job in jobs:
            owned.enter_context(job.lock)
        talker = Talker.load(named, config.data)
        for job in jobs:
            drive_one(job, talker, progress_file)
            Console().print(Text(f"Wrote {job.output}"))
    return 0
