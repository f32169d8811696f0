"""The presenter's head from the MakeHuman mesh: skin, eyeballs, teeth, gums and tongue."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Float
from scipy.spatial import KDTree

from gaussiantalker_ns.scripts.dev.sample import makehuman
from gaussiantalker_ns.scripts.dev.sample.parts import CHANNELS, EYE, FACE_UNITS, SKIN, Mesh
from gaussiantalker_ns.scripts.dev.sample.subdivide import catmull_clark, compact

IDENTITY = {
    "macrodetails/universal-male-young-averagemuscle-averageweight": 0.55,
    "macrodetails/universal-female-young-averagemuscle-averageweight": 0.45,
    "macrodetails/caucasian-male-young": 0.30,
    "macrodetails/caucasian-female-young": 0.25,
    "macrodetails/asian-male-young": 0.15,
    "macrodetails/asian-female-young": 0.10,
    "macrodetails/african-male-young": 0.10,
    "macrodetails/african-female-young": 0.10,
    "eyes/l-eye-scale-incr": 0.85,
    "eyes/r-eye-scale-incr": 0.85,
    "eyes/l-eye-height2-incr": 0.25,
    "eyes/r-eye-height2-incr": 0.25,
    "mouth/mouth-scale-horiz-incr": 0.35,
    "mouth/mouth-upperlip-height-incr": 0.10,
    "mouth/mouth-upperlip-volume-incr": 0.15,
    "mouth/mouth-lowerlip-volume-incr": 0.15,
    "mouth/mouth-angles-up": 0.35,
    "nose/nose-scale-horiz-decr": 0.20,
    "nose/nose-point-up": 0.20,
    "head/head-oval": 0.55,
    "head/head-fat-decr": 0.35,
    "head/head-age-decr": 0.20,
    "cheek/l-cheek-volume-incr": 0.05,
    "cheek/r-cheek-volume-incr": 0.05,
    "ears/l-ear-wing-decr": 0.50,
    "ears/r-ear-wing-decr": 0.50,
    "forehead/forehead-scale-vert-decr": 0.35,
    "neck/neck-scale-horiz-decr": 0.15,
    "chin/chin-jaw-drop-decr": 0.15,
    "chin/chin-width-decr": 0.25,
    "head/head-scale-horiz-decr": 0.15,
}
"""The character: weights of MakeHuman shape targets, mixed on purpose so that it is nobody."""

METRES_PER_UNIT = 0.1
ORIGIN_BELOW_EYES = 0.030
ORIGIN_BEHIND_EYES = 0.040
ARM_ANGLE_DEG = 38.0
"""How far the arms are lowered from MakeHuman's spread-arm rest pose."""

NECKLINE_HEIGHT = -0.126
"""Height of the neckline above or below the neck's axis, in the head frame (metres)."""
NECKLINE_TILT = 0.40
"""Rise of the neckline per metre backwards."""
NECKLINE_SIDES = 0.010
"""Extra height at the sides of the neck."""


@dataclass
class BaseHead:
    """The posed MakeHuman body in metres and head axes, with its face units."""

    root: Path
    base: makehuman.BaseMesh
    vertices: Float[np.ndarray, "v 3"]
    units: Float[np.ndarray, "k v 3"]
    head_weight: Float[np.ndarray, " v"]
    eye_centres: Float[np.ndarray, "2 3"]
    neck_pivot: Float[np.ndarray, "3"]

    @cached_property
    def eye_radius(self) -> float:
        """Radius of the eyeballs in metres, from the helper geometry."""
        ids = np.unique(self.base.faces["helper-l-eye"])
        distance = np.linalg.norm(self.vertices[ids] - self.eye_centres[0], axis=1)
        return float(np.median(distance))


def load_base_head() -> BaseHead:
    """Read the mesh, apply the identity, lower the arms and go to head coordinates."""
    root = makehuman.data_root()
    base = makehuman.read_base_mesh(root)
    shape = makehuman.apply_identity(root, base.vertices, IDENTITY)
    shape = _lower_arms(root, shape)
    eyes = np.stack(
        [_box_centre(shape[np.unique(base.faces[f"helper-{side}-eye"])]) for side in ("l", "r")]
    )
    origin = (
        eyes.mean(axis=0) - np.array([0.0, ORIGIN_BELOW_EYES, ORIGIN_BEHIND_EYES]) / METRES_PER_UNIT
    )
    units = np.stack([makehuman.face_unit(root, name) for name in FACE_UNITS])
    neck = 0.5 * (
        makehuman.joint_position(root, shape, "joint-head")
        + makehuman.joint_position(root, shape, "joint-neck")
    )
    return BaseHead(
        root=root,
        base=base,
        vertices=(shape - origin) * METRES_PER_UNIT,
        units=units * METRES_PER_UNIT,
        head_weight=_head_weight(root, shape),
        eye_centres=(eyes - origin) * METRES_PER_UNIT,
        neck_pivot=(neck - origin) * METRES_PER_UNIT,
    )


def _box_centre(points: np.ndarray) -> np.ndarray:
    """Return the centre of an eyeball: middle of the box in x and y, one radius behind its back."""
    low, high = points.min(axis=0), points.max(axis=0)
    centre = 0.5 * (low + high)
    centre[2] = low[2] + 0.5 * (high[0] - low[0])
    return centre


def _head_weight(root: Path, shape: np.ndarray) -> Float[np.ndarray, " v"]:
    """Return 1 on the head, falling smoothly to 0 at the base of the neck."""
    names = makehuman.bone_names(root)
    body = ("spine", "clavicle", "shoulder", "upperarm", "lowerarm", "breast", "pelvis", "root")
    torso = makehuman.bone_weights(root, [n for n in names if n.startswith(body)])
    neck = [makehuman.bone_weights(root, [name]) for name in ("neck01", "neck02", "neck03")]
    weight = 1.0 - torso - 0.85 * neck[0] - 0.45 * neck[1] - 0.15 * neck[2]
    return np.clip(weight, 0.0, 1.0)


def _lower_arms(root: Path, shape: np.ndarray) -> np.ndarray:
    """Turn the arms down about the shoulder joints by linear blend skinning."""
    result = shape.copy()
    names = makehuman.bone_names(root)
    for side, sign in (("L", 1.0), ("R", -1.0)):
        joint = makehuman.joint_position(root, shape, f"joint-{side.lower()}-shoulder")
        chain = ("upperarm", "lowerarm", "wrist", "finger", "metacarpal")
        arm = [n for n in names if n.startswith(chain) and n.endswith(side)]
        weight = makehuman.bone_weights(root, arm)
        weight += 0.5 * makehuman.bone_weights(root, [f"shoulder01.{side}"])
        for share, bone in ((0.10, f"clavicle.{side}"),):
            weight += share * makehuman.bone_weights(root, [bone])
        angle = -sign * np.radians(ARM_ANGLE_DEG)
        turn = np.array(
            [[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]]
        )
        turned = (shape - joint) @ turn.T + joint
        result += np.clip(weight, 0, 1)[:, None] * (turned - shape)
    return result


def triangles(quads: np.ndarray) -> np.ndarray:
    """Split quads into two triangles each."""
    return np.stack([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]], axis=1).reshape(-1, 3)


def subdivided(head: BaseHead, faces: np.ndarray, texture_faces: np.ndarray) -> tuple:
    """Subdivide some faces once; return rest, quads, basis, head weight and texture coordinates."""
    used, local = compact(faces)
    level = catmull_clark(local, len(used))
    rest = level.matrix @ head.vertices[used]
    basis = {
        channel: level.matrix @ head.units[channel][used]
        for channel in range(len(FACE_UNITS))
        if np.abs(head.units[channel][used]).max() > 0
    }
    weight = np.clip(level.matrix @ head.head_weight[used], 0, 1)
    texture = np.zeros((len(used), 2))
    texture[local.ravel()] = head.base.texture[texture_faces.ravel()]
    return rest, level.faces, basis, weight, level.matrix @ texture


def neckline(points: Float[np.ndarray, "v 3"], pivot: np.ndarray) -> Float[np.ndarray, " v"]:
    """Return the height of the shirt's neckline at every point: high behind and at the sides."""
    x, z = points[:, 0], points[:, 2] - pivot[2]
    sides = x**2 / (x**2 + z**2 + 1e-9)
    return NECKLINE_HEIGHT - NECKLINE_TILT * z + NECKLINE_SIDES * sides


def skin_mesh(head: BaseHead) -> Mesh:
    """Return the skin above the neckline, subdivided, with its masks."""
    faces, texture_faces = head.base.faces["body"], head.base.texture_faces["body"]
    centre = head.vertices[faces].mean(axis=1)
    near = centre[:, 1] > neckline(centre, head.neck_pivot) - 0.022
    rest, quads, basis, weight, texture = subdivided(head, faces[near], texture_faces[near])
    masks = {
        "lip": makehuman.sample_mask(head.root, "lips", texture),
        "mouth": makehuman.sample_mask(head.root, "inside-mouth", texture),
        "lid": makehuman.sample_mask(head.root, "eyelids", texture),
        "ear": makehuman.sample_mask(head.root, "ears", texture),
    }
    for side, eye in (("Left", head.eye_centres[0]), ("Right", head.eye_centres[1])):
        blink = CHANNELS.index(f"eyeBlink{side}")
        arc = _lid_arc(rest, basis[blink], eye, head.eye_radius)
        basis[CHANNELS.index(f"lidArc{side}")] = arc
    return Mesh(rest, triangles(quads), SKIN, basis, weight, masks=masks)


def _lid_arc(
    rest: np.ndarray, blink: np.ndarray, centre: np.ndarray, radius: float
) -> Float[np.ndarray, "v 3"]:
    """Return the outward push that keeps a half-closed lid outside the eyeball.

    Its weight is 4 c (1 - c) for closure c: a straight path between two points of a sphere is
    deepest inside it half-way.
    """
    middle = rest + 0.5 * blink - centre
    distance = np.linalg.norm(middle, axis=1, keepdims=True)
    start = np.linalg.norm(rest - centre, axis=1, keepdims=True)
    end = np.linalg.norm(rest + blink - centre, axis=1, keepdims=True)
    wanted = np.maximum(np.minimum(start, end), 1.03 * radius)
    moves = np.linalg.norm(blink, axis=1, keepdims=True)
    share = np.clip(moves / 0.002, 0, 1) * (distance < 1.4 * radius)
    return share * np.maximum(wanted - distance, 0) * middle / np.maximum(distance, 1e-9)


def eyeballs(head: BaseHead) -> list[Mesh]:
    """Return two spheres with a cornea; their texture points are unit directions, gaze along z."""
    rings, sectors = 28, 48
    polar = np.linspace(0, np.pi, rings + 1)[:, None]
    around = np.linspace(0, 2 * np.pi, sectors, endpoint=False)[None]
    z = np.cos(polar) * np.ones_like(around)
    direction = np.stack([np.sin(polar) * np.cos(around), np.sin(polar) * np.sin(around), z], -1)
    bulge = 1.0 + 0.055 * np.clip((z - 0.80) / 0.20, 0, 1) ** 1.5
    points = (direction * bulge[..., None]).reshape(-1, 3)
    index = np.arange((rings + 1) * sectors).reshape(rings + 1, sectors)
    quads = np.stack(
        [index[:-1], index[1:], np.roll(index[1:], -1, 1), np.roll(index[:-1], -1, 1)], axis=-1
    ).reshape(-1, 4)
    return [
        Mesh(
            rest=centre + head.eye_radius * points,
            faces=triangles(quads),
            material=EYE,
            eye=number,
            texture_point=direction.reshape(-1, 3),
        )
        for number, centre in enumerate(head.eye_centres, start=1)
    ]


def follow_skin(
    skin: Mesh, points: Float[np.ndarray, "s p 3"]
) -> dict[int, Float[np.ndarray, "s p 3"]]:
    """Return the face-unit offsets of curves that ride on the skin at their roots."""
    nearest = KDTree(skin.rest).query(points[:, 0])[1]
    return {
        channel: np.repeat(offset[nearest][:, None], points.shape[1], axis=1)
        for channel, offset in skin.basis.items()
        if np.abs(offset[nearest]).max() > 1e-6
    }
