"""The parts a character is made of: meshes and strands whose shape is linear in the face weights.

Everything is in metres in the head frame: x to the person's left, y up, z out of the face, origin
3 cm below and 4 cm behind the midpoint of the eyeball centres.
"""

from dataclasses import dataclass, field, fields

import numpy as np
from jaxtyping import Float, Int

FACE_UNITS = (
    "jawOpen", "mouthClose", "mouthFunnel", "mouthPucker", "mouthSmileLeft", "mouthSmileRight",
    "mouthStretchLeft", "mouthStretchRight", "mouthRollLower", "mouthRollUpper",
    "mouthShrugLower", "mouthShrugUpper", "mouthPressLeft", "mouthPressRight",
    "mouthLowerDownLeft", "mouthLowerDownRight", "mouthUpperUpLeft", "mouthUpperUpRight",
    "mouthDimpleLeft", "mouthDimpleRight", "tongueOut",
    "browInnerUp", "browOuterUpLeft", "browOuterUpRight", "browDownLeft", "browDownRight",
    "cheekSquintLeft", "cheekSquintRight", "eyeBlinkLeft", "eyeBlinkRight",
    "eyeSquintLeft", "eyeSquintRight", "eyeWideLeft", "eyeWideRight",
    "eyeLookDownLeft", "eyeLookDownRight", "eyeLookUpLeft", "eyeLookUpRight",
)  # fmt: skip
"""ARKit face units that the clip uses, in the order of the weight columns."""

CORRECTIVES = ("tongueRaise", "lidArcLeft", "lidArcRight")
"""Own shapes after the ARKit ones: tongue tip to the palate, and lids kept outside the eyeball."""

CHANNELS = FACE_UNITS + CORRECTIVES
"""Names of all weight columns."""

SKIN, EYE, TEETH, TONGUE, SHIRT, GUM, BUTTON = range(7)
"""Material numbers of triangles."""

HAIR, BROW, LASH = range(3)
"""Material numbers of strands."""


@dataclass
class Mesh:
    """Triangles whose vertices move linearly with the face weights and then with the skeleton."""

    rest: Float[np.ndarray, "v 3"]
    """Vertices with a neutral face."""
    faces: Int[np.ndarray, "f 3"]
    """Triangles, counter-clockwise seen from outside."""
    material: int
    """Material of all triangles."""
    basis: dict[int, Float[np.ndarray, "v 3"]] = field(default_factory=dict)
    """Offset per unit weight, by channel number; missing channels do not move this mesh."""
    head_weight: Float[np.ndarray, " v"] | float = 1.0
    """1 where a vertex moves rigidly with the head, 0 with the torso."""
    eye: int = 0
    """0, or 1 (left) and 2 (right) for an eyeball that also turns with the gaze."""
    masks: dict[str, Float[np.ndarray, " v"]] = field(default_factory=dict)
    """Vertex masks for the shader, in [0, 1]; see `MASKS`."""
    texture_point: Float[np.ndarray, "v 3"] | None = None
    """Point at which procedural texture is evaluated; default `rest`."""


@dataclass
class Strands:
    """Curves drawn as ribbons: points that move with a mesh or rigidly with the head."""

    points: Float[np.ndarray, "s p 3"]
    """Points from root to tip with a neutral face."""
    width: Float[np.ndarray, "s p"]
    """Ribbon width in metres."""
    material: int
    """Strand material."""
    colour: Float[np.ndarray, "s 3"]
    """Linear RGB albedo of each strand."""
    occlusion: Float[np.ndarray, "s p"]
    """Ambient visibility of each point in [0, 1]."""
    basis: dict[int, Float[np.ndarray, "s p 3"]] = field(default_factory=dict)
    """Offset per unit weight, by channel number."""


MASKS = ("lip", "mouth", "lid", "ear", "scalp", "blush", "shade", "occlusion")
"""Shader masks: lips, mouth lining, eyelids, ears, hair-covered skin, redness, dark areas, ambient
visibility."""


@dataclass
class Character:
    """All parts flattened into arrays, ready to be posed and drawn."""

    rest: Float[np.ndarray, "v 3"]
    basis: Float[np.ndarray, "k v 3"]
    head_weight: Float[np.ndarray, " v"]
    eye: Int[np.ndarray, " v"]
    faces: Int[np.ndarray, "f 3"]
    material: Int[np.ndarray, " f"]
    masks: Float[np.ndarray, "v 8"]
    texture_point: Float[np.ndarray, "v 3"]
    strand_points: Float[np.ndarray, "m 3"]
    strand_basis: Float[np.ndarray, "k j 3"]
    strand_moving: Int[np.ndarray, " j"]
    """Rows of `strand_points` that `strand_basis` moves; the others are rigid."""
    strand_width: Float[np.ndarray, " m"]
    strand_colour: Float[np.ndarray, "m 3"]
    strand_occlusion: Float[np.ndarray, " m"]
    segments: Int[np.ndarray, "g 2"]
    segment_material: Int[np.ndarray, " g"]
    eye_centres: Float[np.ndarray, "2 3"]
    neck_pivot: Float[np.ndarray, "3"]
    """Point about which the head turns relative to the torso."""

    def __post_init__(self) -> None:
        """Make every array contiguous and single precision, as the compiled kernels expect."""
        for item in fields(self):
            value = getattr(self, item.name)
            kind = np.float32 if value.dtype.kind == "f" else np.int32
            setattr(self, item.name, np.ascontiguousarray(value, dtype=kind))


def flatten(
    meshes: list[Mesh], strands: list[Strands], eye_centres: np.ndarray, neck_pivot: np.ndarray
) -> Character:
    """Join the parts of a character."""
    num_channels, num_vertices = len(CHANNELS), sum(len(mesh.rest) for mesh in meshes)
    basis = np.zeros((num_channels, num_vertices, 3), np.float32)
    masks = np.zeros((num_vertices, len(MASKS)), np.float32)
    masks[:, MASKS.index("occlusion")] = 1.0
    head_weight, eye = np.zeros(num_vertices), np.zeros(num_vertices, int)
    faces, material, start = [], [], 0
    for mesh in meshes:
        rows = slice(start, start + len(mesh.rest))
        for channel, offset in mesh.basis.items():
            basis[channel, rows] = offset
        for name, values in mesh.masks.items():
            masks[rows, MASKS.index(name)] = values
        head_weight[rows], eye[rows] = mesh.head_weight, mesh.eye
        faces.append(mesh.faces + start)
        material.append(np.full(len(mesh.faces), mesh.material))
        start += len(mesh.rest)
    points, segments, segment_material, moving, moving_basis = _flatten_strands(strands)
    return Character(
        rest=np.concatenate([mesh.rest for mesh in meshes]),
        basis=basis,
        head_weight=head_weight,
        eye=eye,
        faces=np.concatenate(faces),
        material=np.concatenate(material),
        masks=masks,
        texture_point=np.concatenate(
            [mesh.rest if mesh.texture_point is None else mesh.texture_point for mesh in meshes]
        ),
        strand_points=points,
        strand_basis=moving_basis,
        strand_moving=moving,
        strand_width=np.concatenate([item.width.ravel() for item in strands]),
        strand_colour=np.concatenate(
            [np.repeat(item.colour, item.points.shape[1], axis=0) for item in strands]
        ),
        strand_occlusion=np.concatenate([item.occlusion.ravel() for item in strands]),
        segments=segments,
        segment_material=segment_material,
        eye_centres=eye_centres,
        neck_pivot=neck_pivot,
    )


def _flatten_strands(strands: list[Strands]) -> tuple[np.ndarray, ...]:
    """Return points, segments, their materials, the moving point rows and those rows' basis."""
    points, segments, material, moving, bases, start = [], [], [], [], [], 0
    for item in strands:
        count, length = item.points.shape[:2]
        index = start + np.arange(count * length).reshape(count, length)
        segments.append(np.stack([index[:, :-1], index[:, 1:]], axis=-1).reshape(-1, 2))
        material.append(np.full(count * (length - 1), item.material))
        points.append(item.points.reshape(-1, 3))
        if item.basis:
            dense = np.zeros((len(CHANNELS), count * length, 3), np.float32)
            for channel, offset in item.basis.items():
                dense[channel] = offset.reshape(-1, 3)
            moving.append(index.ravel())
            bases.append(dense)
        start += count * length
    if not moving:
        moving, bases = [np.zeros(0, int)], [np.zeros((len(CHANNELS), 0, 3), np.float32)]
    return (
        np.concatenate(points),
        np.concatenate(segments),
        np.concatenate(material),
        np.concatenate(moving),
        np.concatenate(bases, axis=1),
    )
