"""Phonemes to mouth shapes: articulator targets, co-articulation, and ARKit weights.

Every phoneme pulls a few articulators towards its target with a strength that is flat while it
sounds and falls off exponentially around it (dominance functions after Cohen and Massaro, 1993);
the pulls are averaged. Lips are then sealed outright for p, b and m, and the lower lip is laid
against the teeth for f and v, because an average never quite closes a mouth.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.ndimage import gaussian_filter1d

from gaussiantalker_ns.scripts.dev.sample.parts import CHANNELS
from gaussiantalker_ns.scripts.dev.sample.speech import Phoneme

RATE_HZ = 200
"""Rate at which the mouth is simulated before frames are taken from it."""
ARTICULATORS = ("jaw", "wide", "round", "teeth", "tongue", "tip")
"""Jaw opening, spread lips, rounded lips, bared teeth, tongue up, tongue between the teeth."""
JAW_GAIN = 0.80
"""ARKit jawOpen at full jaw opening in speech."""
SEAL, TUCK = frozenset("pbm"), frozenset("fv")
LEAD, RELEASE, HOLD = 0.055, 0.050, 0.090
"""Seconds for the lips to meet, to part, and the least time that a seal lasts."""
WINDOW_S = 0.45
"""Distance in seconds beyond which a phoneme is not felt."""


@dataclass(frozen=True)
class Target:
    """Where a phoneme pulls the articulators, how strongly, and how early."""

    jaw: float
    wide: float = 0.0
    round: float = 0.0
    teeth: float = 0.0
    tongue: float = 0.0
    tip: float = 0.0
    strength: float = 1.0
    reach: float = 0.055


OPEN = Target(0.95, strength=1.7)
VOWELS: dict[str, tuple[Target, ...]] = {
    "a": (Target(0.80, wide=0.30, strength=1.6),),
    "A": (OPEN,),
    "V": (Target(0.66, strength=1.4),),
    "@": (Target(0.34, strength=0.8),),
    "3": (Target(0.36, round=0.25, strength=1.1),),
    "E": (Target(0.60, wide=0.35, strength=1.4),),
    "I": (Target(0.34, wide=0.35, strength=1.1),),
    "i": (Target(0.26, wide=0.75, strength=1.4),),
    "0": (Target(0.74, round=0.30, strength=1.5),),
    "O": (Target(0.66, round=0.60, strength=1.6, reach=0.07),),
    "U": (Target(0.32, round=0.65, strength=1.4, reach=0.08),),
    "u": (Target(0.24, round=1.00, strength=2.0, reach=0.09),),
    "eI": (Target(0.60, wide=0.35, strength=1.4), Target(0.32, wide=0.60)),
    "aI": (Target(0.92, wide=0.10, strength=1.6), Target(0.38, wide=0.50)),
    "aU": (Target(0.92, wide=0.10, strength=1.6), Target(0.34, round=0.75, strength=1.3)),
    "oU": (Target(0.62, round=0.55, strength=1.5), Target(0.30, round=0.95, strength=1.5)),
    "OI": (Target(0.66, round=0.60, strength=1.5), Target(0.34, wide=0.45)),
}
CONSONANTS: dict[str, Target] = {
    "p": Target(0.10, strength=2.2),
    "b": Target(0.10, strength=2.2),
    "m": Target(0.12, strength=2.2),
    "f": Target(0.14, strength=2.4),
    "v": Target(0.14, strength=2.4),
    "w": Target(0.16, round=1.0, strength=3.0, reach=0.08),
    "r": Target(0.24, round=0.45, strength=1.2, reach=0.07),
    "S": Target(0.14, round=0.60, teeth=0.55, strength=1.8, reach=0.07),
    "Z": Target(0.14, round=0.60, teeth=0.55, strength=1.8, reach=0.07),
    "tS": Target(0.14, round=0.60, teeth=0.50, strength=1.8, reach=0.07),
    "dZ": Target(0.14, round=0.60, teeth=0.50, strength=1.8, reach=0.07),
    "s": Target(0.08, wide=0.35, teeth=0.70, strength=1.6),
    "z": Target(0.08, wide=0.35, teeth=0.70, strength=1.6),
    "t": Target(0.18, teeth=0.25, tongue=0.8, strength=0.9),
    "d": Target(0.18, teeth=0.25, tongue=0.8, strength=0.9),
    "n": Target(0.20, teeth=0.15, tongue=0.9, strength=0.9),
    "l": Target(0.34, tongue=1.0, strength=1.0),
    "T": Target(0.24, tip=0.9, teeth=0.2, strength=1.7),
    "D": Target(0.22, tip=0.8, teeth=0.2, strength=1.3),
    "k": Target(0.28, strength=0.7),
    "g": Target(0.28, strength=0.7),
    "N": Target(0.26, strength=0.7),
    "h": Target(0.40, strength=0.25),
    "j": Target(0.18, wide=0.45, strength=1.1),
}
REST = Target(0.0, strength=1.2, reach=0.07)


def targets_of(symbol: str) -> tuple[Target, ...]:
    """Return a phoneme's target, or its two for a diphthong.

    Example: `oU` gives a round vowel followed by a rounder one; an unknown symbol a neutral vowel.
    """
    if symbol.startswith("_") or not symbol:
        return (REST,)
    bare = symbol.rstrip(":;|~-^2")
    if bare in VOWELS:
        return VOWELS[bare]
    if bare in CONSONANTS:
        return (CONSONANTS[bare],)
    for length in (2, 1):
        if bare[:length] in VOWELS:
            return VOWELS[bare[:length]]
        if bare[:length] in CONSONANTS:
            return (CONSONANTS[bare[:length]],)
    return VOWELS["@"]


def articulate(phonemes: list[Phoneme], duration: float) -> dict[str, Float[np.ndarray, " m"]]:
    """Return the articulators and the two contacts `seal` and `tuck` at `RATE_HZ`, in [0, 1]."""
    times = (np.arange(int(np.ceil(duration * RATE_HZ))) + 0.5) / RATE_HZ
    pull = np.zeros((len(ARTICULATORS), len(times)))
    total = np.full(len(times), 1e-3)
    seal, tuck = np.zeros(len(times)), np.zeros(len(times))
    for phoneme in phonemes:
        targets = targets_of(phoneme.symbol)
        parts = np.linspace(phoneme.start, phoneme.end, len(targets) + 1)
        first = np.searchsorted(times, phoneme.start - WINDOW_S)
        last = np.searchsorted(times, phoneme.end + WINDOW_S)
        near = times[first:last]
        for target, start, end in zip(targets, parts[:-1], parts[1:], strict=True):
            away = np.maximum(np.maximum(start - near, near - end), 0)
            strength = target.strength * (1 + 0.25 * phoneme.stress)
            dominance = strength * np.exp(-away / target.reach)
            values = np.array([getattr(target, name) for name in ARTICULATORS])
            pull[:, first:last] += values[:, None] * dominance
            total[first:last] += dominance
        for contact, group in ((seal, SEAL), (tuck, TUCK)):
            if phoneme.symbol[:1] in group:
                window = _contact(near, phoneme.start, phoneme.end)
                contact[first:last] = np.maximum(contact[first:last], window)
    smooth = gaussian_filter1d(pull / total, 0.020 * RATE_HZ, axis=1, mode="nearest")
    result = {name: np.asarray(row) for name, row in zip(ARTICULATORS, smooth, strict=True)}
    return result | {"seal": seal, "tuck": tuck}


def _contact(times: np.ndarray, start: float, end: float) -> Float[np.ndarray, " m"]:
    """Return 1 during a contact of at least `HOLD` seconds, with smooth flanks."""
    middle, half = 0.5 * (start + end) - 0.008, 0.5 * max(end - start, HOLD)
    before = np.clip((times - (middle - half - LEAD)) / LEAD, 0, 1)
    after = np.clip(((middle + half + RELEASE) - times) / RELEASE, 0, 1)
    ramp = np.minimum(before, after)
    return ramp * ramp * (3 - 2 * ramp)


def mouth_weights(
    phonemes: list[Phoneme], duration: float, frame_times: Float[np.ndarray, " n"]
) -> Float[np.ndarray, "n k"]:
    """Return ARKit weights of mouth and tongue at the given times (seconds)."""
    track = articulate(phonemes, duration)
    source = (np.arange(len(track["jaw"])) + 0.5) / RATE_HZ
    a = {name: np.interp(frame_times, source, values) for name, values in track.items()}
    weights = np.zeros((len(frame_times), len(CHANNELS)))

    def put(name: str, values: np.ndarray) -> None:
        sides = (name,) if name in CHANNELS else (name + "Left", name + "Right")
        for side in sides:
            weights[:, CHANNELS.index(side)] += values

    seal, tuck = a["seal"], a["tuck"] * (1 - a["seal"])
    free = (1 - seal) * (1 - 0.75 * tuck)
    jaw = JAW_GAIN * np.maximum(a["jaw"] - 0.04, 0) * (1 - 0.72 * seal) * (1 - 0.55 * tuck)
    rounded, wide = a["round"], a["wide"] * (1 - a["round"])
    put("jawOpen", jaw)
    put("mouthClose", jaw * seal)
    put("mouthPress", 0.22 * seal)
    put("mouthRollLower", 0.10 * seal + 0.55 * tuck)
    put("mouthRollUpper", 0.10 * seal)
    put("mouthShrugLower", 0.18 * tuck)
    put("mouthUpperUp", 0.22 * tuck + 0.26 * a["teeth"] * free)
    put("mouthLowerDown", 0.30 * a["teeth"] * free)
    put("mouthPucker", 0.62 * rounded * (1 - 0.45 * seal))
    put("mouthFunnel", 0.42 * rounded * free)
    put("mouthStretch", 0.24 * wide * free)
    put("mouthSmile", 0.16 * wide)
    put("tongueRaise", a["tongue"] * (1 - seal))
    put("tongueOut", 0.45 * a["tip"] * (1 - seal))
    return weights
