"""Parts of the canonical mesh by what they do: moved by the skull alone, or by expressions too."""

from functools import lru_cache

import numpy as np
from jaxtyping import Bool, Float64
from scipy import sparse

from gaussiantalker_ns.preprocess.canonical_mesh import NUM_VERTICES, canonical_mesh

# Limits in metres of the canonical mesh (x to the person's left, y up).
NOSE_BASE_HEIGHT = -0.022
BROW_HEIGHT = 0.040
CHEEK_HEIGHT = -0.008  # Below this the cheek follows the mouth.
NOSE_HALF_WIDTH = 0.021
EYE_INNER, EYE_OUTER = 0.012, 0.054  # |x| of the eye socket, brows included.
EYE_BOTTOM = 0.016  # Lower end of what lids and squinting move.


@lru_cache(maxsize=1)
def rigid_vertices() -> Bool[np.ndarray, " 468"]:
    """Vertices that move with the skull alone: nose, upper cheeks, temples.

    Lids, brows, lips and everything below the nose move with expressions. The forehead is left out
    as well: raising the brows drags it along, and with it the pose (0.9 px at the crown at 512 px).
    """
    x, y, _ = canonical_mesh().vertices.T
    x = np.abs(x)
    nose = (y > NOSE_BASE_HEIGHT) & (x < NOSE_HALF_WIDTH)
    cheek = y > CHEEK_HEIGHT
    socket = (x > EYE_INNER) & (x < EYE_OUTER) & (y > EYE_BOTTOM)
    return (nose | cheek) & (y < BROW_HEIGHT) & ~socket


@lru_cache(maxsize=1)
def laplacian() -> Float64[np.ndarray, "468 468"]:
    """Uniform graph Laplacian of the mesh: a vertex minus the mean of its neighbours."""
    triangles = canonical_mesh().triangles
    edges = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]])
    edges = np.concatenate([edges, edges[:, ::-1]])
    adjacency = sparse.coo_matrix(
        (np.ones(len(edges)), (edges[:, 0], edges[:, 1])), shape=(NUM_VERTICES, NUM_VERTICES)
    ).toarray()
    adjacency = (adjacency > 0).astype(np.float64)
    return np.eye(NUM_VERTICES) - adjacency / adjacency.sum(axis=1, keepdims=True)


def vertex_normals(
    vertices: Float64[np.ndarray, "468 3"],
) -> Float64[np.ndarray, "468 3"]:
    """Area-weighted unit normals of a mesh with the canonical triangles, out of the face."""
    triangles = canonical_mesh().triangles
    corners = vertices[triangles]
    facing = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals = np.zeros_like(vertices)
    for corner in range(3):
        np.add.at(normals, triangles[:, corner], facing)
    return normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
