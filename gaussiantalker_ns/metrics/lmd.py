"""LMD, the landmark distance of the paper: 20 mouth points of the FAN detector."""

from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8

from gaussiantalker_ns.face.fan import load_face_alignment
from gaussiantalker_ns.metrics.frame_pairs import FramePair
from gaussiantalker_ns.metrics.registry import NotMeasured, require_weights

FAN_FILES = {
    "s3fd-619a316812.pth": "619a316812",
    "2DFAN4-11f355bf06.pth.tar": "11f355bf06",
}
"""Weights of face-alignment's detector and landmark network -> beginning of their sha256."""

MOUTH68 = slice(48, 68)
"""The mouth among the 68 iBUG landmarks."""


def mouth_distance(rendered: Float[np.ndarray, "68 2"], real: Float[np.ndarray, "68 2"]) -> float:
    """Mean distance of the 20 mouth points in pixels, each set minus its own mean."""
    first, second = rendered[MOUTH68], real[MOUTH68]
    difference = (first - first.mean(axis=0)) - (second - second.mean(axis=0))
    return float(np.linalg.norm(difference, axis=1).mean())


class FanDistance:
    """LMD of every pair in which the detector finds two faces."""

    def __init__(self, detector: Any) -> None:
        """Take a detector whose `get_landmarks(image)` returns faces of 68 points, or None."""
        self._detector = detector

    @classmethod
    def load(cls, device: torch.device | str) -> "FanDistance":
        """Build the detector from weights on this machine.

        Raises:
            NotMeasured: The package or its weights are missing.
        """
        if find_spec("face_alignment") is None:
            names = " and ".join(FAN_FILES)
            raise NotMeasured(
                "needs the extra `pip install 'gaussiantalker-ns[fan]'` and face-alignment's files"
                f" {names} in torch's folder of checkpoints"
            )
        for name, prefix in FAN_FILES.items():
            require_weights(name, "face-alignment's weights", prefix)
        return cls(load_face_alignment(str(device)))

    def observe(self, pair: FramePair) -> dict[str, float]:
        """Distance of one pair."""
        return self.compare(pair.rendered_pixels, pair.real_pixels)

    def compare(
        self, rendered: UInt8[np.ndarray, "h wd 3"], real: UInt8[np.ndarray, "h2 wd2 3"]
    ) -> dict[str, float]:
        """Distance of the mouths in two pictures, which may show two people."""
        mouths = self._mouth(rendered), self._mouth(real)
        if mouths[0] is None or mouths[1] is None:
            return {}
        return {"lmd": mouth_distance(mouths[0], mouths[1])}

    def values(self) -> dict[str, float]:
        """Nothing beyond the mean."""
        return {}

    def _mouth(self, image: UInt8[np.ndarray, "h wd 3"]) -> Float[np.ndarray, "68 2"] | None:
        faces = self._detector.get_landmarks(image)
        if not faces:
            return None
        return np.asarray(max(faces, key=lambda face: float(np.ptp(face[:, 0]))), np.float64)
