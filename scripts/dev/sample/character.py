"""The presenter put together: head, hair, shirt, and masks for the shader."""

import numpy as np
from jaxtyping import Float

from gaussiantalker_ns.scripts.dev.sample import occlusion
from gaussiantalker_ns.scripts.dev.sample.facial_hair import brows, lashes
from gaussiantalker_ns.scripts.dev.sample.hair import CENTRE, hair, hair_mask
from gaussiantalker_ns.scripts.dev.sample.head_model import eyeballs, load_base_head, skin_mesh
from gaussiantalker_ns.scripts.dev.sample.mouth import mouth_meshes
from gaussiantalker_ns.scripts.dev.sample.parts import MASKS, SKIN, Character, Mesh, flatten
from gaussiantalker_ns.scripts.dev.sample.wardrobe import shirt_meshes

CHARACTER_SEED = 3
"""Seed of the grooming: it belongs to the character, not to a clip."""


def build_character() -> Character:
    """Build the presenter; deterministic, some ten seconds."""
    rng = np.random.default_rng(CHARACTER_SEED)
    head = load_base_head()
    skin = skin_mesh(head)
    eye_height = float(head.eye_centres[:, 1].mean())
    paint(skin, eye_height)
    meshes = [skin, *eyeballs(head), *mouth_meshes(head), *shirt_meshes(head)]
    strands = [hair(skin, rng), brows(skin, eye_height, rng), lashes(head, skin, rng)]
    character = flatten(meshes, strands, head.eye_centres, head.neck_pivot)
    inside = character.masks[:, MASKS.index("mouth")].copy()
    for row in np.unique(character.faces[(character.material > SKIN) & (character.material != 4)]):
        inside[row] = max(inside[row], float(character.eye[row] == 0))
    inside = np.maximum(
        inside, 0.6 * character.masks[:, MASKS.index("lip")] * (character.head_weight > 0)
    )
    character.masks[:, MASKS.index("occlusion")] = occlusion.bake(character, inside)
    return character


def paint(skin: Mesh, eye_height: float) -> None:
    """Fill the skin's masks for hair-covered areas, redness and the shade around the eyes."""
    offset = skin.rest - CENTRE
    above = skin.rest[:, 1] > -0.12
    skin.masks["scalp"] = hair_mask(offset, 11.0) * above * (1 - skin.masks["ear"])
    nose = skin.rest[skin.rest[:, 2].argmax()]
    spots = [
        ([0.043, nose[1] - 0.002, nose[2] - 0.042], 0.019, 0.85),
        ([-0.043, nose[1] - 0.002, nose[2] - 0.042], 0.019, 0.85),
        (nose, 0.012, 0.75),
        ([0.0, nose[1] - 0.062, nose[2] - 0.022], 0.013, 0.30),
    ]
    blush = 0.9 * skin.masks["ear"]
    for centre, radius, strength in spots:
        blush = np.maximum(blush, strength * _blob(skin.rest, np.array(centre), radius))
    skin.masks["blush"] = blush
    shade = np.zeros(len(skin.rest))
    for side in (1.0, -1.0):
        under = np.array([side * 0.030, eye_height - 0.016, nose[2] - 0.028])
        shade = np.maximum(shade, 0.35 * _blob(skin.rest, under, 0.010))
    skin.masks["shade"] = shade


def _blob(points: np.ndarray, centre: np.ndarray, radius: float) -> Float[np.ndarray, " v"]:
    """Return a Gaussian spot."""
    return np.exp(-0.5 * ((points - centre) ** 2).sum(axis=1) / radius**2)
