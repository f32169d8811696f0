"""Pictures of a session: the newest ones by their number, and the mark that they are synthetic."""

import threading

import cv2
import numpy as np
from jaxtyping import Float32, UInt8

MOST_KEPT = 24
"""Pictures that are kept, about a second: some wait for their time, others for slow readers."""

MARK = "AI generated"
"""The visible sign."""


class PictureBuffer:
    """The newest pictures; a late one is replaced by the one before it."""

    def __init__(self) -> None:
        self._pictures: dict[int, UInt8[np.ndarray, "h wd 3"]] = {}
        self._lock = threading.Lock()

    def put(self, number: int, picture: UInt8[np.ndarray, "h wd 3"]) -> None:
        """Add the picture of a frame; the oldest one is forgotten where there are too many."""
        with self._lock:
            self._pictures[number] = picture
            while len(self._pictures) > MOST_KEPT:
                del self._pictures[min(self._pictures)]

    def newest_until(self, number: int) -> tuple[int, UInt8[np.ndarray, "h wd 3"]] | None:
        """The picture of a frame, or the nearest one before it, with its number."""
        with self._lock:
            ready = [known for known in self._pictures if known <= number]
            return (max(ready), self._pictures[max(ready)]) if ready else None

    def __len__(self) -> int:
        return len(self._pictures)


class VisibleMark:
    """A small sign in the lower left corner of every picture."""

    def __init__(self, size: int) -> None:
        scale = max(size, 128) / 640
        font, thickness = cv2.FONT_HERSHEY_SIMPLEX, max(1, round(size / 400))
        (width, height), baseline = cv2.getTextSize(MARK, font, scale, thickness)
        pad = max(2, size // 100)
        patch = np.zeros((height + baseline + 2 * pad, width + 2 * pad), np.uint8)
        place = (pad, pad + height)
        cv2.putText(patch, MARK, place, font, scale, (255,), thickness, cv2.LINE_AA)
        self._text: Float32[np.ndarray, "h wd 1"] = patch[:size, :size, None].astype(np.float32)

    def draw(self, picture: UInt8[np.ndarray, "h wd 3"]) -> None:
        """Write the sign into a picture: white letters on a darkened ground."""
        height, width = self._text.shape[:2]
        corner = picture[picture.shape[0] - height :, :width]
        letters = self._text / 255.0
        corner[:] = (corner * 0.45 * (1 - letters) + 235.0 * letters).astype(np.uint8)
