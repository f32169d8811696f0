"""The average face inside MediaPipe's model file, read out of its protobuf message.

One member of the file, which is a zip, is a small message (`GeometryPipelineMetadata`) with the
mesh. It is read with a few lines, because no protobuf package may be required.
"""

import io
import struct
import zipfile

import numpy as np

MESH_MEMBER = "geometry_pipeline_metadata_landmarks.binarypb"
FLOATS_PER_VERTEX = 5  # Position and texture coordinate.

# Field numbers of the messages GeometryPipelineMetadata and Mesh3d.
CANONICAL_MESH_FIELD = 1
VERTEX_BUFFER_FIELD = 3
INDEX_BUFFER_FIELD = 4

# Wire types of protobuf.
VARINT, FIXED64, LENGTH_DELIMITED, FIXED32 = 0, 1, 2, 5


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


def parse_mesh(message: bytes) -> dict[str, np.ndarray]:
    """Decode a `GeometryPipelineMetadata` message into vertices (centimetres) and triangles."""
    (mesh,) = read_fields(message)[CANONICAL_MESH_FIELD]
    assert isinstance(mesh, bytes)
    fields = read_fields(mesh)
    floats = b"".join(value for value in fields[VERTEX_BUFFER_FIELD] if isinstance(value, bytes))
    vertices = np.array(struct.unpack(f"<{len(floats) // 4}f", floats), np.float32)
    return {
        "vertices": vertices.reshape(-1, FLOATS_PER_VERTEX)[:, :3],
        "triangles": np.array(fields[INDEX_BUFFER_FIELD], np.int32).reshape(-1, 3),
    }


def mesh_of_model(model: bytes) -> dict[str, np.ndarray]:
    """The mesh inside a face landmarker's model file, which is a zip."""
    with zipfile.ZipFile(io.BytesIO(model)) as archive:
        return parse_mesh(archive.read(MESH_MEMBER))
