"""One driven video: resumable segments, sound, provenance, signature.

It has more than 300 lines: a job is checked, rendered in parts and put together in one class, whose
steps other programs may share out.
"""

import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import get_args

import numpy as np
from jaxtyping import Float32, UInt8

from gaussiantalker_ns.audio.loudness import is_silent
from gaussiantalker_ns.audio.read import Recording, audio_offset, read_recording
from gaussiantalker_ns.files import sha256_of, write_image
from gaussiantalker_ns.folder_lock import OwnerLock
from gaussiantalker_ns.inference import ready_features
from gaussiantalker_ns.inference.content_credentials import ContentCredentials
from gaussiantalker_ns.inference.motion import BlinkSource, MotionConfig, PoseSource
from gaussiantalker_ns.inference.provenance import Provenance, package_versions
from gaussiantalker_ns.inference.ready_features import Driven, is_features
from gaussiantalker_ns.inference.scene import Scene
from gaussiantalker_ns.inference.talker import Talker
from gaussiantalker_ns.inference.video_writer import AudioTrack, SegmentWriter, assemble, format_of
from gaussiantalker_ns.kernels.compile import num_threads
from gaussiantalker_ns.timebase import SAMPLE_RATE_HZ, num_frames_of

SEGMENT_FRAMES = 500
"""Frames in a segment, 20 s: what an interruption costs at most; a multiple of a render block."""

PICTURE_NAME = re.compile(r"\d{8}\.png")
"""What a folder of pictures holds, and nothing else; the sidecar lies beside the folder."""

ShowProgress = Callable[[int, int, float], None]
"""Called with the frames done, the frames in all, and frames per second."""


@dataclass(frozen=True)
class DriveJob:
    """Renders one recording into one output."""

    audio: Path
    output: Path
    motion: MotionConfig = field(default_factory=MotionConfig)
    scene: Scene = field(default_factory=Scene)
    start_s: float = 0.0
    end_s: float | None = None
    overwrite: bool = False
    credentials: ContentCredentials | None = None
    """What signs the video as the last step; None leaves it unsigned."""
    features: Path | None = None
    """Ready features (.npy) that move the lips; `audio` is then only heard, or is such a file."""
    audio_track: int | None = None
    """Number of the audio track, from 1; None takes one with sound, the default one first."""

    def __post_init__(self) -> None:
        if not self.audio.is_file():
            raise FileNotFoundError(
                f"No audio or video file at {self.audio}; expected an existing file."
            )
        if self.features is not None and not self.features.is_file():
            raise FileNotFoundError(
                f"No features at {self.features}; expected an existing .npy file. Check --features."
            )
        if self.output.suffix:
            has_alpha = format_of(self.output).has_alpha
            if self.scene.background == "alpha" and not has_alpha:
                raise ValueError(
                    f"{self.output} cannot be transparent; expected .mov (ProRes), or a name"
                    " without ending for a folder of PNG pictures, with --background alpha."
                )
        elif self.credentials is not None:
            raise ValueError(
                f"{self.output} would be a folder of pictures, which cannot be signed; expected a"
                " video, .mp4 or .mov, with --c2pa-certificate. Add such an ending."
            )
        refuse_an_input(self.output, [self.audio])
        self._refuse_existing()

    def _refuse_existing(self) -> None:
        if self.output.exists() and not self.overwrite:
            raise FileExistsError(
                f"{self.output} exists already; expected a new name. Add --overwrite to replace it."
            )
        refuse_what_is_not_ours(self.output)

    @cached_property
    def lock(self) -> OwnerLock:
        """Keeps other jobs from this output; `run` takes it if its owner has not yet."""
        return OwnerLock.of_output(self.output)

    def run(self, talker: Talker, show: ShowProgress | None = None) -> None:
        """Render what is not yet rendered and put the output together.

        Raises:
            ValueError: If the audio has nothing between `start_s` and `end_s`.
            InUseError: If another job makes the same output.
            OSError: If something cannot be written, for example because the disk is full.
        """
        driven = self.driven(talker)
        with self.lock:
            # Another job may have finished it since this one was checked.
            self._refuse_existing()
            total, parts = frames_in(driven), self._parts_folder(self._provenance(talker))
            if self.output.suffix:
                segments = self.write_segments(talker, driven, range(total), parts, show)
                self.join_segments(talker, segments, total, parts)
            else:
                self._write_pictures(talker, driven, total, parts, show)
                put_in_place(parts / "pictures", self.output, parts / "replaced")
                self._provenance(talker).write_sidecar(self.output)
            shutil.rmtree(parts)

    def driven(self, talker: Talker) -> Driven:
        """What moves the lips: samples `[m]`, or ready features `[m, w, a]`.

        Raises:
            ValueError: If the audio has nothing between `start_s` and `end_s`.
        """
        features = self._features(talker)
        return self._samples() if features is None else features

    def join_segments(
        self, talker: Talker, segments: list[Path], num_frames: int, folder: Path
    ) -> None:
        """Make the video of all its segments, with sound, record and signature.

        Args:
            talker: Who talks.
            segments: What `write_segments` has written, in order.
            num_frames: Frames in all of them.
            folder: Where a video may lie until it is signed.
        """
        sound, provenance = None, self._provenance(talker)
        if not is_features(self.audio):
            start_s = self.start_s + audio_offset(self.audio, self.audio_track)
            sound = AudioTrack(self.audio, start_s, self.audio_track)
        signer, output = self.credentials, self.output
        video = output if signer is None else folder / f"unsigned{output.suffix}"
        assemble(segments, video, sound, num_frames, provenance.container_metadata())
        if signer is not None:
            signer.sign(video, output, provenance)
        provenance.write_sidecar(output)

    def _features(self, talker: Talker) -> Float32[np.ndarray, "m w a"] | None:
        """The ready features of the wanted part; None where the sound gives them."""
        path = self.audio if is_features(self.audio) else self.features
        if path is None:
            return None
        rows = ready_features.read_ready_features(path, talker.checkpoint.model.bank)
        if path != self.audio:
            ready_features.check_length(path, len(rows), self.audio)
        return ready_features.part_of_features(path, rows, self.start_s, self.end_s)

    @cached_property
    def _recording(self) -> Recording:
        return read_recording(self.audio, track=self.audio_track)

    def notices(self) -> list[str]:
        """What a user should know of the sound before it is driven: tracks, channels, silence.

        Raises:
            ValueError: If the audio has nothing between `start_s` and `end_s`.
        """
        if self.features is not None or is_features(self.audio):
            return []
        silent = []
        if is_silent(self._samples()):
            silent = [
                f"Nothing is heard in {self.audio.name}: it is silent, so the mouth stays closed."
                " Is it the right file, part and --audio-track?"
            ]
        return self._recording.notices + silent

    def _samples(self) -> Float32[np.ndarray, " m"]:
        samples = self._recording.samples
        duration = len(samples) / SAMPLE_RATE_HZ
        end = duration if self.end_s is None else min(self.end_s, duration)
        if not 0 <= self.start_s < end:
            raise ValueError(
                f"--start is {self.start_s} s and --end is {self.end_s}, but {self.audio} lasts"
                f" {duration:.2f} s; expected 0 <= start < end <= duration."
            )
        return samples[round(self.start_s * SAMPLE_RATE_HZ) : round(end * SAMPLE_RATE_HZ)]

    def _provenance(self, talker: Talker) -> Provenance:
        origin = talker.checkpoint.origin()
        settings = {
            **{name: str(value) for name, value in asdict(self.motion).items()},
            **{name: str(value) for name, value in asdict(self.scene).items()},
            "start_s": self.start_s,
            "end_s": self.end_s,
            **({} if self.audio_track is None else {"audio_track": self.audio_track}),
            **origin.settings,
            **{f"{name}_sha256": sha256_of(path) for name, path in self._named_files().items()},
        }
        return Provenance(
            method=talker.checkpoint.method,
            checkpoint=origin.checkpoint,
            checkpoint_sha256=origin.checkpoint_sha256,
            audio=self.audio.name,
            audio_sha256=sha256_of(self.audio),
            consent=None if origin.consent is None else json.dumps(origin.consent, sort_keys=True),
            settings=settings,
        )

    def _named_files(self) -> dict[str, Path]:
        """Settings that name a file -> the file; what is in it decides the pictures, too."""
        named = {
            "pose": self.motion.pose,
            "blink": self.motion.blink,
            "background": self.scene.background,
            **({} if self.features is None else {"features": self.features}),
        }
        words = {*get_args(PoseSource), *get_args(BlinkSource), "clip", "alpha"}
        files = {name: Path(value) for name, value in named.items() if value not in words}
        # A colour is no file, and a picture that is missing is an error of the renderer.
        return {name: path for name, path in files.items() if path.is_file()}

    def _parts_folder(self, provenance: Provenance) -> Path:
        """The folder of finished parts; those of another job for the same output are removed."""
        decisive = [
            provenance.checkpoint_sha256,
            provenance.audio_sha256,
            provenance.settings,
            package_versions(),
        ]
        key = hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()
        parts = self.output.with_name(f".{self.output.name}.parts")
        note = parts / "job"
        if not note.is_file() or note.read_text() != key:
            shutil.rmtree(parts, ignore_errors=True)
            parts.mkdir(parents=True)
            note.write_text(key)
        return parts

    def _frames(
        self,
        talker: Talker,
        driven: Driven,
        first: int,
        total: int,
        show: ShowProgress | None,
    ) -> Iterator[UInt8[np.ndarray, "h wd c"]]:
        started = time.monotonic()
        render = talker.render if driven.ndim == 1 else talker.render_features
        frames = render(driven, self.motion, self.scene, first_frame=first)
        for done, frame in enumerate(frames, start=1):
            if show is not None:
                show(first + done, total, done / max(time.monotonic() - started, 1e-6))
            yield frame

    def segment_names(self, frames: range) -> list[str]:
        """File names of the segments of some frames, which begin at a multiple of their length."""
        assert frames.start % SEGMENT_FRAMES == 0, "segments begin everywhere at the same frames"
        starts = range(frames.start, frames.stop, SEGMENT_FRAMES)
        return [f"segment-{start:08d}{self.output.suffix}" for start in starts]

    def write_segments(
        self,
        talker: Talker,
        driven: Driven,
        frames: range,
        folder: Path,
        show: ShowProgress | None = None,
    ) -> list[Path]:
        """Render some frames of the video into segments, except those that are there already.

        Several workers may write parts of one video: they are the same files, whoever does it.

        Args:
            talker: Who talks.
            driven: What moves the lips in the whole video (`driven`).
            frames: Which frames; they begin at a multiple of `SEGMENT_FRAMES`.
            folder: Where the segments go.
            show: Told of the progress.
        """
        segments = [folder / name for name in self.segment_names(frames)]
        num_done = next((k for k, path in enumerate(segments) if not path.exists()), len(segments))
        first, stop = frames.start + num_done * SEGMENT_FRAMES, frames.stop
        if first >= stop:
            return segments
        whole = self._frames(talker, driven, first, stop, show)
        rendered = islice(whole, stop - first)
        opaque = format_of(self.output).has_alpha and self.scene.background != "alpha"
        for path in segments[num_done:]:
            piece = islice(rendered, SEGMENT_FRAMES)
            frame = next(piece)
            size = frame.shape[1], frame.shape[0]
            with SegmentWriter(path, *size, in_thread=num_threads() > 1) as writer:
                writer.write(with_full_alpha(frame) if opaque else frame)
                for frame in piece:
                    writer.write(with_full_alpha(frame) if opaque else frame)
        return segments

    def _write_pictures(
        self,
        talker: Talker,
        driven: Driven,
        total: int,
        parts: Path,
        show: ShowProgress | None,
    ) -> None:
        folder = parts / "pictures"
        folder.mkdir(exist_ok=True)
        paths = [folder / f"{index:08d}.png" for index in range(total)]
        num_done = next((k for k, path in enumerate(paths) if not path.exists()), total)
        first = num_done // SEGMENT_FRAMES * SEGMENT_FRAMES
        if num_done == total:
            return
        for path, frame in zip(paths[first:], self._frames(talker, driven, first, total, show)):
            write_image(path, frame)


def frames_in(driven: Driven) -> int:
    """Frames of the video that samples, or ready features, give."""
    return num_frames_of(len(driven)) if driven.ndim == 1 else len(driven)


def refuse_an_input(output: Path, recordings: Iterable[Path]) -> None:
    """Check that an output would not take the place of a recording that is to be read.

    Raises:
        ValueError: If it would.
    """
    for recording in recordings:
        if output.exists() and recording.exists() and output.samefile(recording):
            raise ValueError(
                f"{output} is the recording {recording} of --audio itself, which would be replaced;"
                " expected another place for the video. Choose another --output."
            )


def refuse_what_is_not_ours(output: Path) -> None:
    """Check that an output may be replaced: a file by a video, pictures of ours by pictures.

    Raises:
        ValueError: If something else lies there.
    """
    if output.suffix:
        if output.is_dir():
            raise ValueError(
                f"{output} is a folder; expected the name of a video file. Choose another name."
            )
        return
    if output.is_symlink() or (output.exists() and not output.is_dir()):
        raise ValueError(
            f"{output} is a file or a link; expected a folder for the pictures, as the name has no"
            " ending. Choose another name, or add .mp4 or .mov for a video."
        )
    names = sorted(path.name for path in output.iterdir()) if output.exists() else []
    foreign = [name for name in names if not PICTURE_NAME.fullmatch(name)]
    if foreign:
        raise ValueError(
            f"{output} holds {foreign[0]!r} ({len(foreign)} of {len(names)} entries are no pictures"
            " of an earlier run); expected a new folder, or one with nothing but pictures such as"
            " 00000000.png. Choose another name."
        )


def put_in_place(made: Path, output: Path, aside: Path) -> None:
    """Give a finished folder its name; an older one of ours is kept aside until that is done."""
    refuse_what_is_not_ours(output)
    if output.exists():
        shutil.rmtree(aside, ignore_errors=True)
        os.replace(output, aside)
    os.replace(made, output)


def with_full_alpha(frame: UInt8[np.ndarray, "h wd 3"]) -> UInt8[np.ndarray, "h wd 4"]:
    """Add an opaque alpha channel."""
    return np.concatenate([frame, np.full((*frame.shape[:2], 1), 255, np.uint8)], axis=-1)
