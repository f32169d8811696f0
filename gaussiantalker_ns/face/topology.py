"""Face topology: landmark indices by name, and regions of the canonical mesh."""

from functools import lru_cache

import numpy as np
from jaxtyping import Bool, Float64

from gaussiantalker_ns.face.canonical_mesh import NUM_VERTICES, canonical_mesh

LIPS_OUTER = (
    *(61, 146, 91, 181, 84, 17, 314, 405, 321, 375),
    *(291, 409, 270, 269, 267, 0, 37, 39, 40, 185),
)
LIPS_INNER = (
    *(78, 95, 88, 178, 87, 14, 317, 402, 318, 324),
    *(308, 415, 310, 311, 312, 13, 82, 81, 80, 191),
)
EYE_RIGHT = (33, 7, 163, 144, 145, 153, 154, 155, 133, 173, 157, 158, 159, 160, 161, 246)
EYE_LEFT = (263, 249, 390, 373, 374, 380, 381, 382, 362, 398, 384, 385, 386, 387, 388, 466)
BROW_RIGHT = (46, 53, 52, 65, 55, 70, 63, 105, 66, 107)
BROW_LEFT = (276, 283, 282, 295, 285, 300, 293, 334, 296, 336)
FACE_OVAL = (
    *(10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377),
    *(152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109),
)
"""Rings of mesh points; right and left are the person's. Rings start at an end and go round."""

NOSE_TIP, NOSE_TO_LIP, LOWEST_OF_CHIN = 4, (2, 0), 152
"""The tip of the nose; its base and the upper edge of the lips, below it; the tip of the chin."""

IBUG68_FROM_MESH = (
    *(162, 234, 93, 58, 172, 136, 149, 148, 152, 377, 378, 365, 397, 288, 323, 454, 389),
    *(71, 63, 105, 66, 107, 336, 296, 334, 293, 301),
    *(168, 197, 5, 4, 75, 97, 2, 326, 305),
    *(33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380),
    *(61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181),
    *(78, 82, 13, 312, 308, 317, 14, 87),
)
"""The mesh point nearest to each of the 68 iBUG landmarks, in their order."""

NUM_MESH_POINTS = 468


NUM_LANDMARKS = 478
NUM_BLENDSHAPES = 52


RIGHT_EYE_CONTOUR = (33, 160, 158, 133, 153, 144)
LEFT_EYE_CONTOUR = (362, 385, 387, 263, 373, 380)
"""Corner, two points of the upper lid, corner, two of the lower lid, as eye aspect ratios go."""

OUTER_EYE_CORNERS = (33, 263)
INNER_LIPS = (13, 14)
MOUTH_CORNERS = (61, 291)

STABLE_POINTS = (10, 151, 9, 8, 168, 6, 197, 33, 133, 362, 263, 127, 356, 234, 454, 1, 4)
"""Points that hardly move with the expression; the alignment uses them."""

FOREHEAD, CHIN, IMAGE_LEFT_EAR, IMAGE_RIGHT_EAR = 10, 152, 234, 454
IMAGE_LEFT_LOBE, IMAGE_RIGHT_LOBE = (132, 58), (361, 288)
"""Outline points above and below the lobe of the ear."""

LIP_POINTS = LIPS_OUTER + LIPS_INNER
"""The 40 points of both lips' outlines."""

LOWER_LIP_POINTS, UPPER_LIP_POINTS = (87, 14, 317), (82, 13, 312)
"""Mesh points in the middle of the inner rims of the lips."""

JAW_OPEN = 25
"""Column of the blendshape that tells how far the recorded mouth is open."""


UPPER_FACE_BLENDSHAPES = (1, 2, 3, 4, 5, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20)
"""Columns of the 52 blendshapes in the expression: brows, blink, gaze, squint."""

NUM_BROWS = 5
"""The first values of the expression are the brows; blink, gaze and squint follow."""

BLINK_PLACES = slice(5, 7)
"""Places of the two blink values inside the expression (columns 9 and 10 of the blendshapes)."""

BLINK_COLUMNS = (9, 10)


UPPER_BLENDSHAPES = tuple(range(1, 6)) + tuple(range(9, 23))
"""MediaPipe's scores of brows and eyes."""

LOWER_BLENDSHAPES = tuple(range(23, 50))
"""MediaPipe's scores of jaw and mouth."""


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
    adjacency = np.zeros((NUM_VERTICES, NUM_VERTICES))
    adjacency[edges[:, 0], edges[:, 1]] = 1.0
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
