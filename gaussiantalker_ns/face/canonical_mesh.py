"""The canonical face mesh: MediaPipe's average face, 468 vertices in head space, with triangles.

The asset holds positions in centimetres and triangles; `scripts/dev/make_assets.py` takes both out
of the face landmarker's model file.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Float64, Int64

from gaussiantalker_ns.assets import asset_path

MESH_ASSET = "canonical_face_mesh.npz"
"""The file in `assets/`."""

NUM_VERTICES = 468
"""Vertices of the mesh; landmarks 468 to 477 are the irises and have no vertex."""

CENTIMETRE = 0.01
"""The unit of the asset in metres."""


@dataclass(frozen=True)
class CanonicalMesh:
    """The average face; x to the person's left, y up, z out of the face, in metres."""

    vertices: Float64[np.ndarray, "m 3"]
    """Positions."""
    triangles: Int64[np.ndarray, "k 3"]
    """Vertices of each triangle, counter-clockwise seen from outside."""


@lru_cache(maxsize=1)
def canonical_mesh() -> CanonicalMesh:
    """Read the package's mesh."""
    with np.load(asset_path(MESH_ASSET)) as arrays:
        vertices, triangles = arrays["vertices"], arrays["triangles"]
    return CanonicalMesh(vertices.astype(np.float64) * CENTIMETRE, triangles.astype(np.int64))
