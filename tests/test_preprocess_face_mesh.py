"""The canonical mesh of the face model's file, and which of its vertices move with what."""

import numpy as np
import pytest

from gaussiantalker_ns.face.canonical_mesh import (
    canonical_mesh,
    parse_mesh,
    read_fields,
    read_varint,
)
from gaussiantalker_ns.face.topology import laplacian, rigid_vertices, vertex_normals


def test_varint():
    assert read_varint(b"\xac\x02", 0) == (300, 2)
    assert read_varint(b"\x00\x7f", 1) == (127, 2)
    with pytest.raises(ValueError, match="ends inside a number"):
        read_varint(b"\xac", 0)


def test_fields_of_a_message():
    message = b"\x08\x96\x01" + b"\x12\x03abc" + b"\x1d\x00\x00\x80\x3f" + b"\x12\x01d"
    assert read_fields(message) == {1: [150], 2: [b"abc", b"d"], 3: [b"\x00\x00\x80\x3f"]}
    with pytest.raises(ValueError, match="ends inside a field"):
        read_fields(b"\x12\x05abc")
    with pytest.raises(ValueError, match="wire type 3"):
        read_fields(b"\x0b")


def test_mesh_of_one_triangle():
    corners = np.array([[0, 0, 0, 0, 0], [100, 0, 0, 1, 0], [0, 100, 0, 0, 1]], "<f4")
    buffer = b"".join(b"\x1d" + value.tobytes() for value in corners.ravel())
    mesh = buffer + b"\x20\x00\x20\x01\x20\x02"
    parsed = parse_mesh(b"\x0a" + bytes([len(mesh)]) + mesh)
    np.testing.assert_allclose(parsed.vertices, [[0, 0, 0], [1, 0, 0], [0, 1, 0]])
    assert parsed.triangles.tolist() == [[0, 1, 2]]


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
