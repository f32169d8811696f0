"""Figures from programs that cannot be shipped: OpenFace and SyncNet, run on our videos."""

from dataclasses import dataclass
from pathlib import Path

from gaussiantalker_ns.evaluation.action_units import action_unit_errors, read_openface

BOTH_VIDEOS = (
    "render and truth (for a run render.mp4 and truth.mp4, which come with the pictures; with"
    " --audio truth is the recording, with --videos both are yours)"
)
SYNC_NEEDS = (
    f"needs SyncNet: run its public scorer on {BOTH_VIDEOS} and give both confidences with --sync"
)
OPENFACE_NEEDS = (
    f"needs OpenFace: run FeatureExtraction on {BOTH_VIDEOS} and name both tables with"
    " --openface-csv"
)


@dataclass(frozen=True)
class Elsewhere:
    """What programs that cannot be shipped have measured on the videos of an evaluation."""

    openface_csv: tuple[Path, Path] | None = None
    """OpenFace's tables of render and truth."""
    sync: tuple[float, float] | None = None
    """SyncNet's confidence of render and truth."""

    def figures(self) -> dict[str, float]:
        """AUE and Sync, as far as they are there.

        Raises:
            FileNotFoundError: A table is missing.
            ValueError: The tables cannot be compared.
        """
        found = {} if self.sync is None else {"sync": self.sync[0]}
        if self.openface_csv is not None:
            rendered, real = (read_openface(path) for path in self.openface_csv)
            found.update(action_unit_errors(rendered, real))
        return found

    @property
    def ground_truth(self) -> dict[str, float]:
        """Sync of the real video."""
        return {} if self.sync is None else {"sync": self.sync[1]}

    @property
    def not_measured(self) -> dict[str, str]:
        """What is not there, and how to get it."""
        missing = {} if self.sync is not None else {"sync": SYNC_NEEDS}
        if self.openface_csv is None:
            missing.update(dict.fromkeys(("aue", "aue_lower", "aue_upper"), OPENFACE_NEEDS))
        return missing
