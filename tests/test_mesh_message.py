"""The reader of the protobuf message with the average face, by hand-made messages."""

import numpy as np
import pytest

from gaussiantalker_ns.assets import asset_path
from gaussiantalker_ns.face.canonical_mesh import MESH_ASSET
from gaussiantalker_ns.scripts.dev.mesh_message import (
    mesh_of_model,
    parse_mesh,
    read_fields,
    read_varint,
)


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
    np.testing.assert_allclose(parsed["vertices"], [[0, 0, 0], [100, 0, 0], [0, 100, 0]])
    assert parsed["triangles"].tolist() == [[0, 1, 2]]


def test_the_asset_holds_the_mesh_of_the_model_file():
    mesh = mesh_of_model(asset_path("face_landmarker.task").read_bytes())
    with np.load(asset_path(MESH_ASSET)) as arrays:
        for name, expected in mesh.items():
            np.testing.assert_array_equal(arrays[name], expected)
