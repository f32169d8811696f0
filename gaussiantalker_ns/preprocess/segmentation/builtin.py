"""The built-in segmenter: selfie segmentation, the face mesh, and models of position and colour."""

from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from threading import Lock

import cv2
import numpy as np
from jaxtyping import Bool, Float32, UInt8

from gaussiantalker_ns.face.alignment import FaceFrames, face_mask
from gaussiantalker_ns.preprocess.segmentation.base import Segmenter
from gaussiantalker_ns.preprocess.segmentation.color_models import color_index
from gaussiantalker_ns.preprocess.segmentation.matting import (
    NETWORK_SIDE,
    EdgePixels,
    SelfieNetwork,
    disc,
    grey_levels,
    guided_values,
    keep_connected_to,
    refine_matte,
)
from gaussiantalker_ns.preprocess.segmentation.pixel_classifier import (
    NECK,
    TORSO,
    LearningFrame,
    class_fractions,
    learn_classes,
)

NUM_LEARNING_FRAMES = 40
"""Frames, spread evenly over the clip, from which the models are learned."""

TEMPORAL_WEIGHTS = (0.15, 0.25, 1.0, 0.25, 0.15)
"""Weights of the two frames before, the frame itself and the two after it."""

RECENT_FRAMES = 16
"""Evidence of this many frames is kept, enough for a few threads at neighbouring frames."""

PERSON_THRESHOLD = 0.5
CERTAIN_PERSON = 0.9

EDGE_RADIUS, EDGE_EPSILON = 3, 1e-3
"""Guided filter of the borders between classes, at reduced resolution."""


@dataclass
class FrameEvidence:
    """What one frame says by itself, at reduced resolution."""

    coarse: Float32[np.ndarray, "h wd"]
    """The network's confidence that there is a person."""
    classes: Float32[np.ndarray, "h wd 3"]
    """Probabilities of head, neck and torso, given a person."""


class BuiltinSegmenter(Segmenter):
    """Labels frames without any downloaded weights.

    Frames are looked at one by one (`evidence`), then every frame's class probabilities are
    averaged with its neighbours' in head-aligned coordinates and cut out along image edges.

    Args:
        read_frame: Reads a frame by its number.
        points: Landmarks of all frames in pixels.
        seen: Frames in which the face was found; in others it is nowhere, least of all between the
            places before and after.
        typical: Frames from which classes and colours are learned.
    """

    name = "builtin"

    def __init__(
        self,
        read_frame: Callable[[int], UInt8[np.ndarray, "h wd 3"]],
        points: Float32[np.ndarray, "b 478 3"],
        seen: Bool[np.ndarray, " b"],
        typical: Bool[np.ndarray, " b"],
    ) -> None:
        super().__init__(read_frame)
        self.num_frames = len(points)
        self.seen = seen
        first = read_frame(0)
        self.scale = min(1.0, NETWORK_SIDE / max(first.shape[:2]))
        self.shape = (round(first.shape[0] * self.scale), round(first.shape[1] * self.scale))
        self.frames = FaceFrames.from_landmarks(points, self.scale, seen)
        self.network = SelfieNetwork()
        self._recent: OrderedDict[int, Future[FrameEvidence]] = OrderedDict()
        self._lock = Lock()
        picks = np.flatnonzero(typical)
        chosen = picks[np.unique(np.linspace(0, len(picks) - 1, NUM_LEARNING_FRAMES).astype(int))]
        self.model = learn_classes(
            [self._learning_frame(frame) for frame in chosen.tolist()],
            self.frames.aligned_points,
        )

    def close(self) -> None:
        """Release the network."""
        self.network.close()

    def _reduced(self, image: UInt8[np.ndarray, "h wd 3"]) -> UInt8[np.ndarray, "h wd 3"]:
        return cv2.resize(image, self.shape[::-1], interpolation=cv2.INTER_AREA)

    def _face(self, frame: int) -> UInt8[np.ndarray, "h wd"]:
        """Inside of the face outline at reduced resolution; nothing where no face was found."""
        mask = face_mask(self.frames.points[frame], self.shape)
        return mask if self.seen[frame] else np.zeros_like(mask)

    def _coarse(
        self, image: UInt8[np.ndarray, "h wd 3"], face: UInt8[np.ndarray, "h wd"]
    ) -> Float32[np.ndarray, "h wd"]:
        """The network's mask at reduced resolution, without people apart from the face's owner."""
        coarse = cv2.resize(self.network(image), self.shape[::-1])
        if not face.any():
            return coarse
        coarse = np.maximum(coarse, face.astype(np.float32))
        person = (coarse > PERSON_THRESHOLD).astype(np.uint8)
        others = person - keep_connected_to(person, face)
        return coarse * (1 - cv2.dilate(others, disc(2))) if others.any() else coarse

    def _learning_frame(self, frame: int) -> LearningFrame:
        image = self.read_frame(frame)
        points = self.frames.points[frame]
        face = self._face(frame)
        return LearningFrame(
            colors=color_index(self._reduced(image)),
            person=(self._coarse(image, face) > CERTAIN_PERSON).astype(np.uint8),
            points=points,
            face=face,
            T_aligned_image=self.frames.T_aligned_image[frame],
        )

    def _evidence(self, frame: int) -> FrameEvidence:
        """Look at one frame by itself."""
        image = self.read_frame(frame)
        points = self.frames.points[frame]
        face = self._face(frame)
        coarse = self._coarse(image, face)
        colors = color_index(self._reduced(image))
        fractions = self.model.explain(colors, self.frames.T_aligned_image[frame])
        person = (coarse > PERSON_THRESHOLD).astype(np.uint8)
        fractions = self.model.constrain(fractions, points, face, person)
        classes = np.ascontiguousarray(class_fractions(fractions).transpose(1, 2, 0))
        return FrameEvidence(coarse, classes)

    def evidence(self, frame: int) -> FrameEvidence:
        """Look at one frame by itself; the last few frames are remembered for their neighbours."""
        with self._lock:
            wanted = self._recent.get(frame)
            mine = wanted is None
            if wanted is None:
                wanted = self._recent[frame] = Future()
                while len(self._recent) > RECENT_FRAMES:
                    self._recent.popitem(last=False)
        if mine:
            try:
                wanted.set_result(self._evidence(frame))
            except BaseException as error:
                wanted.set_exception(error)
                raise
        return wanted.result()

    def _averaged_classes(self, frame: int) -> Float32[np.ndarray, "h wd 3"]:
        """Class probabilities averaged over neighbouring frames, moved along with the head."""
        total = np.zeros((*self.shape, 3), np.float32)
        sum_weights = 0.0
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
            cv2.scaleAdd(classes, weight, total, total)
            sum_weights += weight
        return total / np.float32(sum_weights)

    def rough_labels(
        self, frame: int, image: UInt8[np.ndarray, "h wd 3"]
    ) -> UInt8[np.ndarray, "h wd"]:
        """Label the person by the averaged classes, and cut it out of the background."""
        small = self._reduced(image)
        labels = self._label_person(image, small, self._averaged_classes(frame))
        person = refine_matte(image, small, self.evidence(frame).coarse) > PERSON_THRESHOLD
        labels[~person] = 0
        if self.seen[frame]:
            outline = self.frames.points[frame] / np.float32(self.scale)
            labels[face_mask(outline, image.shape[:2]) > 0] = 3
        return labels

    @staticmethod
    def _label_person(
        image: UInt8[np.ndarray, "h wd 3"],
        small: UInt8[np.ndarray, "g gw 3"],
        classes: Float32[np.ndarray, "g gw 3"],
    ) -> UInt8[np.ndarray, "h wd"]:
        """Label a frame as if it showed nothing but the person, its borders along image edges."""
        planes = cv2.split(classes)
        rough = likeliest(planes[TORSO], planes[NECK])
        kernel = disc(EDGE_RADIUS)
        band = (cv2.dilate(rough, kernel) != cv2.erode(rough, kernel)).astype(np.uint8)
        edge = EdgePixels.of(band, image.shape[:2])
        guide = grey_levels(small)
        full_guide = grey_levels(image[edge.rows, edge.columns])
        torso, neck = (
            guided_values(guide, planes[index], EDGE_RADIUS, EDGE_EPSILON, edge, full_guide)
            for index in (TORSO, NECK)
        )
        labels = cv2.resize(rough, image.shape[1::-1], interpolation=cv2.INTER_NEAREST)
        labels[edge.rows, edge.columns] = likeliest(torso, neck)
        return labels


def likeliest(
    torso: Float32[np.ndarray, "*m"], neck: Float32[np.ndarray, "*m"]
) -> UInt8[np.ndarray, "*m"]:
    """Label (torso 1, neck 2, head 3) from two probabilities; the head has what is left of one."""
    labels = np.where(neck >= torso, np.uint8(2), np.uint8(1))
    labels[1.0 - torso - neck > np.maximum(torso, neck)] = 3
    return labels
