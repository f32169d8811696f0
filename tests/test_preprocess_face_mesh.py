"""The canonical face mesh, and which of its vertices move with what."""

import numpy as np
import pytest

from gaussiantalker_ns.face.canonical_mesh import canonical_mesh
from gaussiantalker_ns.face.topology import laplacian, rigid_vertices, vertex_normals


def test_canonical_mesh_is_a_face_in_head_space():
    mesh = canonical_mesh()
    assert (mesh.vertices.shape, mesh.triangles.shape) == ((468, 3), (898, 3))
    right_eye, left_eye, nose, chin = mesh.vertices[[33, 263, 1, 152]]
    assert left_eye[0] > 0 > right_eye[0]
    assert left_eye[0] - right_eye[0] == pytest.approx(0.089, abs=0.002)
    assert chin[1] < nose[1] < left_eye[1]
    assert nose[2] > left_eye[2]
    assert vertex_normals(mesh.vertices)[1, 2] > 0.9


def test_rigid_set_leaves_out_what_expressions_move():
    rigid = rigid_vertices()
    lips, lids, brows, forehead, chin = [13, 14, 61, 291], [159, 145, 386, 374], [105, 334], 10, 152
    assert not rigid[[*lips, *lids, *brows, forehead, chin]].any()
    assert rigid[[1, 4, 168, 234, 454]].all()
    assert 120 < rigid.sum() < 220


def test_laplacian_of_a_constant_is_zero():
    np.testing.assert_allclose(laplacian() @ np.ones(468), 0, atol=1e-12)
