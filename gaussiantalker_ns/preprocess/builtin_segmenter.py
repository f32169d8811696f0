"""The built-in segmenter: selfie segmentation, the face mesh, and models of position and colour."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock

import cv2
import numpy as np
from jaxtyping import Float32, Int32, UInt8

from gaussiantalker_ns.preprocess.color_models import (
    ColorModel,
    color_index,
    log_likelihood_tables,
)
from gaussiantalker_ns.preprocess.face_frame import FaceFrames, face_mask, skin_mask
from gaussiantalker_ns.preprocess.guided_filter import guided_enlarge
from gaussiantalker_ns.preprocess.head_classes import (
    CLOTHES,
    HAIR,
    HEAD,
    HEAD_SKIN,
    NECK,
    NECK_SKIN,
    TORSO,
    WORN,
    ClassModel,
    FaceGeometry,
    drawn_prior,
)
from gaussiantalker_ns.preprocess.person_matte import (
    NETWORK_SIDE,
    SelfieNetwork,
    disc,
    refine_matte,
)

NUM_LEARNING_FRAMES = 40
"""Frames, spread evenly over the clip, from which the models are learned."""

LEARNING_ROUNDS = 2

TEMPORAL_WEIGHTS = (0.15, 0.25, 1.0, 0.25, 0.15)
"""Weights of the two frames before, the frame itself and the two after it."""

RECENT_FRAMES = 16
"""Evidence of this many frames is kept, enough for a few threads at neighbouring frames."""

PERSON_THRESHOLD = 0.5


@dataclass
class FrameEvidence:
    """What one frame says by itself, at reduced resolution."""

    coarse: Float32[np.ndarray, "h wd"]
    """The network's confidence that there is a person."""
    classes: Float32[np.ndarray, "h wd 3"]
    """Probabilities of head, neck and torso, given a person."""


def keep_component(
    mask: UInt8[np.ndarray, "h wd"], anchor: UInt8[np.ndarray, "h wd"]
) -> UInt8[np.ndarray, "h wd"]:
    """Keep the connected parts of a mask (0 or 1) that touch the anchor."""
    count, labels = cv2.connectedComponents(mask, connectivity=4)
    touched = np.zeros(count, np.uint8)
    touched[np.unique(labels[(anchor > 0) & (mask > 0)])] = 1
    touched[0] = 0
    return touched[labels]


def keep_largest(mask: UInt8[np.ndarray, "h wd"]) -> UInt8[np.ndarray, "h wd"]:
    """Keep the largest connected part of a mask (0 or 1)."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=4)
    if count <= 1:
        return mask
    return (labels == 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA]))).astype(np.uint8)


class BuiltinSegmenter:
    """Labels frames without any downloaded weights.

    Frames are looked at one by one (`evidence`), then every frame's class probabilities are averaged
    with its neighbours' in head-aligned coordinates and cut out along the edges of the image.
    """

    name = "builtin"

    def __init__(
        self,
        read_frame: Callable[[int], UInt8[np.ndarray, "h wd 3"]],
        points: Float32[np.ndarray, "b 478 3"],
    ) -> None:
        self.read_frame = read_frame
        self.num_frames = len(points)
        first = read_frame(0)
        side = max(first.shape[:2])
        self.scale = min(1.0, NETWORK_SIDE / side)
        self.shape = (round(first.shape[0] * self.scale), round(first.shape[1] * self.scale))
        self.frames = FaceFrames.from_landmarks(points, self.scale)
        self.network = SelfieNetwork()
        self._recent: OrderedDict[int, FrameEvidence] = OrderedDict()
        self._lock = Lock()
        self.model = self._learn()

    def close(self) -> None:
        """Release the network."""
        self.network.close()

    def _reduced(self, image: UInt8[np.ndarray, "h wd 3"]) -> UInt8[np.ndarray, "h wd 3"]:
        return cv2.resize(image, self.shape[::-1], interpolation=cv2.INTER_AREA)

    def _coarse(self, image: UInt8[np.ndarray, "h wd 3"], frame: int) -> Float32[np.ndarray, "h wd"]:
        """The network's mask at reduced resolution, without people or things apart from the face."""
        coarse = cv2.resize(self.network(image), self.shape[::-1])
        face = face_mask(self.frames.points[frame], self.shape)
        coarse = np.maximum(coarse, face.astype(np.float32))
        person = (coarse > PERSON_THRESHOLD).astype(np.uint8)
        others = person - keep_component(person, face)
        return coarse * (1 - cv2.dilate(others, disc(2))) if others.any() else coarse

    def _learn(self) -> ClassModel:
        """Learn where hair, skin and clothes are relative to the face, and their colours."""
        chosen = np.unique(np.linspace(0, self.num_frames - 1, NUM_LEARNING_FRAMES).astype(int))
        samples = []
        for frame in chosen.tolist():
            image = self.read_frame(frame)
            coarse = self._coarse(image, frame)
            samples.append((frame, color_index(self._reduced(image)), coarse > 0.9))
        prior = drawn_prior(self.frames.aligned_points, self.shape)
        tables = self._seed_colors(samples)
        model = ClassModel(np.log(prior), tables)
        for _ in range(LEARNING_ROUNDS):
            model = self._relearn(model, samples, prior)
        return model

    def _seed_colors(self, samples: list) -> Float32[np.ndarray, "m 4"]:
        """Colours of the places where one class is nearly certain."""
        skin, hair, clothes, anything = (ColorModel.empty() for _ in range(4))
        seeds = []
        for frame, colors, person in samples:
            points = self.frames.points[frame]
            geometry = FaceGeometry.of(points.astype(np.float64))
            skin.add(colors, skin_mask(points, self.shape).astype(np.float32))
            anything.add(colors, np.ones(self.shape, np.float32))
            margin = max(1, round(0.05 * geometry.width))
            outside = 1 - cv2.dilate(face_mask(points, self.shape), disc(margin))
            below = geometry.below_lobes(self.shape)
            above_brows = below < -0.35 * geometry.height
            rows = np.arange(self.shape[0])[:, None]
            low = min(geometry.chin[1] + 0.4 * geometry.height, 0.94 * self.shape[0])
            seeds.append((colors, outside * person * above_brows, person * (rows > low)))
        known = log_likelihood_tables([skin, anything])
        not_skin = 1.0 / (1.0 + np.exp(known[:, 0] - known[:, 1] - 1.0))
        for colors, hair_seed, clothes_seed in seeds:
            hair.add(colors, hair_seed * not_skin[colors])
            clothes.add(colors, clothes_seed * not_skin[colors])
        return log_likelihood_tables([hair, skin, clothes, anything])

    def _relearn(
        self, model: ClassModel, samples: list, drawn: Float32[np.ndarray, "h wd 5"]
    ) -> ClassModel:
        """One round: explain the samples, then average the explanations by place and by colour."""
        total = np.zeros_like(drawn)
        hair, skin, clothes, anything = (ColorModel.empty() for _ in range(4))
        for frame, colors, person in samples:
            shares = model.explain(colors, self.frames.T_aligned_image[frame])
            shares = self._constrain(shares, frame, person.astype(np.uint8)) * person[..., None]
            hair.add(colors, shares[..., HAIR])
            skin.add(colors, shares[..., HEAD_SKIN] + shares[..., NECK_SKIN])
            clothes.add(colors, shares[..., CLOTHES])
            anything.add(colors, np.ones(self.shape, np.float32))
            for part in (slice(0, 4), slice(4, 5)):
                moved = cv2.warpAffine(
                    np.ascontiguousarray(shares[..., part]),
                    self.frames.T_aligned_image[frame],
                    self.shape[::-1],
                )
                total[..., part] += moved.reshape(*self.shape, -1)
        learned = cv2.GaussianBlur(total, (0, 0), 2.0) + 0.15 * len(samples) * drawn
        learned = learned / learned.sum(-1, keepdims=True)
        prior = np.log(np.sqrt(learned * drawn) + 1e-6)
        return ClassModel(prior, log_likelihood_tables([hair, skin, clothes, anything]))

    def _constrain(
        self,
        shares: Float32[np.ndarray, "h wd 5"],
        frame: int,
        person: UInt8[np.ndarray, "h wd"],
    ) -> Float32[np.ndarray, "h wd 5"]:
        """Remove explanations that the shape of a person forbids; the others share their part."""
        points = self.frames.points[frame]
        geometry = FaceGeometry.of(points.astype(np.float64))
        face = face_mask(points, self.shape)
        below = geometry.below_lobes(self.shape) > 0
        best = np.argmax(shares, axis=-1)
        allowed = np.ones_like(shares)
        # Hair below the ears hangs from hair above them: a dark collar does not.
        hair = ((best == HAIR) & (person > 0) & (face == 0)).astype(np.uint8)
        hanging = keep_component(hair, (~below).astype(np.uint8))
        allowed[..., HAIR] -= 0.999 * (below & (hanging == 0) & (face == 0))
        neck = ((best == NECK_SKIN) & (person > 0)).astype(np.uint8)
        allowed[..., NECK_SKIN] -= 0.999 * (keep_largest(neck) < neck)
        # Clothes hang together and reach the lower border: a dark ear ring does not.
        clothes = ((best == CLOTHES) & (person > 0)).astype(np.uint8)
        bottom = np.zeros(self.shape, np.uint8)
        bottom[-2:] = 1
        joined = keep_component(clothes, bottom)
        if joined.any():
            allowed[..., CLOTHES] -= 0.999 * (joined < clothes)
        shares = shares * allowed + 1e-6
        shares[face > 0] = 1e-6
        shares[face > 0, HEAD_SKIN] = 1.0
        return shares / shares.sum(-1, keepdims=True)

    def _evidence(self, frame: int) -> FrameEvidence:
        """Look at one frame by itself."""
        image = self.read_frame(frame)
        coarse = self._coarse(image, frame)
        colors = color_index(self._reduced(image))
        shares = self.model.explain(colors, self.frames.T_aligned_image[frame])
        shares = self._constrain(shares, frame, (coarse > PERSON_THRESHOLD).astype(np.uint8))
        classes = np.empty((*self.shape, 3), np.float32)
        classes[..., HEAD] = shares[..., HAIR] + shares[..., HEAD_SKIN] + shares[..., WORN]
        classes[..., NECK] = shares[..., NECK_SKIN]
        classes[..., TORSO] = shares[..., CLOTHES]
        return FrameEvidence(coarse, classes)

    def evidence(self, frame: int) -> FrameEvidence:
        """Look at one frame by itself; the last few frames are remembered for their neighbours."""
        with self._lock:
            if frame in self._recent:
                return self._recent[frame]
        found = self._evidence(frame)
        with self._lock:
            self._recent[frame] = found
            while len(self._recent) > RECENT_FRAMES:
                self._recent.popitem(last=False)
        return found

    def _averaged_classes(self, frame: int) -> Float32[np.ndarray, "h wd 3"]:
        """Class probabilities averaged over neighbouring frames, moved along with the head."""
        total = np.zeros((*self.shape, 3), np.float32)
        reach = len(TEMPORAL_WEIGHTS) // 2
        for offset, weight in zip(range(-reach, reach + 1), TEMPORAL_WEIGHTS):
            neighbour = frame + offset
            if not 0 <= neighbour < self.num_frames:
                continue
            classes = self.evidence(neighbour).classes
            if offset:
                motion = self.frames.between(neighbour, frame)
                size = self.shape[::-1]
                classes = cv2.warpAffine(classes, motion, size, borderMode=cv2.BORDER_REPLICATE)
            total += np.float32(weight) * classes
        return total / total.sum(-1, keepdims=True)

    def label(self, frame: int) -> UInt8[np.ndarray, "h wd"]:
        """Label a frame at full resolution: background 0, torso 1, neck 2, head 3."""
        image = self.read_frame(frame)
        classes = self._averaged_classes(frame)
        grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32) / 255.0
        shares = [
            guided_enlarge(grey, np.ascontiguousarray(classes[..., index]), 3, 1e-3)
            for index in (TORSO, NECK, HEAD)
        ]
        labels = 1 + np.argmax(np.stack(shares), axis=0).astype(np.uint8)
        full_points = self.frames.points[frame] / np.float32(self.scale)
        face = face_mask(full_points, image.shape[:2])
        labels[face > 0] = 3
        labels = cv2.medianBlur(labels, 5)
        person = refine_matte(image, self.evidence(frame).coarse) > PERSON_THRESHOLD
        labels[~(person | (face > 0))] = 0
        return labels
