"""From a posed character to an 8-bit picture: skeleton, shadow map, shading, anti-aliasing."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float32, UInt8

from gaussiantalker_ns.kernels.compile import jit
from gaussiantalker_ns.scripts.dev.sample import rasterizer, textures
from gaussiantalker_ns.scripts.dev.sample.deferred import shade_buffer
from gaussiantalker_ns.scripts.dev.sample.occlusion import light_frame, to_map
from gaussiantalker_ns.scripts.dev.sample.parts import HAIR, SHIRT, Character
from gaussiantalker_ns.scripts.dev.sample.shading import COLOURS, LIGHTS

SHADOW_SIZE = 640
SHADOW_EXTENT = 0.70
"""Side of the square that the shadow map covers, in metres."""
NOISE_SEED = 7
"""The noise of skin and backdrop belongs to the character, not to a clip's seed."""


@dataclass
class Pose:
    """Everything that changes from frame to frame."""

    weights: Float[np.ndarray, " k"]
    """Face weights in the order of `CHANNELS`."""
    gaze: Float[np.ndarray, "2"]
    """Yaw (towards the person's left) and pitch (up) of both eyes, in radians."""
    T_camera_head: Float[np.ndarray, "4 4"]
    """Head frame to OpenCV camera frame, metres."""
    T_camera_torso: Float[np.ndarray, "4 4"]
    """The same for the shoulders; equal to the head's when the neck is straight."""


@dataclass
class Posed:
    """Camera-space geometry of one frame."""

    vertices: Float32[np.ndarray, "v 3"]
    strand_points: Float32[np.ndarray, "m 3"]


@dataclass
class Picture:
    """A rendered frame and what lies under its pixels."""

    rgb: UInt8[np.ndarray, "h wd 3"]
    head_mask: Bool[np.ndarray, "h wd"]
    """Pixels mostly covered by the head (skin above the collar, eyes, mouth, hair)."""


def pose_character(character: Character, pose: Pose) -> Posed:
    """Apply face weights, gaze and the two rigid transforms."""
    weights = pose.weights.astype(np.float32)
    active = np.flatnonzero(weights)
    local = character.rest + np.tensordot(weights[active], character.basis[active], axes=1)
    for number, centre in enumerate(character.eye_centres, start=1):
        rows = character.eye == number
        local[rows] = (local[rows] - centre) @ gaze_rotation(pose.gaze).T + centre
    weight = character.head_weight[:, None]
    with_head = _transform(local, pose.T_camera_head)
    vertices = weight * with_head + (1 - weight) * _transform(local, pose.T_camera_torso)
    strands = character.strand_points.copy()
    strands[character.strand_moving] += np.tensordot(
        weights[active], character.strand_basis[active], axes=1
    )
    return Posed(
        np.ascontiguousarray(vertices, np.float32),
        np.ascontiguousarray(_transform(strands, pose.T_camera_head), np.float32),
    )


def gaze_rotation(gaze: Float[np.ndarray, "2"]) -> Float32[np.ndarray, "3 3"]:
    """Return the rotation of an eyeball: yaw towards +x, pitch towards +y."""
    (cy, cp), (sy, sp) = np.cos(gaze), np.sin(gaze)
    yaw = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    pitch = np.array([[1, 0, 0], [0, cp, sp], [0, -sp, cp]])
    return (yaw @ pitch).astype(np.float32)


def _transform(points: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Apply a rigid transform."""
    return points @ matrix[:3, :3].T.astype(np.float32) + matrix[:3, 3].astype(np.float32)


@jit
def resolve(image, primitive, is_head, supersampling, rgb, mask):
    """Tone-map, average and encode blocks of samples; count head samples."""
    height, width = rgb.shape[0], rgb.shape[1]
    share = 1.0 / (supersampling * supersampling)
    for row in range(height):
        for col in range(width):
            head = 0
            for k in range(3):
                total = 0.0
                for dy in range(supersampling):
                    for dx in range(supersampling):
                        value = image[row * supersampling + dy, col * supersampling + dx, k]
                        total += tone(value)
                total *= share
                code = 12.92 * total if total < 0.0031308 else 1.055 * total ** (1 / 2.4) - 0.055
                # A fixed one-level dither hides banding in the backdrop.
                jitter = ((row * 7 + col * 13 + k * 5 + (row * col) % 11) % 16) / 16.0
                rgb[row, col, k] = int(min(code * 255.0 + jitter, 255.0))
            for dy in range(supersampling):
                for dx in range(supersampling):
                    f = primitive[row * supersampling + dy, col * supersampling + dx]
                    if f >= 0 and is_head[f]:
                        head += 1
            mask[row, col] = 2 * head > supersampling * supersampling


@jit
def tone(value):
    """Map linear light to [0, 1] with a soft shoulder: straight to 0.55, then bending."""
    if value < 0.55:
        return value
    return 0.55 + 0.45 * (1.0 - np.exp(-(value - 0.55) / 0.45))


class Renderer:
    """Draws poses of one character at one size; deterministic, one thread."""

    def __init__(
        self, character: Character, size: int, focal: float, supersampling: int = 3
    ) -> None:
        """Prepare buffers, noise and backdrop; `focal` is in pixels of the final picture."""
        self.character, self.size, self.supersampling = character, size, supersampling
        self.samples = size * supersampling
        self.focal, self.centre = focal * supersampling, 0.5 * self.samples
        self.buffer = rasterizer.SurfaceBuffer(self.samples, self.samples)
        self.shadow = rasterizer.SurfaceBuffer(SHADOW_SIZE, SHADOW_SIZE)
        self.image = np.zeros((self.samples, self.samples, 3), np.float32)
        rng = np.random.default_rng(NOISE_SEED)
        self.noise = textures.skin_noise(rng)
        self.background = textures.backdrop(rng, size)
        self.lips_z = float(character.rest[character.masks[:, 0] > 0.8, 2].max())
        head_faces = (character.head_weight[character.faces].mean(axis=1) > 0.5) & (
            character.material < SHIRT
        )
        head_faces |= character.material > SHIRT
        head_faces &= character.head_weight[character.faces].mean(axis=1) > 0.5
        self.is_head = np.concatenate([head_faces, np.ones(len(character.segments), bool)])
        hair = character.segment_material == HAIR
        self.shadow_segments = character.segments[hair]

    def draw(self, pose: Pose) -> Picture:
        """Render one frame."""
        posed = pose_character(self.character, pose)
        self.rasterize(posed)
        frame, scale, centre = self._draw_shadow(posed)
        normals = np.zeros_like(posed.vertices)
        rasterizer.vertex_normals(posed.vertices, self.character.faces, normals)
        c, b = self.character, self.buffer
        shade_buffer(
            b.primitive, b.local, b.depth, self.background, c.faces, c.material, posed.vertices,
            normals, c.texture_point, c.masks, c.segments, c.segment_material, posed.strand_points,
            c.strand_colour, c.strand_occlusion, self.noise, self.lips_z, self.focal, self.centre,
            self.centre, self.shadow.depth, frame, scale, centre, LIGHTS, COLOURS,
            self.supersampling, self.image,
        )  # fmt: skip
        rgb = np.zeros((self.size, self.size, 3), np.uint8)
        mask = np.zeros((self.size, self.size), np.bool_)
        resolve(self.image, b.primitive, self.is_head, self.supersampling, rgb, mask)
        return Picture(rgb, mask)

    def rasterize(self, posed: Posed) -> None:
        """Fill the surface buffer."""
        c, b = self.character, self.buffer
        b.clear()
        screen = rasterizer.project(posed.vertices, self.focal, self.centre, self.centre)
        rasterizer.draw_triangles(screen.astype(np.float32), c.faces, b.depth, b.primitive, b.local)
        strands = rasterizer.project(posed.strand_points, self.focal, self.centre, self.centre)
        widths = c.strand_width * self.focal / posed.strand_points[:, 2]
        rasterizer.draw_segments(
            strands.astype(np.float32), widths.astype(np.float32), c.segments, len(c.faces),
            b.depth, b.primitive, b.local,
        )  # fmt: skip

    def _draw_shadow(self, posed: Posed) -> tuple[np.ndarray, float, np.ndarray]:
        """Draw the key light's depth map; return its axes, scale (samples per metre) and centre."""
        frame = light_frame(LIGHTS[0])
        centre = posed.strand_points.mean(axis=0).astype(np.float64) + [0.0, 0.10, 0.05]
        self.shadow.clear()
        c, s = self.character, self.shadow
        rasterizer.draw_triangles(
            to_map(posed.vertices, frame, centre, SHADOW_EXTENT, SHADOW_SIZE),
            c.faces, s.depth, s.primitive, s.local,
        )  # fmt: skip
        strands = to_map(posed.strand_points, frame, centre, SHADOW_EXTENT, SHADOW_SIZE)
        rasterizer.draw_segments(
            strands, np.full(len(strands), 0.45, np.float32), self.shadow_segments, 0,
            s.depth, s.primitive, s.local,
        )  # fmt: skip
        return frame.astype(np.float32), SHADOW_SIZE / SHADOW_EXTENT, centre.astype(np.float32)
