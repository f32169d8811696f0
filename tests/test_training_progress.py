"""What a running training tells other programs."""

import json

import cv2
import torch

from gaussiantalker_ns.engine import progress
from gaussiantalker_ns.engine.progress import TrainingProgress


def test_time_left_is_that_of_the_stage_and_does_not_count_its_first_steps(tmp_path, monkeypatch):
    """Steps 20 to 29 take 1 s, the first six of them 10 s; after step 29, 10 of 40 are left."""
    clock = iter([*range(0, 60, 10), *range(51, 100)])
    now = {}
    monkeypatch.setattr(progress.time, "monotonic", lambda: now["s"])
    told = TrainingProgress(tmp_path, start_step=20, num_steps=40, canonical_steps=10)
    facts = []
    for step in range(20, 30):
        now["s"] = next(clock)
        told.after_step(step)
        facts.append(json.loads((tmp_path / "progress.json").read_text()))
    assert facts[0] == {"stage": "deformation", "done": 21, "total": 40, "seconds_left": None}
    assert facts[5]["seconds_left"] is None
    assert facts[-1]["done"] == 30 and facts[-1]["seconds_left"] == 10.0


def test_the_picture_shows_truth_and_render_without_their_difference(tmp_path):
    told = TrainingProgress(tmp_path / "made", start_step=0, num_steps=2, canonical_steps=0)
    told.show(torch.cat([torch.full((16, 16, 3), value) for value in (0.2, 0.6, 1.5)], dim=1))
    shown = cv2.imread(str(tmp_path / "made" / "picture.jpg"))
    assert shown.shape == (16, 32, 3)
    assert abs(int(shown[8, 4, 0]) - 51) < 3 and abs(int(shown[8, 28, 0]) - 153) < 3
