"""What a running training tells other programs: its step, its time left, its last picture."""

import time
from pathlib import Path

import numpy as np
from jaxtyping import Float
from torch import Tensor

from gaussiantalker_ns.files import ProgressFile, write_image

PROGRESS_NAME = "progress.json"
PICTURE_NAME = "picture.jpg"
"""Names in the folder that a training is given."""

WARM_UP_STEPS = 5
"""Steps at the start of each stage that are too slow to tell the time left by."""


class TrainingProgress:
    """Keeps the two files in a folder up to date."""

    def __init__(self, folder: Path, start_step: int, num_steps: int, canonical_steps: int) -> None:
        """Note how long the training is.

        Args:
            folder: Where the files are written; it is made.
            start_step: The first step, above 0 for a training that goes on.
            num_steps: Steps of both stages together.
            canonical_steps: Length of the canonical stage.
        """
        self.folder = folder
        self.start_step = start_step
        self.num_steps = num_steps
        self.canonical_steps = canonical_steps
        self._file = ProgressFile(folder / PROGRESS_NAME)
        self._timed_from: tuple[int, float] | None = None

    def after_step(self, step: int) -> None:
        """Tell that a step is done."""
        canonical = step < self.canonical_steps
        seconds_left = None
        first = self.start_step if canonical else max(self.start_step, self.canonical_steps)
        if step <= first + WARM_UP_STEPS:
            self._timed_from = (step, time.monotonic())
        elif self._timed_from is not None:
            done, began_s = self._timed_from
            step_s = (time.monotonic() - began_s) / (step - done)
            # A step of the other stage has another price, which is not known before it begins.
            seconds_left = step_s * (self.num_steps - step - 1)
        facts: dict[str, object] = {
            "stage": "canonical" if canonical else "deformation",
            "done": step + 1,
            "total": self.num_steps,
            "seconds_left": seconds_left,
        }
        self._file.tell(facts, at_once=step in (self.start_step, self.num_steps - 1))

    def show(self, truth_render_difference: Float[Tensor, "h wd 3"]) -> None:
        """Keep the true frame and its render, side by side, of Nerfstudio's evaluation picture.

        Args:
            truth_render_difference: Three pictures beside each other, in [0, 1].
        """
        width = truth_render_difference.shape[1] // 3 * 2
        shown = truth_render_difference[:, :width].detach().clamp(0, 1).cpu().numpy()
        write_image(self.folder / PICTURE_NAME, np.round(shown * 255).astype(np.uint8))
