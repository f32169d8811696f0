"""The mean mesh of a clip's face in head space: our own, a legacy tracker's, or an average face."""

import os
import pickle
import uuid
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float32, Int64
from nerfstudio.utils.rich_utils import CONSOLE

from gaussiantalker_ns.dataparsers.average_face import place_average_face
from gaussiantalker_ns.dataparsers.cameras import SCENE_UNITS_PER_METRE
from gaussiantalker_ns.dataparsers.dataset_layout import DatasetLayout
from gaussiantalker_ns.dataparsers.poses import ClipPoses
from gaussiantalker_ns.face.topology import NUM_MESH_POINTS

MAX_AVERAGED_FRAMES = 512
"""Frames of a legacy vertex table that are read for its mean: 210 MB instead of up to 3 GB."""


@dataclass(frozen=True)
class FaceMesh:
    """Mean vertices of the face, and where MediaPipe's 468 points lie on it."""

    vertices: Float32[np.ndarray, "m 3"]
    """Head space, metres."""
    triangles: Int64[np.ndarray, "p 3"] | None
    """Vertex indices of the triangles, or None for a point cloud."""
    landmarks: Float32[np.ndarray, "468 3"] | None = None
    """MediaPipe's points on a mesh of other vertices, metres; None where these are its vertices."""

    @property
    def named_vertices(self) -> Float32[np.ndarray, "468 3"]:
        """Points that have names in `face_regions`: lips, eyes, brows, nose; metres."""
        return self.vertices if self.landmarks is None else self.landmarks

    def save(self, path: Path) -> None:
        """Write the file of `DatasetLayout.face_mesh`, complete or not at all.

        Several processes may read a new data set, and write the file, at the same time.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        arrays = {"vertices": self.vertices}
        if self.triangles is not None:
            arrays["triangles"] = self.triangles
        partial = path.with_name(f"{path.stem}.partial-{uuid.uuid4().hex}.npz")
        try:
            np.savez(partial, **arrays)  # pyright: ignore[reportArgumentType]
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)

    @classmethod
    def load(cls, path: Path) -> "FaceMesh":
        """Read the file of `DatasetLayout.face_mesh`.

        Raises:
            ValueError: the file is damaged or has no vertices.
        """
        try:
            with np.load(path) as arrays:
                vertices = arrays["vertices"].astype(np.float32)
                triangles = arrays["triangles"].astype(np.int64) if "triangles" in arrays else None
        except (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile) as error:
            raise ValueError(
                f"{path} cannot be read as a mesh ({error}); expected an npz file with 'vertices' "
                f"in metres. {DatasetLayout(path.parent).remedy('dataset', 'Delete it.')}"
            ) from error
        if vertices.ndim != 2 or vertices.shape[1] != 3 or not np.isfinite(vertices).all():
            raise ValueError(
                f"{path} holds vertices of shape {list(vertices.shape)} or with NaN; expected "
                f"[vertices, 3]. {DatasetLayout(path.parent).remedy('dataset', 'Delete it.')}"
            )
        return cls(vertices, triangles)


def read_face_mesh(layout: DatasetLayout, poses: ClipPoses) -> FaceMesh:
    """Read `face_mesh.npz`; else reduce a legacy `track_params.pt`, once; else the average face.

    A mesh without MediaPipe's points gets them, in its own head space, from the landmarks.
    """
    from gaussiantalker_ns.face.canonical_mesh import canonical_mesh

    mesh = _stored_mesh(layout)
    triangles = canonical_mesh().triangles.astype(np.int64)
    if mesh is None:
        CONSOLE.print(
            f"{layout.root} has no tracked face mesh: the initial points come from an average "
            "face, fitted to the landmarks.",
            style="yellow",
        )
        return FaceMesh(place_average_face(layout, poses).astype(np.float32), triangles)
    if len(mesh.vertices) == NUM_MESH_POINTS:
        # Our own `track_params.pt` alone, as other projects read it, has no triangles.
        return mesh if mesh.triangles is not None else replace(mesh, triangles=triangles)
    landmarks = place_average_face(layout, poses, mesh.vertices).astype(np.float32)
    return replace(mesh, landmarks=landmarks)


def _stored_mesh(layout: DatasetLayout) -> FaceMesh | None:
    cached = layout.cache(layout.face_mesh.name)
    for path in (layout.face_mesh, cached):
        if path.exists():
            return FaceMesh.load(path)
    mesh = reduce_track_params(layout.track_params) if layout.track_params.exists() else None
    if mesh is not None:
        mesh.save(cached)
        CONSOLE.print(f"Mean of {layout.track_params} is kept in {cached}.")
    return mesh


def reduce_track_params(path: Path) -> FaceMesh | None:
    """Average the vertices `[frames, m, 3]` (decimetres) of a legacy tracker over the clip.

    None if the tracker kept no vertices: only GaussianTalker's version does.

    Raises:
        ValueError: the file is damaged or of another shape.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (RuntimeError, pickle.UnpicklingError):
        # Files of torch before 1.6 are no zip archives and cannot be memory-mapped.
        content = _load_unmapped(path)
    vertices = content.get("vertices") if isinstance(content, dict) else None
    if vertices is None:
        return None
    if vertices.ndim != 3 or vertices.shape[-1] != 3 or 0 in vertices.shape:
        raise ValueError(
            f"{path} holds vertices of shape {list(vertices.shape)}; expected [frames, count, 3]. "
            "Track the head again, or delete the file to start from an average face."
        )
    step = -(-len(vertices) // MAX_AVERAGED_FRAMES)
    total = torch.zeros(vertices.shape[1:], dtype=torch.float64)
    frames = range(0, len(vertices), step)
    for frame in frames:
        total += vertices[frame]
    mean = (total / len(frames) / SCENE_UNITS_PER_METRE).float().numpy()
    return FaceMesh(mean, None)


def _load_unmapped(path: Path) -> object:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for damaged and for foreign files.
        raise ValueError(
            f"{path} cannot be read ({type(error).__name__}); expected the tensors of a head "
            "tracker. Copy the file again, or delete it to start from an average face."
        ) from error
