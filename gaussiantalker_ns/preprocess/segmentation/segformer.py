"""The face-parsing segmenter: a SegFormer network, where its weights are at hand."""

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import torch
from jaxtyping import UInt8

from gaussiantalker_ns.preprocess.segmentation.base import Segmenter

PARSING_MODEL = "jonathandinu/face-parsing"
"""Repository of the weights on the Hugging Face hub (85 M parameters, trained on CelebAMask-HQ)."""

IMAGE_MEAN, IMAGE_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
NETWORK_SIDE = 512

TORSO_CLASSES = frozenset({"cloth"})
NECK_CLASSES = frozenset({"neck", "neck_l"})
BACKGROUND_CLASSES = frozenset({"background"})
"""Names of the network's classes; all others (skin, hair, ears, hat, ...) belong to the head."""


def load_network(local_only: bool) -> Any:
    """Load the network from this machine, or with one attempt to download it.

    Raises:
        OSError: if it is not to be had.
    """
    from transformers import SegformerForSemanticSegmentation

    return SegformerForSemanticSegmentation.from_pretrained(
        PARSING_MODEL, local_files_only=local_only
    )


def parsing_at_hand() -> bool:
    """Whether the weights are on this machine and there is a GPU that makes them fast enough."""
    if not torch.cuda.is_available():
        return False
    try:
        load_network(local_only=True)
    except (OSError, ImportError):
        return False
    return True


def label_table(id2label: dict[int, str]) -> UInt8[np.ndarray, " k"]:
    """Our label (background 0, torso 1, neck 2, head 3) of each of the network's classes.

    Example: {0: "background", 1: "skin", 2: "cloth"} -> 0, 3, 1.
    """
    table = np.full(max(id2label) + 1, 3, np.uint8)
    for index, name in id2label.items():
        if name in BACKGROUND_CLASSES:
            table[index] = 0
        elif name in TORSO_CLASSES:
            table[index] = 1
        elif name in NECK_CLASSES:
            table[index] = 2
    return table


class ParsingSegmenter(Segmenter):
    """Labels frames with a face-parsing network, at about a second a frame without a GPU."""

    name = "parsing"

    def __init__(self, read_frame: Callable[[int], UInt8[np.ndarray, "h wd 3"]]) -> None:
        super().__init__(read_frame)
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        try:
            network = load_network(local_only=True)
        except OSError:
            network = self._download()
        self.network = network.eval().to(self.device)
        self.table = label_table(network.config.id2label)

    @staticmethod
    def _download() -> Any:
        try:
            return load_network(local_only=False)
        except OSError as error:
            raise FileNotFoundError(
                f"The weights of {PARSING_MODEL} are neither on this machine nor to be downloaded; "
                "`--segmenter parsing` needs them. Use `--segmenter builtin`, which needs no "
                "download, or fetch them where there is a network: `hf download "
                f"{PARSING_MODEL}`."
            ) from error

    def close(self) -> None:
        """Release the network."""
        del self.network

    @torch.no_grad()
    def rough_labels(
        self, frame: int, image: UInt8[np.ndarray, "h wd 3"]
    ) -> UInt8[np.ndarray, "h wd"]:
        """Label every pixel by the likeliest of the network's classes."""
        size = (NETWORK_SIDE, NETWORK_SIDE)
        pixels = cv2.resize(image, size, interpolation=cv2.INTER_LINEAR).astype(np.float32) / 255.0
        pixels = (pixels - np.array(IMAGE_MEAN)) / np.array(IMAGE_STD)
        batch = torch.from_numpy(pixels.astype(np.float32)).permute(2, 0, 1)[None]
        logits = self.network(pixel_values=batch.to(self.device)).logits
        full = torch.nn.functional.interpolate(
            logits, image.shape[:2], mode="bilinear", align_corners=False
        )
        return self.table[full[0].argmax(0).cpu().numpy()]
