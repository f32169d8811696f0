"""Tone mapping: pictures of high dynamic range (HLG, PQ) become BT.709, as screens show them.

White paper, 203 cd/m2 in both systems (ITU-R BT.2408), would become the white of BT.709; its
brighter half is bent (the curve "mobius" of FFmpeg's `tonemap`) so that 1000 cd/m2 just fit.
FFmpeg's `lut3d` applies it, as the libraries that PyAV brings lack `zscale`.
"""

import tempfile
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from threading import Lock

import av
import av.filter
import numpy as np
from jaxtyping import Float64, UInt8

TRANSFERS = {16: "PQ", 18: "HLG"}
"""FFmpeg's numbers of the transfer functions of HDR video (SMPTE ST 2084, ARIB STD-B67)."""

REFERENCE_WHITE = 203.0
"""Luminance in cd/m2 of what becomes white."""
PEAK = 1000.0 / REFERENCE_WHITE
"""Brightest light that is still told from brighter light; over the reference white."""
KNEE = 0.5
"""Light below it stays as it is."""

LUT_SIDE = 49
"""Grid points a channel; with 33 dark tones are off by up to two levels."""

BT709_FROM_BT2020 = np.array(
    [[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]]
)
"""Of linear light (ITU-R BT.2087)."""

Colors = Float64[np.ndarray, "*shape 3"]


def light_of_pq(signal: Colors) -> Colors:
    """Linear light over the reference white, from a PQ signal (SMPTE ST 2084)."""
    root = signal ** (1 / 78.84375)
    light = np.maximum(root - 0.8359375, 0) / (18.8515625 - 18.6875 * root)
    return 10_000 / REFERENCE_WHITE * light ** (1 / 0.1593017578125)


def light_of_hlg(signal: Colors) -> Colors:
    """Linear light over the reference white on a screen of 1000 cd/m2, from an HLG signal."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    scene = np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12)
    # The system gamma of every channel, as in zscale; ITU-R BT.2100 has it of the luminance, which
    # makes skin less saturated by 6 of 255 levels.
    return 1000 / REFERENCE_WHITE * scene**1.2


def bend(light: Float64[np.ndarray, "*shape 1"]) -> Float64[np.ndarray, "*shape 1"]:
    """Compress light above the knee; `PEAK` becomes 1. Example: 0.3 -> 0.3, 4.93 -> 1.0."""
    a = -(KNEE**2) * (PEAK - 1) / (KNEE**2 - 2 * KNEE + PEAK)
    b = (KNEE**2 - 2 * KNEE * PEAK + PEAK) / (PEAK - 1)
    bent = (b**2 + 2 * b * KNEE + KNEE**2) / (b - a) * (light + a) / (light + b)
    return np.where(light > KNEE, bent, light)


def tone_map(signal: Colors, transfer: str) -> Colors:
    """BT.709 colours of HDR ones, both as signals in [0, 1]; the hue is kept."""
    light = light_of_pq(signal) if transfer == "PQ" else light_of_hlg(signal)
    light = light @ BT709_FROM_BT2020.T
    largest = np.maximum(light.max(axis=-1, keepdims=True), 1e-6)
    light = np.clip(light * bend(largest) / largest, 0, 1)
    # The light is that of a screen, so the signal is what makes a screen show it (BT.1886).
    return light ** (1 / 2.4)


@lru_cache
def lookup_table(transfer: str) -> str:
    """The tone mapping as the text of a `.cube` file; red runs fastest."""
    grid = np.linspace(0, 1, LUT_SIDE)
    blue, green, red = np.meshgrid(grid, grid, grid, indexing="ij")
    colors = tone_map(np.stack([red, green, blue], axis=-1), transfer).reshape(-1, 3)
    rows = "\n".join(f"{r:.6f} {g:.6f} {b:.6f}" for r, g, b in colors)
    return f"LUT_3D_SIZE {LUT_SIDE}\n{rows}\n"


class ToneMapper:
    """Tone-maps 16-bit RGB pictures of one size."""

    def __init__(self, transfer: str, width: int, height: int) -> None:
        self.graph = av.filter.Graph()
        self.lock = Lock()
        with tempfile.TemporaryDirectory() as folder:
            table = Path(folder) / "table.cube"
            table.write_text(lookup_table(transfer), encoding="ascii")
            nodes = (
                self.graph.add_buffer(
                    width=width,
                    height=height,
                    format="rgb48le",  # pyright: ignore[reportArgumentType]
                    time_base=Fraction(1, 1000),
                ),
                self.graph.add("lut3d", file=str(table), interp="tetrahedral"),
                self.graph.add("buffersink"),
            )
            self.graph.link_nodes(*nodes).configure()

    def __call__(self, frame: av.VideoFrame) -> UInt8[np.ndarray, "h wd 3"]:
        """Tone-map one picture."""
        with self.lock:
            self.graph.vpush(frame)
            mapped = self.graph.vpull().to_ndarray()
        return ((mapped.astype(np.uint32) + 128) // 257).astype(np.uint8)


tone_mapper = lru_cache(maxsize=4)(ToneMapper)
"""Makes or finds the tone mapper for a transfer function, a width and a height."""
