"""The data set on disk: every file name of it, and nothing else.

The layout is the one of AD-NeRF, ER-NeRF and GaussianTalker, so that data sets made for them load
unchanged and ours load in other projects. `talker.json`, `plates`, `face_mesh.npz`,
`blendshapes.npy`, `landmarks.npz` and `tracking.npz` are our additions. Preprocessing writes
through this class and the data parser reads through it.
"""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from gaussiantalker_ns.files import JPEG_ENDINGS

TALKER_SCHEMA = 1
"""Version of the structure of `talker.json`."""

AUDIO_FEATURE_FILES: dict[str, tuple[str, ...]] = {
    "whisper": ("aud_whisper.npy",),
    "hubert": ("aud_hu.npy", "aud_hubert.npy"),
    "wav2vec2": ("aud_wav2vec2.npy",),
    "deepspeech": ("aud_ds.npy", "aud.npy"),
    "esperanto": ("aud_eo.npy",),
}
"""Encoder name -> file names (the first is written), in order of preference."""

HEAD_COLOR = (0, 0, 255)
NECK_COLOR = (0, 255, 0)
TORSO_COLOR = (255, 0, 0)
BACKGROUND_COLOR = (255, 255, 255)
"""Colours (RGB) of the classes in `parsing/{i}.png`."""


BACKGROUND, TORSO, NECK, HEAD = range(4)
"""The same classes as numbers, for label images in memory."""


@dataclass(frozen=True)
class DatasetLayout:
    """Paths of one data set. Frame ids are 0 .. N-1 and never shift.

    Example: `DatasetLayout(Path("data/me")).frame(3)` is `data/me/ori_imgs/3.jpg`.
    """

    root: Path
    """Folder of the data set."""

    @property
    def frames_dir(self) -> Path:
        """Folder of the raw frames and their 68-point landmark files."""
        return self.root / "ori_imgs"

    @property
    def parsing_dir(self) -> Path:
        """Folder of the head/neck/torso/background label images."""
        return self.root / "parsing"

    @property
    def torso_dir(self) -> Path:
        """Folder of the RGBA torso layers."""
        return self.root / "torso_imgs"

    @property
    def composites_dir(self) -> Path:
        """Folder of the frames over the background, which other projects train on."""
        return self.root / "gt_imgs"

    def frame(self, frame: int) -> Path:
        """Path of raw frame `frame` (JPEG, RGB); an existing `.JPG` or `.jpeg` counts, too."""
        return _with_present_ending(self.frames_dir / f"{frame}.jpg")

    def points68(self, frame: int) -> Path:
        """Path of the 68 iBUG landmarks of a frame: 68 text rows `x y` in pixels."""
        return self.frames_dir / f"{frame}.lms"

    def parsing(self, frame: int) -> Path:
        """Path of the label image of a frame (PNG, the colours above)."""
        return self.parsing_dir / f"{frame}.png"

    def torso(self, frame: int) -> Path:
        """Path of the torso layer of a frame (PNG, RGBA, alpha 0 or 255).

        AD-NeRF's data sets have none; they are then made of frame and label image when needed.
        """
        return self.torso_dir / f"{frame}.png"

    def composite(self, frame: int) -> Path:
        """Path of a frame over the background (JPEG)."""
        return self.composites_dir / f"{frame}.jpg"

    @property
    def background(self) -> Path:
        """Path of the background (JPEG)."""
        return _with_present_ending(self.root / "bc.jpg")

    @property
    def plates_dir(self) -> Path:
        """Folder of the backgrounds of single periods; absent in legacy data sets."""
        return self.root / "plates"

    def period_background(self, index: int) -> Path:
        """Path of the background of a period (JPEG)."""
        return self.plates_dir / f"{index}.jpg"

    @property
    def plate_of_frame(self) -> Path:
        """Path of the index of every frame's background, int32 `[N]`."""
        return self.plates_dir / "frames.npy"

    def transforms(self, split: str) -> Path:
        """Path of the poses of a split; `split` is "train" or "val"."""
        return self.root / f"transforms_{split}.json"

    @property
    def audio(self) -> Path:
        """Path of the whole clip's speech (wav, 16 kHz, mono)."""
        return self.root / "aud.wav"

    @property
    def source_audio(self) -> Path:
        """Path of the speech as recorded, before its offset to the pictures is corrected."""
        return self.root / "aud_source.wav"

    @property
    def audio_train(self) -> Path:
        """Path of the training part of the speech."""
        return self.root / "aud_train.wav"

    @property
    def audio_val(self) -> Path:
        """Path of the held-out part of the speech (the public code calls it novel)."""
        return self.root / "aud_novel.wav"

    def audio_features(self, encoder: str) -> Path:
        """Path of the features of `encoder`, float32 `[N, w, a]`: what exists, else what to write.

        Raises:
            ValueError: the encoder has no file name in this layout.
        """
        if encoder not in AUDIO_FEATURE_FILES:
            raise ValueError(
                f"'{encoder}' is not an audio encoder of a data set; expected one of "
                f"{', '.join(AUDIO_FEATURE_FILES)}. Choose one of these with --audio-encoder."
            )
        candidates = [self.root / name for name in AUDIO_FEATURE_FILES[encoder]]
        return next((path for path in candidates if path.exists()), candidates[0])

    def available_encoders(self) -> list[str]:
        """Names of the encoders whose features exist, best first."""
        return [name for name in AUDIO_FEATURE_FILES if self.audio_features(name).exists()]

    @property
    def action_units(self) -> Path:
        """Path of the OpenFace table, whose column AU45_r is the blink.

        A closed eye has 2 and more, in tables of OpenFace and in ours.
        """
        return self.root / "au.csv"

    @property
    def blendshapes(self) -> Path:
        """Path of the 52 MediaPipe blendshape scores per frame, float32 `[N, 52]`."""
        return self.root / "blendshapes.npy"

    @property
    def landmarks(self) -> Path:
        """Path of the 478 MediaPipe landmarks per frame (npz: points, blendshapes, valid)."""
        return self.root / "landmarks.npz"

    @property
    def tracking(self) -> Path:
        """Path of the head tracking result (npz)."""
        return self.root / "tracking.npz"

    @property
    def track_params(self) -> Path:
        """Path of the tracker's result in the legacy layout (torch file)."""
        return self.root / "track_params.pt"

    @property
    def face_mesh(self) -> Path:
        """Path of the mean mesh in head space (npz): `vertices` (metres), `triangles` or absent."""
        return self.root / "face_mesh.npz"

    @property
    def report(self) -> Path:
        """Path of the page that shows how good the data set is."""
        return self.root / "report.html"

    @property
    def talker(self) -> Path:
        """Path of the description of a data set made by us."""
        return self.root / "talker.json"

    @property
    def made_elsewhere(self) -> bool:
        """Whether there is a data set that another tool than `process` made."""
        return self.frames_dir.exists() and not self.talker.exists()

    def remedy(self, step: str, foreign: str) -> str:
        """What to do about a missing or damaged file: the command that makes it again.

        Args:
            step: The step of `process` that writes the file.
            foreign: What to do where `process` did not make the data set, and so refuses it.
        """
        if not self.talker.exists():
            return foreign
        if step == "video":
            return (
                "Re-run `gaussiantalker process --overwrite --video VIDEO --output-dir "
                f"{self.root}` on the source video."
            )
        return f"Re-run `gaussiantalker process --only {step} --output-dir {self.root}`."

    def cache(self, name: str) -> Path:
        """Path for a derived file: in the data set if it is writable, else in the user's cache."""
        if os.access(self.root, os.W_OK):
            return self.root / name
        base = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
        key = hashlib.sha256(str(self.root.resolve()).encode()).hexdigest()[:16]
        return base / "gaussiantalker-ns" / key / name


def _with_present_ending(path: Path) -> Path:
    """The path, or the same name with the ending of a JPEG under which a file exists."""
    if path.exists():
        return path
    others = [path.with_suffix(ending) for ending in JPEG_ENDINGS[1:]]
    return next((other for other in others if other.exists()), path)
