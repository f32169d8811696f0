"""CSIM, the cosine similarity of face embeddings: whether it is the same person."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch
from jaxtyping import Float, UInt8

from gaussiantalker_ns.face.alignment import similarity
from gaussiantalker_ns.face.landmarker import Face
from gaussiantalker_ns.losses.perceptual import checkpoint_folder
from gaussiantalker_ns.metrics.frame_pairs import FramePair
from gaussiantalker_ns.metrics.registry import NotMeasured

CSIM_FILES = ("arcface.onnx", "arcface.pt")
"""Where a face recognition network is looked for, in torch's folder of checkpoints."""

ALIGNED_SIDE = 112
"""Side in pixels of the aligned faces that ArcFace-like networks take."""

ALIGNED_POINTS = np.array(
    [
        (38.2946, 51.6963),
        (73.5318, 51.5014),
        (56.0252, 71.7366),
        (41.5493, 92.3655),
        (70.7299, 92.2041),
    ]
)
"""Eyes, tip of the nose and corners of the mouth in an aligned face, as ArcFace was trained."""

FACE_POINTS = (468, 473, 1, 61, 291)
"""The same five points in the face mesh: irises, nose, corners of the mouth, left to right."""

Embed = Callable[[Float[np.ndarray, "1 3 112 112"]], Float[np.ndarray, " e"]]
"""An aligned RGB face in [-1, 1] -> its embedding."""


def aligned_face(image: UInt8[np.ndarray, "h wd 3"], face: Face) -> UInt8[np.ndarray, "112 112 3"]:
    """Cut a face out so that its five points lie where ArcFace expects them."""
    points = face.points[list(FACE_POINTS), :2].astype(np.float64)
    matrix = similarity(points, ALIGNED_POINTS)
    return cv2.warpAffine(image, matrix, (ALIGNED_SIDE, ALIGNED_SIDE)).astype(np.uint8)


def cosine(first: Float[np.ndarray, " e"], second: Float[np.ndarray, " e"]) -> float:
    """Cosine of the angle between two vectors. ([1, 0], [1, 1]) -> 0.7071."""
    return float(first @ second / max(float(np.linalg.norm(first) * np.linalg.norm(second)), 1e-12))


class IdentitySimilarity:
    """CSIM: mean cosine similarity of the face embeddings of render and real frame."""

    def __init__(self, embed: Embed) -> None:
        self._embed = embed

    @classmethod
    def load(cls, model: Path | None, device: torch.device | str) -> "IdentitySimilarity":
        """Load the network a user brings.

        Args:
            model: ONNX or TorchScript file; None looks for `CSIM_FILES`.
            device: Where a TorchScript network runs.

        Raises:
            NotMeasured: There is none.
            FileNotFoundError: The one that was named is not there.
            ValueError: It is no network.
        """
        if model is not None and not model.is_file():
            raise FileNotFoundError(
                f"No network at {model}; expected an ONNX or TorchScript file. Check --csim-model."
            )
        places = [checkpoint_folder() / name for name in CSIM_FILES] if model is None else [model]
        path = next((place for place in places if place.is_file()), None)
        if path is None:
            raise NotMeasured(
                "needs a face recognition network (ArcFace or CurricularFace; 112 x 112 RGB in"
                " [-1, 1] to an embedding) as ONNX or TorchScript, put it at"
                f" {places[0]} or name it with --csim-model"
            )
        return cls(onnx_network(path) if path.suffix == ".onnx" else script_network(path, device))

    def observe(self, pair: FramePair) -> dict[str, float]:
        """Similarity of one pair, if both show a face."""
        if pair.rendered_face is None or pair.real_face is None:
            return {}
        rendered, real = (
            self._embed(network_input(aligned_face(image, face)))
            for image, face in (
                (pair.rendered_pixels, pair.rendered_face),
                (pair.real_pixels, pair.real_face),
            )
        )
        return {"csim": cosine(rendered, real)}

    def values(self) -> dict[str, float]:
        """Nothing beyond the mean."""
        return {}


def network_input(face: UInt8[np.ndarray, "112 112 3"]) -> Float[np.ndarray, "1 3 112 112"]:
    """Colours in [-1, 1], channels first."""
    return (face.astype(np.float32).transpose(2, 0, 1)[None] - 127.5) / 127.5


def onnx_network(path: Path) -> Embed:
    """Run an ONNX network through OpenCV."""
    try:
        network = cv2.dnn.readNetFromONNX(str(path))
    except cv2.error as error:
        raise ValueError(f"{path} cannot be read as ONNX ({error}); expected a network.") from error

    def embed(face: Float[np.ndarray, "1 3 112 112"]) -> Float[np.ndarray, " e"]:
        network.setInput(face)
        return np.asarray(network.forward(), np.float64).reshape(-1)

    return embed


def script_network(path: Path, device: torch.device | str) -> Embed:
    """Run a TorchScript network."""
    try:
        network = torch.jit.load(str(path), map_location=device).eval()
    except RuntimeError as error:
        raise ValueError(
            f"{path} cannot be read as TorchScript ({error}); expected what torch.jit.save wrote."
        ) from error

    @torch.no_grad()
    def embed(face: Float[np.ndarray, "1 3 112 112"]) -> Float[np.ndarray, " e"]:
        return network(torch.from_numpy(face).to(device)).double().cpu().numpy().reshape(-1)

    return embed
