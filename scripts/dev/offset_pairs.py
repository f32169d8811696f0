"""How often the audio-video offset is found, and how often foreign sound is moved.

    python -m gaussiantalker_ns.scripts.dev.offset_pairs data/a data/b ... [--sounds x.wav ...]

Parts of several data sets of `gaussiantalker process` (landmarks.npz, aud_source.wav) are paired
with their own sound, with that sound 80 ms late, and with foreign sound: of another data set, of
another part of the same one (the same voice), or of other recordings.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
from jaxtyping import Float32

from gaussiantalker_ns.audio.encoders.whisper import WhisperEncoder
from gaussiantalker_ns.audio.read import read_audio
from gaussiantalker_ns.audio.sync import LONG_WINDOWS, OffsetEstimate, estimate_av_offset
from gaussiantalker_ns.dataparsers.dataset_layout import DatasetLayout
from gaussiantalker_ns.face.landmarker import Landmarks
from gaussiantalker_ns.preprocess.audio_features import MIN_CONFIDENCE, lip_targets
from gaussiantalker_ns.timebase import FPS, SAMPLES_PER_FRAME, advance_samples

LATE_MS = 80.0
SAME_VOICE_GAP_S = 2.0
"""Parts of one data set that are paired as foreign lie so far apart at least."""
TOLERANCE_MS = 35.0


@dataclass
class Config:
    """Measure on parts of data sets."""

    data: tyro.conf.Positional[tuple[Path, ...]]
    """Folders of data sets."""
    sounds: tuple[Path, ...] = ()
    """Further recordings that belong to none of them."""
    lengths: tuple[float, ...] = (8.0, 20.0, 40.0)
    """Lengths of the parts in seconds."""
    num_pairs: int = 10
    """Pairs of each kind and length."""
    seed: int = 0
    """Fixes the draw."""


Sound = Float32[np.ndarray, " samples"]


@dataclass(frozen=True)
class Part:
    """Lips and a sound that may or may not be theirs."""

    name: str
    targets: Float32[np.ndarray, "frames 2"]
    samples: Sound


def cut(samples: Sound, first: int, num_frames: int) -> Sound:
    """The samples of some frames."""
    return samples[first * SAMPLES_PER_FRAME : (first + num_frames) * SAMPLES_PER_FRAME]


class Pairs:
    """Draws parts."""

    def __init__(self, config: Config) -> None:
        self.rng = np.random.default_rng(config.seed)
        self.targets: dict[str, Float32[np.ndarray, "frames 2"]] = {}
        self.sounds: dict[str, Sound] = {path.name: read_audio(path) for path in config.sounds}
        for folder in config.data:
            layout = DatasetLayout(folder)
            self.targets[folder.name] = lip_targets(Landmarks.load(layout.landmarks))
            self.sounds[folder.name] = read_audio(layout.source_audio)

    def start(self, available: int, num_frames: int) -> int:
        """A random first frame."""
        return int(self.rng.integers(available - num_frames + 1))

    def own(self, num_frames: int) -> Part | None:
        """A part with its own sound; None where no data set is long enough."""
        names = [name for name, lips in self.targets.items() if len(lips) >= num_frames]
        if not names:
            return None
        name = names[self.rng.integers(len(names))]
        first = self.start(len(self.targets[name]), num_frames)
        lips = self.targets[name][first : first + num_frames]
        return Part(f"{name}@{first}", lips, cut(self.sounds[name], first, num_frames))

    def foreign(self, num_frames: int) -> Part | None:
        """A part with a sound that is not its own; None where there is none so long."""
        part = self.own(num_frames)
        if part is None:
            return None
        name, first = part.name.split("@")
        wanted = num_frames * SAMPLES_PER_FRAME
        others = [key for key, sound in self.sounds.items() if key != name and len(sound) >= wanted]
        gap = round(SAME_VOICE_GAP_S * FPS)
        starts = np.arange(len(self.targets[name]) - num_frames + 1)
        starts = starts[np.abs(starts - int(first)) >= gap]
        choices = [*others, *([name] if len(starts) else [])]
        if not choices:
            return None
        chosen = choices[self.rng.integers(len(choices))]
        sound = self.sounds[chosen]
        begin = self.start(len(sound) // SAMPLES_PER_FRAME, num_frames)
        if chosen == name:
            begin = int(self.rng.choice(starts))
        label = f"{part.name} with {chosen}@{begin}"
        return Part(label, part.targets, cut(sound, begin, num_frames))


def describe(name: str, estimate: OffsetEstimate) -> str:
    """One line about a pair."""
    moved = f"moved by {estimate.offset_ms:+.0f} ms" if is_moved(estimate) else "not moved"
    return (
        f"    {name:44s} {moved:20s} best {estimate.offset_ms:+5.0f}  chance "
        f"{estimate.chance:.1e}  confidence {estimate.confidence:.2f}"
    )


def is_moved(estimate: OffsetEstimate) -> bool:
    """Whether `process` would move the sound."""
    return estimate.confidence >= MIN_CONFIDENCE


def main(config: Config) -> None:
    """Print one line a pair and a summary of every length."""
    pairs, encoder = Pairs(config), WhisperEncoder(layout=LONG_WINDOWS)
    for length in config.lengths:
        num_frames = round(length * FPS)
        own = [part for _ in range(config.num_pairs) if (part := pairs.own(num_frames))]
        foreign = [part for _ in range(config.num_pairs) if (part := pairs.foreign(num_frames))]
        print(f"{length:g} s, own sound as it is, and {LATE_MS:.0f} ms late")
        errors, named = [], 0
        for part in own:
            estimate = estimate_av_offset(part.samples, part.targets, encoder)
            print(describe(part.name, estimate))
            named += estimate.is_foreign
            late = advance_samples(part.samples, -LATE_MS)
            estimate = estimate_av_offset(late, part.targets, encoder)
            print(describe("  late", estimate))
            if is_moved(estimate):
                errors.append(estimate.offset_ms - LATE_MS)
        print(f"{length:g} s, foreign sound")
        moved, found = 0, 0
        for part in foreign:
            estimate = estimate_av_offset(part.samples, part.targets, encoder)
            print(describe(part.name, estimate))
            moved += is_moved(estimate)
            found += estimate.is_foreign
        within = sum(abs(error) <= TOLERANCE_MS for error in errors)
        print(
            f"{length:g} s: late sound moved in {len(errors)} of {len(own)}, {within} of them right"
            f" within {TOLERANCE_MS:.0f} ms; own sound called foreign in {named}; foreign sound"
            f" moved in {moved} of {len(foreign)}, called foreign in {found}"
        )


if __name__ == "__main__":
    main(tyro.cli(Config))
