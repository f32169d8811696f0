"""The average face that comes with the landmark model: 468 vertices in head space, with triangles.

MediaPipe's model file is a zip; one of its members is a small protobuf message
(`GeometryPipelineMetadata`) with the mesh. It is read here with a few lines, because no protobuf
package may be required.
"""

import struct
import zipfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from jaxtyping import Float64, Int64

from gaussiantalker_ns.assets import asset_path

NUM_VERTICES = 468
"""Vertices of the mesh; landmarks 468 to 477 are the irises and have no vertex."""

MESH_MEMBER = "geometry_pipeline_metadata_landmarks.binarypb"
CENTIMETRE = 0.01
FLOATS_PER_VERTEX = 5  # Position and texture coordinate.

# Field numbers of the messages GeometryPipelineMetadata and Mesh3d.
CANONICAL_MESH_FIELD = 1
VERTEX_BUFFER_FIELD = 3
INDEX_BUFFER_FIELD = 4

# Wire types of protobuf.
VARINT, FIXED64, LENGTH_DELIMITED, FIXED32 = 0, 1, 2, 5


@dataclass(frozen=True)
class CanonicalMesh:
    """The average face; x to the person's left, y up, z out of the face, in metres."""

    vertices: Float64[np.ndarray, "m 3"]
    triangles: Int64[np.ndarray, "k 3"]


def read_varint(message: bytes, position: int) -> tuple[int, int]:
    """Read a base-128 number and the position behind it. (b"\\xac\\x02", 0) -> (300, 2)."""
    value = shift = 0
    while True:
        if position >= len(message):
            raise ValueError(f"protobuf message of {len(message)} bytes ends inside a number")
        byte = message[position]
        value |= (byte & 0x7F) << shift
        position += 1
        if byte < 0x80:
            return value, position
        shift += 7


def read_fields(message: bytes) -> dict[int, list[int | bytes]]:
    """Split a protobuf message into fields: number -> values in order, bytes but for varints."""
    fields: dict[int, list[int | bytes]] = {}
    position = 0
    while position < len(message):
        key, position = read_varint(message, position)
        wire_type = key & 7
        if wire_type == VARINT:
            value, position = read_varint(message, position)
        else:
            if wire_type == LENGTH_DELIMITED:
                length, position = read_varint(message, position)
            elif wire_type in (FIXED32, FIXED64):
                length = 4 if wire_type == FIXED32 else 8
            else:
                raise ValueError(f"protobuf wire type {wire_type} at byte {position} is unknown")
            value, position = message[position : position + length], position + length
            if len(value) != length:
                raise ValueError(f"protobuf message of {len(message)} bytes ends inside a field")
        fields.setdefault(key >> 3, []).append(value)
    return fields


def parse_mesh(message: bytes) -> CanonicalMesh:
    """Decode a `GeometryPipelineMetadata` message into the mesh it holds."""
    (mesh,) = read_fields(message)[CANONICAL_MESH_FIELD]
    assert isinstance(mesh, bytes)
    fields = read_fields(mesh)
    floats = b"".join(value for value in fields[VERTEX_BUFFER_FIELD] if isinstance(value, bytes))
    vertices = np.array(struct.unpack(f"<{len(floats) // 4}f", floats)).reshape(
        -1, FLOATS_PER_VERTEX
    )
    triangles = np.array(fields[INDEX_BUFFER_FIELD], np.int64).reshape(-1, 3)
    return CanonicalMesh(vertices[:, :3] * CENTIMETRE, triangles)


@lru_cache(maxsize=1)
def canonical_mesh(model: Path | None = None) -> CanonicalMesh:
    """Read the mesh out of a face landmarker's model file, by default the package's own."""
    path = model or asset_path("face_landmarker.task")
    with zipfile.ZipFile(path) as archive:
        return parse_mesh(archive.read(MESH_MEMBER))
