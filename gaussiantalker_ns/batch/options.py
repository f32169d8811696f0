"""Options of the stages, as columns of a table: `process.size`, `train.steps`, `drive.pose` ..."""

from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Any, Literal, Union, get_args, get_origin, get_type_hints

if TYPE_CHECKING:
    from nerfstudio.engine.trainer import TrainerConfig

    from gaussiantalker_ns.inference.motion import MotionConfig
    from gaussiantalker_ns.inference.scene import Scene
    from gaussiantalker_ns.inference.talker_file.pack import PackOptions
    from gaussiantalker_ns.preprocess.steps import ProcessSettings

# What the options become is imported where it is made: a plan of many rows needs none of it.


@dataclass(frozen=True)
class ProcessOptions:
    """Options of `gaussiantalker process`, under its names."""

    start: float = 0.0
    end: float | None = None
    take: Literal["longest", "all"] = "longest"
    face: str = "largest"
    audio_track: int | None = None
    crop: str = "auto"
    size: int = 512
    focal: float | None = None
    segmenter: Literal["auto", "builtin", "parsing"] = "auto"
    av_offset: float | None = None

    def settings(
        self, video: Path | None, consent: str | None = None, num_workers: int = 0
    ) -> "ProcessSettings":
        """For the library.

        Raises:
            ValueError: A value makes no sense.
        """
        from gaussiantalker_ns.preprocess.steps import ProcessSettings
        from gaussiantalker_ns.preprocess.video.extract import VideoConfig

        chosen = ("start", "end", "take", "face", "audio_track", "crop", "size")
        return ProcessSettings(
            video=video,
            video_config=VideoConfig(**{name: getattr(self, name) for name in chosen}),
            focal=self.focal,
            segmenter=self.segmenter,
            av_offset_ms=self.av_offset,
            consent=consent,
            num_workers=num_workers,
        )

    def check(self) -> None:
        """Check that the values make sense.

        Raises:
            ValueError: One does not.
        """
        self.settings(None)


@dataclass(frozen=True)
class TrainOptions:
    """What is trained: a preset, shortened or lengthened."""

    preset: Literal["cpu", "paper", "lite"] = "cpu"
    """gaussiantalker-cpu, gaussiantalker or gaussiantalker-lite."""
    steps: int | None = None
    """Steps of both stages together; None takes the preset's."""
    canonical_steps: int | None = None
    """Steps of the canonical stage; None takes the preset's."""
    image_size: int | None = None
    """Side of the pictures in the training; None takes the preset's."""
    num_points: int | None = None
    """Gaussians at the start; None takes the preset's."""
    seed: int = 42

    def config(self) -> "TrainerConfig":
        """The trainer's configuration, without data set and folder.

        Raises:
            ValueError: The steps leave nothing for the stage in which the head learns to speak.
        """
        import copy

        from gaussiantalker_ns.config import gaussiantalker, gaussiantalker_cpu, gaussiantalker_lite

        presets = {"cpu": gaussiantalker_cpu, "paper": gaussiantalker, "lite": gaussiantalker_lite}
        config: Any = copy.deepcopy(presets[self.preset].config)
        config.machine.seed = self.seed
        config.pipeline.datamanager.train_cameras_sampling_seed = self.seed
        if self.steps is not None:
            config.max_num_iterations = self.steps
        if self.canonical_steps is not None:
            config.pipeline.canonical_steps = self.canonical_steps
        parser = config.pipeline.datamanager.dataparser
        parser.image_size = self.image_size or parser.image_size
        parser.num_points = self.num_points or parser.num_points
        canonical, steps = config.pipeline.canonical_steps, config.max_num_iterations
        if not 0 <= canonical < steps:
            raise ValueError(
                f"train.canonical_steps is {canonical} and train.steps (of both stages) {steps};"
                " expected at least 0 and fewer than all. Change one of them."
            )
        return config

    def check(self) -> None:
        """Check that the values make sense.

        Raises:
            ValueError: One does not.
        """
        self.config()


@dataclass(frozen=True)
class PackingOptions:
    """Options of `gaussiantalker pack`, under its names."""

    precision: Literal["float32", "float16"] = "float32"
    track_seconds: float = 40.0
    torso_quality: int | None = None
    licence: str | None = None

    def options(self) -> "PackOptions":
        """For the library.

        Raises:
            ValueError: A value makes no sense.
        """
        from gaussiantalker_ns.inference.talker_file.pack import PackOptions

        return PackOptions(**asdict(self))

    def check(self) -> None:
        """Check that the values make sense.

        Raises:
            ValueError: One does not.
        """
        self.options()


WORDS = {
    "pose": ("track", "still"),
    "blink": ("auto", "track", "none"),
    "background": ("clip", "alpha"),
}
"""Options of driving that take a file -> the words that are none."""


@dataclass(frozen=True)
class DriveOptions:
    """Options of `gaussiantalker drive`, under its names."""

    start: float = 0.0
    end: float | None = None
    audio_track: int | None = None
    pose: str = "track"
    blink: str = "auto"
    background: str = "clip"
    torso_mode: Literal["layer", "gaussians"] | None = None
    size: int | None = None
    lip_gain: float = 1.0
    lip_smoothing: float = 0.6
    pose_smoothing: float = 0.0
    silence_gate: bool = True
    start_frame: int = 0
    seed: int = 0

    def files(self) -> dict[str, str]:
        """Option -> the file that it names; colours and words are none."""
        named = {name: getattr(self, name) for name in WORDS}
        return {
            name: value
            for name, value in named.items()
            if value not in WORDS[name] and not value.startswith("#")
        }

    def with_files(self, files: dict[str, str]) -> "DriveOptions":
        """The same, with other places of the files that it names."""
        return replace(self, **files)

    def motion(self) -> "MotionConfig":
        """For the library: what the head does beside speaking.

        Raises:
            ValueError: A value makes no sense.
        """
        from gaussiantalker_ns.inference.motion import MotionConfig

        named: Any = {
            name: Path(value) if name in self.files() else value
            for name, value in (("pose", self.pose), ("blink", self.blink))
        }
        return MotionConfig(
            pose_smoothing_frames=self.pose_smoothing,
            lip_smoothing_frames=self.lip_smoothing,
            lip_gain=self.lip_gain,
            silence_gate=self.silence_gate,
            start_frame=self.start_frame,
            seed=self.seed,
            **named,
        )

    def scene(self) -> "Scene":
        """For the library: what is around the head.

        Raises:
            ValueError: A value makes no sense.
        """
        from gaussiantalker_ns.inference.scene import Scene

        if self.background == "alpha":
            raise ValueError(
                "drive.background is alpha, which an mp4 cannot hold; expected `clip`, a colour or"
                " a picture. `gaussiantalker drive` writes .mov files with alpha."
            )
        return Scene(self.size, self.background, self.torso_mode)

    def check(self) -> None:
        """Check that the values make sense.

        Raises:
            ValueError: One does not.
        """
        # Whether its files are there is known where they are looked for.
        plain = self.with_files({name: WORDS[name][0] for name in self.files()})
        plain.motion()
        plain.scene()
        if self.start < 0 or (self.end is not None and self.end <= self.start):
            raise ValueError(
                f"drive.start is {self.start} and drive.end {self.end}; expected 0 <= start < end"
                " in seconds."
            )


STAGE_OPTIONS: dict[str, Any] = {
    "process": ProcessOptions,
    "train": TrainOptions,
    "pack": PackingOptions,
    "drive": DriveOptions,
}
"""First part of a column's name -> the options behind the dot."""

OPTION_KINDS = {
    f"{stage}.{field.name}": get_type_hints(options)[field.name]
    for stage, options in STAGE_OPTIONS.items()
    for field in fields(options)
}
"""Column -> type of its values."""

YES, NO = ("true", "yes", "1", "on"), ("false", "no", "0", "off")


def value_of(column: str, text: str) -> Any:
    """The value that a cell states: ("process.size", "256") gives 256.

    Raises:
        ValueError: It is no value of that column.
    """
    kind = OPTION_KINDS[column]
    if get_origin(kind) in (Union, UnionType):
        kind = next(part for part in get_args(kind) if part is not type(None))
    if get_origin(kind) is Literal:
        return _one_of(column, text, get_args(kind))
    if kind is bool:
        return _one_of(column, text.lower(), (*YES, *NO)) in YES
    try:
        value = kind(text)
    except ValueError:
        value = None
    # A comparison that is false for "nan", which is a float.
    if value is None or (kind is float and not abs(value) < float("inf")):
        wanted = "a whole number" if kind is int else "a number"
        raise ValueError(f"{column} is {text!r}; expected {wanted}. Correct the cell.")
    return value


def _one_of(column: str, text: str, words: tuple[str, ...]) -> str:
    if text not in words:
        raise ValueError(
            f"{column} is {text!r}; expected one of {', '.join(words)}. Correct the cell."
        )
    return text
