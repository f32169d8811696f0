"""What the studio may do, and with which commands."""

import sys
from dataclasses import dataclass, field

MIB = 2**20

GAUSSIANTALKER = (sys.executable, "-c", "from gaussiantalker_ns.scripts.cli import main; main()")
NS_TRAIN = (sys.executable, "-c", "from nerfstudio.scripts.train import entrypoint; entrypoint()")
"""The commands, run by this environment's Python, whatever the PATH says."""


@dataclass(frozen=True)
class Training:
    """One quality that a user may choose."""

    key: str
    """Its name in addresses and files."""
    title: str
    """Its name on the page."""
    explanation: str
    """What it costs and gives, one sentence."""
    method: str
    """Name after `ns-train`."""
    num_steps: int
    """Steps of both stages together."""
    canonical_steps: int
    """Length of the canonical stage."""
    options: tuple[str, ...] = ()
    """Further options of `ns-train`."""

    @property
    def picture_steps(self) -> int:
        """Steps between two evaluation pictures: twenty in a training, at least ten apart."""
        return max(self.num_steps // 20, 10)


CPU_TRAININGS = (
    Training(
        "quick",
        "Quick look",
        "A few minutes. Softer, and good enough to see whether the video works.",
        "gaussiantalker-cpu",
        1200,
        400,
    ),
    Training(
        "full",
        "Full quality",
        "About ten minutes on two cores for a video of a minute.",
        "gaussiantalker-cpu",
        6000,
        800,
    ),
)
"""For machines without CUDA; the first is that of `scripts/demo.sh --fast`."""

CUDA_TRAININGS = (
    Training(
        "quick",
        "Quick look",
        "A few minutes. Softer, and good enough to see whether the video works.",
        "gaussiantalker",
        3000,
        1000,
    ),
    Training(
        "full",
        "Full quality",
        "The paper's training: about a quarter of an hour on a large GPU.",
        "gaussiantalker",
        18_000,
        8000,
    ),
)
"""For machines with CUDA."""


def trainings_here() -> tuple[Training, ...]:
    """The qualities that suit this machine."""
    import torch

    return CUDA_TRAININGS if torch.cuda.is_available() else CPU_TRAININGS


@dataclass(frozen=True)
class StudioSettings:
    """Bounds and commands of the studio; its places follow from the server's library."""

    trainings: tuple[Training, ...] = field(default_factory=trainings_here)
    """The qualities on offer, the default first."""
    gaussiantalker: tuple[str, ...] = GAUSSIANTALKER
    """The command `gaussiantalker`, as an argument list."""
    ns_train: tuple[str, ...] = NS_TRAIN
    """The command `ns-train`, as an argument list."""
    most_video_bytes: int = 2048 * MIB
    """Largest video that is taken."""
    most_audio_bytes: int = 64 * MIB
    """Largest recording that a talker speaks."""
    most_piece_bytes: int = 8 * MIB
    """Largest part of an upload in one request."""
    upload_s: float = 24 * 3600.0
    """An upload that is not finished after so long is removed, in seconds."""
    least_video_s: float = 8.0
    """Shortest video that is taken, in seconds."""
    most_video_s: float = 600.0
    """Longest video that is taken, in seconds."""
    most_audio_s: float = 600.0
    """Longest recording that a talker speaks, in seconds."""
    spare_bytes: int = 2048 * MIB
    """Free space below which nothing new is begun."""
    most_projects: int = 64
    """Projects at a time, so that nobody fills the disk with empty ones."""
    most_videos: int = 24
    """Videos of one talker at a time."""

    def training(self, key: str) -> Training:
        """The quality of a name.

        Raises:
            ValueError: There is none of that name.
        """
        found = next((one for one in self.trainings if one.key == key), None)
        if found is None:
            names = ", ".join(one.key for one in self.trainings)
            raise ValueError(f"{key!r} is no quality of this machine; expected one of {names}.")
        return found
