"""The steps that make a data set out of a video, in order."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from gaussiantalker_ns.audio.encoders.registry import check_encoder_names
from gaussiantalker_ns.dataparsers.dataset_layout import AUDIO_FEATURE_FILES, DatasetLayout
from gaussiantalker_ns.face.landmarker import LandmarkConfig, Landmarks, detect_landmarks
from gaussiantalker_ns.face.occlusion import covered_frames
from gaussiantalker_ns.files import default_workers, sha256_of, write_image
from gaussiantalker_ns.preprocess.audio_features import prepare_audio
from gaussiantalker_ns.preprocess.export import write_dataset, write_points68
from gaussiantalker_ns.preprocess.layers.background import make_background
from gaussiantalker_ns.preprocess.layers.camera_motion import camera_sway
from gaussiantalker_ns.preprocess.layers.moving_background import (
    time_varying_background,
    write_time_varying_background,
)
from gaussiantalker_ns.preprocess.layers.torso import write_torso_layers
from gaussiantalker_ns.preprocess.segmentation.base import JPEG_OPTIONS
from gaussiantalker_ns.preprocess.segmentation.segment import SegmenterName, segment_frames
from gaussiantalker_ns.preprocess.step_runner import Facts, Step, read_talker
from gaussiantalker_ns.preprocess.tracking.track import Tracking, TrackingConfig, track_head
from gaussiantalker_ns.preprocess.video.extract import VideoConfig, extract

StepName = Literal[
    "video", "landmarks", "tracking", "segmentation", "layers", "audio", "dataset", "report"
]
"""The steps in order, by the names that `--only` takes."""

LandmarkerName = Literal["mediapipe", "face-alignment"]

Counter = Callable[[int], None]
"""Told how many frames (or encoders) of a step are done."""

Progress = Callable[[str, int | None], AbstractContextManager[Counter]]
"""Given the name of a step and its total, if known, shows the counts while the step runs."""


@dataclass
class ProcessSettings:
    """All that the data set depends on, besides the code."""

    video: Path | None
    """The source; None is enough for steps behind the first."""
    video_config: VideoConfig = field(default_factory=VideoConfig)
    """Part of the video, crop and size."""
    focal: float | None = None
    """Focal length in pixels of the data set's frames; None estimates it."""
    landmarks: LandmarkerName = "mediapipe"
    """Who writes the 68-point files; the 478 points of the tracking are always MediaPipe's."""
    segmenter: SegmenterName = "auto"
    """Who labels the pixels."""
    encoders: Sequence[str] = ("whisper",)
    """Audio feature encoders."""
    av_offset_ms: float | None = None
    """Lateness of the sound; None estimates it."""
    composites: bool = False
    """Whether `gt_imgs` is written for other projects."""
    consent: str | None = None
    """Statement of consent of the person shown; None keeps the one recorded for the same video."""
    num_workers: int = 0
    """Threads; 0 takes one per CPU core, at most 4."""

    def __post_init__(self) -> None:
        check_encoder_names(self.encoders)


class DatasetSteps:
    """Builds the steps for some settings; each method is the work of one step.

    Args:
        settings: What the user wants.
        progress: Shows how far a step is.
        recorded: What `talker.json` says before the first step.
    """

    def __init__(
        self, settings: ProcessSettings, progress: Progress, recorded: Facts | None = None
    ) -> None:
        self.settings = settings
        self.progress = progress
        self.workers = default_workers(settings.num_workers)
        self.source_sha256 = sha256_of(settings.video) if settings.video else None
        self.consent = settings.consent
        if self.consent is None:
            self.consent = recorded_consent(recorded or {}, self.source_sha256)

    def steps(self) -> list[Step]:
        """The steps in the order in which they run."""
        settings = self.settings
        video = asdict(replace(settings.video_config, num_workers=0))
        if settings.video_config.face == VideoConfig.face:
            del video["face"]  # Data sets of versions without it stay finished.
        if video["audio_track"] is None:
            # As the first version had it, whose finished steps are to stay finished.
            del video["audio_track"]
        audio = {"encoders": list(settings.encoders), "av_offset_ms": settings.av_offset_ms}
        seen = ("video", "landmarks")
        return [
            Step(
                "video",
                ("ori_imgs", "aud_source.wav"),
                (),
                {**video, "sha256": self.source_sha256},
                self.video,
            ),
            Step("landmarks", ("landmarks.npz",), ("video",), {}, self.landmarks),
            Step("tracking", ("tracking.npz",), seen, {"focal": settings.focal}, self.tracking),
            Step(
                "segmentation",
                ("parsing",),
                seen,
                {"segmenter": settings.segmenter},
                self.segmentation,
            ),
            Step(
                "layers",
                ("bc.jpg", "plates", "torso_imgs", *(("gt_imgs",) if settings.composites else ())),
                ("video", "segmentation"),
                {"composites": settings.composites},
                self.layers,
            ),
            Step("audio", self.audio_outputs(), seen, audio, self.audio),
            Step(
                "dataset",
                (
                    "transforms_train.json",
                    "transforms_val.json",
                    "track_params.pt",
                    "au.csv",
                    "face_mesh.npz",
                    "blendshapes.npy",
                ),
                ("video", "landmarks", "tracking"),
                {"landmarks": settings.landmarks, "consent": self.consent or None},
                self.dataset,
            ),
            Step(
                "report",
                ("report.html",),
                ("tracking", "segmentation", "layers", "audio", "dataset"),
                {},
                self.report,
            ),
        ]

    def audio_outputs(self) -> tuple[str, ...]:
        """Files of the audio step."""
        features = [AUDIO_FEATURE_FILES[name][0] for name in self.settings.encoders]
        return ("aud.wav", "aud_train.wav", "aud_novel.wav", *features)

    def video(self, dataset: DatasetLayout, output: DatasetLayout) -> Facts:
        """Step 1: frames and sound of the chosen take."""
        if self.settings.video is None:
            raise ValueError(
                "The first step needs the video; name it with --video, or run a later step alone "
                "with --only."
            )
        config = replace(self.settings.video_config, num_workers=self.workers)
        with self.progress("video", None) as count:
            info = extract(self.settings.video, output.root, config, count)
        output.audio.rename(output.source_audio)
        facts: Facts = {
            "num_frames": info.num_frames,
            "size": [info.size, info.size],
            "source": info.to_dict(),
        }
        if recorded_consent(read_talker(dataset), self.source_sha256) is None:
            # Whoever is seen in another video has not agreed by the statement about the first.
            facts["consent"] = None
        return facts

    def landmarks(self, dataset: DatasetLayout, output: DatasetLayout) -> Facts:
        """Step 2: 478 points and 52 blendshapes of every frame."""
        paths, source = frame_paths(dataset), read_talker(dataset)["source"]
        with self.progress("landmarks", len(paths)) as count:
            found = detect_landmarks(
                paths, LandmarkConfig(num_workers=self.workers), count, source.get("subject", ())
            )
            found.valid[source.get("unusable", [])] = False
            cuts = [cut - source["take"][0] for cut in source["cuts"]]
            found.covered = covered_frames(paths, found, cuts, self.workers)
        found.save(output.landmarks)
        return {
            "landmarks": {
                "detector": "mediapipe",
                "num_invalid": int((~found.valid).sum()),
                "covered": np.flatnonzero(found.covered).tolist(),
            }
        }

    def tracking(self, dataset: DatasetLayout, output: DatasetLayout) -> Facts:
        """Step 3: focal length, pose of every frame, personal mesh and expressions."""
        config = TrackingConfig(focal=self.settings.focal, num_workers=self.workers)
        size = tuple(read_talker(dataset)["size"])
        paths = frame_paths(dataset)
        with self.progress("tracking", len(paths)) as count:
            landmarks = Landmarks.load(dataset.landmarks)
            tracking = track_head(paths, landmarks, (size[0], size[1]), config, count)
        tracking.save(output.tracking)
        return {"tracking": finite(tracking.quality)}

    def segmentation(self, dataset: DatasetLayout, output: DatasetLayout) -> Facts:
        """Step 4: head, neck, torso and background."""
        landmarks = Landmarks.load(dataset.landmarks)
        with self.progress("segmentation", len(landmarks.points)) as count:
            name = segment_frames(
                dataset, output, landmarks, self.settings.segmenter, self.workers, count
            )
        return {"segmenter": name}

    def layers(self, dataset: DatasetLayout, output: DatasetLayout) -> Facts:
        """Step 5: background and torso layers."""
        num_frames = read_talker(dataset)["num_frames"]
        with self.progress("layers", num_frames) as count:
            landmarks = Landmarks.load(dataset.landmarks)
            background = make_background(dataset, landmarks)
            write_image(output.background, background.image, JPEG_OPTIONS)
            composite_background = background.image if self.settings.composites else None
            write_torso_layers(
                dataset, output, num_frames, self.workers, count, composite_background
            )
            periods = time_varying_background(dataset, landmarks, background.image, self.workers)
            write_time_varying_background(output, periods)
        return {
            "background": {
                "seen": background.seen_fraction,
                "motion": background.motion,
                "plates": len(periods.backgrounds),
                "camera_sway": camera_sway(dataset, landmarks, self.workers),
            }
        }

    def audio(self, dataset: DatasetLayout, output: DatasetLayout) -> Facts:
        """Step 6: offset of sound and picture, speech features."""
        settings = self.settings
        with self.progress("audio", len(settings.encoders)) as count:
            landmarks = Landmarks.load(dataset.landmarks)
            facts = prepare_audio(
                dataset, output, landmarks, settings.encoders, settings.av_offset_ms, count
            )
        # Features of an earlier run may belong to another offset. A data set may be a download, so
        # the paths in its talker.json are not believed: only files of known names are deleted.
        for name in read_talker(dataset).get("audio", {}):
            if name in AUDIO_FEATURE_FILES and name not in facts["audio"]:
                dataset.audio_features(name).unlink(missing_ok=True)
        return facts

    def dataset(self, dataset: DatasetLayout, output: DatasetLayout) -> Facts:
        """Step 7: the files that data parsers read."""
        with self.progress("dataset", None) as count:
            landmarks = Landmarks.load(dataset.landmarks)
            facts = write_dataset(dataset, output, landmarks, Tracking.load(dataset.tracking))
            if self.settings.landmarks == "face-alignment":
                from gaussiantalker_ns.face.fan import detect_points68

                subject = read_talker(dataset)["source"].get("subject", ())
                fan = detect_points68(frame_paths(dataset), progress=count, subject=subject)
                write_points68(dataset, fan.points, fan.valid)
        facts["consent"] = {"statement": self.consent} if self.consent else None
        facts["points68"] = self.settings.landmarks
        return facts

    def report(self, dataset: DatasetLayout, output: DatasetLayout) -> Facts:
        """Step 8: the page that shows how good the data set is."""
        from gaussiantalker_ns.preprocess.report.page import write_report

        with self.progress("report", None):
            return write_report(dataset, output)


def recorded_consent(recorded: Facts, source_sha256: str | None) -> str | None:
    """The statement of consent in `talker.json`, if it is about this video or none is named."""
    source_before = (recorded.get("source") or {}).get("sha256")
    if source_sha256 is not None and source_sha256 != source_before:
        return None
    return (recorded.get("consent") or {}).get("statement")


def frame_paths(dataset: DatasetLayout) -> list[Path]:
    """Paths of all frames of a data set."""
    return [dataset.frame(frame) for frame in range(read_talker(dataset)["num_frames"])]


def finite(quality: dict[str, float]) -> dict[str, Any]:
    """Figures as JSON knows them: no NaN."""
    return {name: value if np.isfinite(value) else None for name, value in quality.items()}
