"""Catmull-Clark subdivision as a sparse matrix, so that it commutes with linear face shapes."""

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from jaxtyping import Int


@dataclass
class Subdivision:
    """One level of subdivision of a quad mesh."""

    matrix: sp.csr_matrix
    """Maps the old vertices to the new ones (old vertices, then face points, then edge points)."""
    faces: Int[np.ndarray, "f4 4"]
    """Quads over the new vertices, four per old quad and in its order."""


def _edges(faces: Int[np.ndarray, "f 4"]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the unique edges [e 2], the edge of every face corner [f 4], and faces per edge."""
    pairs = np.stack([faces, np.roll(faces, -1, axis=1)], axis=-1).reshape(-1, 2)
    edges, inverse, counts = np.unique(
        np.sort(pairs, axis=1), axis=0, return_inverse=True, return_counts=True
    )
    return edges, inverse.reshape(faces.shape), counts


def catmull_clark(faces: Int[np.ndarray, "f 4"], num_vertices: int) -> Subdivision:
    """Subdivide a quad mesh once; boundaries follow the cubic B-spline boundary rule.

    Example: one quad gives 9 vertices (4 corners, 1 face point, 4 edge points) and 4 quads.
    """
    edges, edge_of_corner, counts = _edges(faces)
    num_faces, num_edges = len(faces), len(edges)
    face_rows = np.repeat(np.arange(num_faces), 4)
    face_points = sp.csr_matrix(
        (np.full(num_faces * 4, 0.25), (face_rows, faces.ravel())), (num_faces, num_vertices)
    )
    midpoints = sp.csr_matrix(
        (np.full(num_edges * 2, 0.5), (np.repeat(np.arange(num_edges), 2), edges.ravel())),
        (num_edges, num_vertices),
    )
    edge_faces = sp.csr_matrix(
        (np.ones(num_faces * 4), (edge_of_corner.ravel(), face_rows)), (num_edges, num_faces)
    )
    inner = (counts == 2).astype(float)
    edge_points = (
        sp.diags(inner) @ (0.5 * midpoints + 0.25 * edge_faces @ face_points)
        + sp.diags(1 - inner) @ midpoints
    )

    vertex_points = _vertex_rule(faces, edges, counts, face_points, midpoints, num_vertices)
    matrix = sp.csr_matrix(sp.vstack([vertex_points, face_points, edge_points]))
    face_id = num_vertices + np.arange(num_faces)
    edge_id = num_vertices + num_faces + edge_of_corner
    quads = [
        np.stack([faces[:, k], edge_id[:, k], face_id, edge_id[:, k - 1]], axis=1) for k in range(4)
    ]
    return Subdivision(matrix=matrix, faces=np.stack(quads, axis=1).reshape(-1, 4))


def _vertex_rule(
    faces: np.ndarray,
    edges: np.ndarray,
    counts: np.ndarray,
    face_points: sp.csr_matrix,
    midpoints: sp.csr_matrix,
    num_vertices: int,
) -> sp.csr_matrix:
    """Return the rule for old vertices: (F + 2 E + (n - 3) V) / n, or (E + V) / 2 at borders."""
    num_faces, num_edges = len(faces), len(edges)
    touch_faces = sp.csr_matrix(
        (np.ones(num_faces * 4), (faces.ravel(), np.repeat(np.arange(num_faces), 4))),
        (num_vertices, num_faces),
    )
    touch_edges = sp.csr_matrix(
        (np.ones(num_edges * 2), (edges.ravel(), np.repeat(np.arange(num_edges), 2))),
        (num_vertices, num_edges),
    )
    border = (counts == 1).astype(float)
    touch_border = touch_edges @ sp.diags(border)
    valence = np.maximum(np.asarray(touch_edges.sum(axis=1)).ravel(), 1)
    on_border = np.asarray(touch_border.sum(axis=1)).ravel() > 0
    num_border = np.maximum(np.asarray(touch_border.sum(axis=1)).ravel(), 1)
    used = np.bincount(faces.ravel(), minlength=num_vertices) > 0
    identity = sp.identity(num_vertices, format="csr")
    inside = (
        sp.diags(1 / valence**2) @ (touch_faces @ face_points + 2 * touch_edges @ midpoints)
        + sp.diags((valence - 3) / valence) @ identity
    )
    at_border = 0.5 * identity + sp.diags(0.5 / num_border) @ touch_border @ midpoints
    keep_inside = (used & ~on_border).astype(float)
    keep_border = (used & on_border).astype(float)
    keep_rest = (~used).astype(float)
    return (
        sp.diags(keep_inside) @ inside
        + sp.diags(keep_border) @ at_border
        + sp.diags(keep_rest) @ identity
    )


def compact(faces: Int[np.ndarray, "f 4"]) -> tuple[np.ndarray, np.ndarray]:
    """Return the used vertex indices and the faces renumbered to them."""
    used, inverse = np.unique(faces, return_inverse=True)
    return used, inverse.reshape(faces.shape)
