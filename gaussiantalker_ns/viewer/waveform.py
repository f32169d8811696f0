"""Waveforms of the timeline: loudness of the audio, and opening of the mouth."""

import numpy as np
import torch
from jaxtyping import Float, Float32
from scipy.spatial import KDTree

from gaussiantalker_ns.dataparsers.cameras import SCENE_UNITS_PER_METRE
from gaussiantalker_ns.dataparsers.dataset_layout import DatasetLayout
from gaussiantalker_ns.dataparsers.face_mesh import read_face_mesh
from gaussiantalker_ns.dataparsers.poses import read_description, read_poses
from gaussiantalker_ns.dataparsers.signals import read_blendshapes
from gaussiantalker_ns.face.topology import JAW_OPEN, LOWER_LIP_POINTS, UPPER_LIP_POINTS
from gaussiantalker_ns.model import GaussianTalkerModel

NUM_BINS = 480
"""Columns of the drawn curves."""

GAUSSIANS_PER_LIP = 24
"""Gaussians that are watched on each lip."""


class MouthGauge:
    """Tells how far the model opens the mouth, from the Gaussians on the rims of the lips.

    Only a few Gaussians are deformed, so that a curve over minutes takes a second.
    """

    def __init__(self, model: GaussianTalkerModel, layout: DatasetLayout) -> None:
        self._model = model
        poses = read_poses(layout, read_description(layout))
        scene = read_face_mesh(layout, poses).named_vertices * SCENE_UNITS_PER_METRE
        self._rims = (scene[list(UPPER_LIP_POINTS)], scene[list(LOWER_LIP_POINTS)])

    @torch.no_grad()
    def openings(self, model_frames: range) -> Float32[np.ndarray, " m"]:
        """Gap between the lips, in scene units plus a constant, in frames of the present audio."""
        model = self._model
        features, mean_shape = model.cached_canonical()
        means = mean_shape.means.cpu().numpy()
        tree = KDTree(means)
        groups = [self._nearest(tree, rim, len(means)) for rim in self._rims]
        chosen = torch.from_numpy(np.concatenate(groups)).to(model.device)
        frames = torch.arange(model_frames.start, model_frames.stop, device=model.device)
        condition = model.bank.condition(frames)
        moved = model.head.deltas(features[chosen], condition, mean_shape.means[chosen]).means
        if moved is None:
            return np.zeros(len(frames), np.float32)
        heights = (mean_shape.means[chosen] + moved)[..., 1]
        split = len(groups[0])
        gap = heights[:, :split].mean(dim=1) - heights[:, split:].mean(dim=1)
        return gap.cpu().numpy().astype(np.float32)

    def _nearest(
        self, tree: KDTree, rim: Float[np.ndarray, "p 3"], num_gaussians: int
    ) -> np.ndarray:
        count = min(GAUSSIANS_PER_LIP // len(rim), num_gaussians)
        return np.unique(tree.query(rim, count)[1])


def recorded_openings(layout: DatasetLayout, num_frames: int) -> Float32[np.ndarray, " m"] | None:
    """How far the person opened the mouth in every frame of the clip; None if nobody measured."""
    blendshapes = read_blendshapes(layout, num_frames)
    return None if blendshapes is None else np.ascontiguousarray(blendshapes[:, JAW_OPEN])


def loudness_levels(samples: Float32[np.ndarray, " samples"]) -> list[int]:
    """The largest amplitude in each of `NUM_BINS` columns, 0..255 of the loudest one."""
    edges = np.linspace(0, len(samples), NUM_BINS + 1).astype(int)
    peaks = [
        np.abs(samples[start:stop]).max() if stop > start else 0.0
        for start, stop in zip(edges[:-1], edges[1:])
    ]
    return scaled(np.array(peaks, np.float32), lowest=0.0)


def curve_levels(values: Float32[np.ndarray, " m"]) -> list[int]:
    """A curve at `NUM_BINS` columns, its own range stretched to 0..255."""
    columns = np.linspace(0, len(values) - 1, NUM_BINS)
    sampled = np.interp(columns, np.arange(len(values)), values).astype(np.float32)
    return scaled(sampled, lowest=float(sampled.min()))


def scaled(values: Float32[np.ndarray, " m"], lowest: float) -> list[int]:
    """Stretch values from `lowest` to their maximum over 0..255; equal values become 0."""
    span = float(values.max()) - lowest
    if span <= 1e-9:
        return [0] * len(values)
    return ((values - lowest) / span * 255).round().astype(int).tolist()
