"""The data parser `talking-head`: our data sets and those of AD-NeRF, ER-NeRF and GaussianTalker.

This module is an entry point that Nerfstudio loads while its own data managers are half imported.
It may import neither trainer, pipelines, data managers nor models; a test holds it to that.
"""

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Int64
from nerfstudio.cameras.cameras import Cameras, CameraType
from nerfstudio.data.dataparsers.base_dataparser import (
    DataParser,
    DataParserConfig,
    DataparserOutputs,
)
from nerfstudio.data.scene_box import SceneBox
from nerfstudio.plugins.registry_dataparser import DataParserSpecification
from torch import Tensor

from gaussiantalker_ns.dataparsers.background_layers import BackgroundLayers
from gaussiantalker_ns.dataparsers.blinks import read_blink
from gaussiantalker_ns.dataparsers.cameras import opengl_from_head_pose
from gaussiantalker_ns.dataparsers.dataset_layout import DatasetLayout
from gaussiantalker_ns.dataparsers.face_mesh import FaceMesh, read_face_mesh
from gaussiantalker_ns.dataparsers.frames import Foreground, check_frames
from gaussiantalker_ns.dataparsers.initial_points import (
    InitialPoints,
    mouth_border,
    points_at_random,
    points_from_mesh,
)
from gaussiantalker_ns.dataparsers.landmarks import read_mouth
from gaussiantalker_ns.dataparsers.poses import ClipPoses, read_description, read_poses
from gaussiantalker_ns.dataparsers.signals import (
    read_audio_features,
    read_blendshapes,
    read_boxes,
)
from gaussiantalker_ns.dataparsers.visual_hull import read_silhouettes
from gaussiantalker_ns.face.topology import JAW_OPEN
from gaussiantalker_ns.frame_signals import ConditionTrack
from gaussiantalker_ns.timebase import FPS

CLOSED_LIPS_QUANTILE = 0.15
CENTER_TOLERANCE = 0.25
"""Distance of the principal point from the middle, in image sides, beyond which sizes disagree."""


@dataclass
class TalkingHeadDataParserConfig(DataParserConfig):
    """What is read of a data set, and at which size."""

    _target: type = field(default_factory=lambda: TalkingHeadDataParser)
    data: Path = Path("data")
    """Folder of the data set: made by `gaussiantalker process`, or in the AD-NeRF layout."""
    image_size: int | None = None
    """Side in pixels to which frames are resized, >= 16; None keeps the size on disk."""
    downscale_factor: float | None = None
    """Divides the image size once more, >= 1; it is what `ns-render dataset` sets."""
    audio_encoder: str | None = None
    """Whose audio features are used; None takes the best that the data set has, whisper first."""
    foreground: Foreground = "head"
    """What the Gaussians model: the head, over torso and background, or the person, over the
    background."""
    point_initialisation: Literal["mesh", "random"] = "mesh"
    """Initial points from the face mesh and carved hair, or random ones in a box."""
    num_points: int | None = 10_000
    """Number of initial points, >= 100; None takes the public code's 34 650, and all vertices of a
    legacy tracker's mesh."""
    seed: int = 0
    """Seed of the initial points."""

    def __post_init__(self) -> None:
        for name, lowest in (("image_size", 16), ("num_points", 100), ("downscale_factor", 1)):
            value = getattr(self, name)
            if value is not None and value < lowest:
                raise ValueError(
                    f"{name} is {value}; expected at least {lowest}. "
                    f"Change --{name.replace('_', '-')} after `talking-head`."
                )


class TalkingHeadDataParser(DataParser):
    """Reads a talking-head data set; all splits share one pass over the files.

    `DataparserOutputs.metadata` holds `track` (ConditionTrack of all frames), `layers`
    (BackgroundLayers), `boxes` (name -> `[N, 4]` working pixels, x1 and y1 exclusive), `points`,
    `point_colors`, `bounds` and `mouth_border` (scene units), and `closed_lip_frames` (training
    frames, maybe none).
    Camera metadata `frame` `[M, 1]` names the frame of each camera; `times` is frame / (N - 1).
    """

    config: TalkingHeadDataParserConfig  # pyright: ignore[reportIncompatibleVariableOverride]
    includes_time: bool = True

    def __init__(self, config: TalkingHeadDataParserConfig) -> None:
        super().__init__(config)
        self.layout = DatasetLayout(Path(config.data))

    def _generate_dataparser_outputs(
        self, split: str = "train", **kwargs: dict | None
    ) -> DataparserOutputs:
        """Cameras and pictures of a split: train, val, test (= val) or all.

        Frames without a face take part in no split but keep their number.
        """
        poses = self.poses
        if split == "all":
            frames = sorted(poses.train_frames + poses.val_frames)
        else:
            frames = poses.train_frames if split == "train" else poses.val_frames
        frames = [frame for frame in frames if poses.valid[frame]]
        if not frames:
            raise ValueError(
                f"{self.layout.root} has no frame with a face in the split '{split}'; expected at "
                "least one. Use a longer video, or one in which the face stays in the picture."
            )
        bounds = self.shared_metadata["bounds"]
        return DataparserOutputs(
            image_filenames=[self.layout.frame(frame) for frame in frames],
            cameras=self._cameras(torch.tensor(frames)),
            scene_box=SceneBox(aabb=bounds),
            metadata=dict(self.shared_metadata),
        )

    @cached_property
    def description(self) -> dict[str, Any] | None:
        """Contents of `talker.json`, or None."""
        return read_description(self.layout)

    @cached_property
    def poses(self) -> ClipPoses:
        """Poses and split at the size on disk."""
        return read_poses(self.layout, self.description)

    @cached_property
    def disk_size(self) -> int:
        """Side of the frames on disk, after a look at all of them."""
        poses = self.poses
        size = check_frames(self.layout, sorted(poses.train_frames + poses.val_frames))
        offset = max(abs(poses.cx - size / 2), abs(poses.cy - size / 2)) / size
        if offset > CENTER_TOLERANCE:
            raise ValueError(
                f"{self.layout.transforms('train')} has its principal point at ({poses.cx:g}, "
                f"{poses.cy:g}) but the frames have {size}x{size} pixels; expected it near the "
                "middle. Were the frames resized? Use image_size of the data parser instead."
            )
        return size

    @cached_property
    def size(self) -> int:
        """Working side of the frames."""
        size = self.config.image_size or self.disk_size
        return max(round(size / (self.config.downscale_factor or 1)), 1)

    @cached_property
    def mesh(self) -> FaceMesh:
        """Mean face in head space."""
        return read_face_mesh(self.layout, self.poses)

    @cached_property
    def shared_metadata(self) -> dict[str, Any]:
        """What all splits know of the clip."""
        track = self._track()
        points = self._points()
        return {
            "track": track,
            "layers": BackgroundLayers(self.layout, self.size, self.config.foreground),
            "boxes": read_boxes(self.layout, self.poses, self.mesh, self.disk_size, self.size),
            "points": points.positions,
            "point_colors": points.colors,
            "bounds": points.bounds,
            "mouth_border": mouth_border(self.mesh),
            "closed_lip_frames": closed_lip_frames(track),
        }

    def _track(self) -> ConditionTrack:
        poses, num_frames = self.poses, len(self.poses.valid)
        encoder, audio = read_audio_features(self.layout, num_frames, self.config.audio_encoder)
        blendshapes = read_blendshapes(self.layout, num_frames)
        blink = read_blink(self.layout, num_frames, blendshapes)
        mouth = read_mouth(self.layout, num_frames, blendshapes)
        return ConditionTrack(
            audio=torch.from_numpy(audio),
            audio_encoder=encoder,
            blink=torch.from_numpy(blink),
            blendshapes=None if blendshapes is None else torch.from_numpy(blendshapes),
            mouth=None if mouth is None else torch.from_numpy(mouth),
            T_camera_head=poses.T_camera_head.float(),
            valid=poses.valid,
            train_frames=torch.tensor([f for f in poses.train_frames if poses.valid[f]]),
            fps=float(FPS),
        )

    def _points(self) -> InitialPoints:
        silhouettes = read_silhouettes(
            self.layout, self.poses, self.size, self.size / self.disk_size, self.config.foreground
        )
        place = points_from_mesh if self.config.point_initialisation == "mesh" else points_at_random
        return place(self.mesh, silhouettes, self.config.num_points, self.config.seed)

    def _cameras(self, frames: Int64[Tensor, " b"]) -> Cameras:
        poses, scale = self.poses, self.size / self.disk_size
        last = max(len(poses.valid) - 1, 1)
        return Cameras(
            camera_to_worlds=opengl_from_head_pose(poses.T_camera_head[frames])[:, :3].float(),
            fx=poses.focal * scale,
            fy=poses.focal * scale,
            cx=poses.cx * scale,
            cy=poses.cy * scale,
            width=self.size,
            height=self.size,
            camera_type=CameraType.PERSPECTIVE,
            times=(frames / last).float(),
            metadata={"frame": frames[:, None]},
        )


def closed_lip_frames(track: ConditionTrack) -> Int64[Tensor, " m"]:
    """Training frames whose jaw is among the least open 15 %; none without blendshapes."""
    if track.blendshapes is None:
        return torch.zeros(0, dtype=torch.int64)
    opening = track.blendshapes[track.train_frames, JAW_OPEN].float()
    return track.train_frames[opening <= torch.quantile(opening, CLOSED_LIPS_QUANTILE)]


talking_head_spec = DataParserSpecification(
    config=TalkingHeadDataParserConfig(),
    description="Talking portraits of `gaussiantalker process` or in the AD-NeRF layout.",
)
