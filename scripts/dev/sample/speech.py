"""Speech with phoneme times for the sample, from espeak-ng (`gaussiantalker_ns.audio.espeak`)."""

import multiprocessing
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

from gaussiantalker_ns.audio.espeak import Voice, synthesise

__all__ = ["Phoneme", "Speech", "Utterance", "Voice", "record", "say"]

LEVEL_DB = -21.0
"""Level to which the speech is brought (RMS over its active parts)."""


@dataclass(frozen=True)
class Phoneme:
    """One phoneme with its time."""

    symbol: str
    """espeak-ng mnemonic without stress marks, or `_` for a pause."""
    start: float
    """Start in seconds."""
    end: float
    """End in seconds."""
    stress: int
    """0 none, 1 secondary, 2 primary."""


@dataclass(frozen=True)
class Utterance:
    """A text with the voice that speaks it."""

    text: str
    """Plain text; a line break makes a pause of about half a second."""
    voice: Voice
    lead_in: float = 0.0
    """Silence before the first word, in seconds."""
    tail: float = 0.0
    """Silence after the last word, in seconds."""


@dataclass
class Speech:
    """A recording and its phonemes."""

    samples: Float32[np.ndarray, " t"]
    """Mono samples in [-1, 1]."""
    sample_rate_hz: int
    phonemes: list[Phoneme]

    @property
    def duration(self) -> float:
        """Length in seconds."""
        return len(self.samples) / self.sample_rate_hz

    def cut(self, seconds: float) -> "Speech":
        """Return the first part of the recording."""
        length = int(round(seconds * self.sample_rate_hz))
        kept = [item for item in self.phonemes if item.start < seconds]
        return Speech(self.samples[:length], self.sample_rate_hz, kept)


def record(utterances: list[Utterance]) -> list[Speech]:
    """Speak several texts in a process of their own.

    espeak-ng keeps state from one text to the next, which moves phonemes by some milliseconds. A
    fresh process makes a recording depend on nothing but its list.
    """
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_record, (utterances,))


def _record(utterances: list[Utterance]) -> list[Speech]:
    """Speak several texts one after the other."""
    return [say(item) for item in utterances]


def say(utterance: Utterance) -> Speech:
    """Speak a text in this process; times vary a little with what was said before."""
    raw = utterance.text.strip().replace("\n", " <break time='420ms'/> ")
    spoken = synthesise(raw, utterance.voice, ssml=True)
    return _finish(
        spoken.samples, spoken.sample_rate_hz, spoken.phonemes, utterance.lead_in, utterance.tail
    )


def _finish(
    samples: np.ndarray, rate_hz: int, marks: list[tuple[str, float]], lead_in: float, tail: float
) -> Speech:
    """Level and soften the sound, add silence, and turn marks into phonemes."""
    length = len(samples) / rate_hz
    spectrum = np.fft.rfft(samples)
    frequency = np.fft.rfftfreq(len(samples), 1 / rate_hz)
    # A gentle tilt takes the buzz off a formant synthesiser; below 70 Hz there is only rumble.
    tilt = (
        1
        / np.sqrt(1 + (frequency / 4200.0) ** 2)
        / np.sqrt(1 + (70.0 / np.maximum(frequency, 1)) ** 4)
    )
    samples = np.fft.irfft(spectrum * tilt, len(samples))
    loud = np.abs(samples) > 0.02 * np.abs(samples).max()
    samples *= 10 ** (LEVEL_DB / 20) / np.sqrt((samples[loud] ** 2).mean())
    samples = np.tanh(samples * 1.1) / 1.1
    front, back = np.zeros(int(lead_in * rate_hz)), np.zeros(int(tail * rate_hz))
    samples = np.concatenate([front, samples, back]).astype(np.float32)
    phonemes = []
    for (name, start), (_, end) in zip(marks, [*marks[1:], ("", length)], strict=True):
        stress = 2 if "'" in name else 1 if "," in name else 0
        symbol = name.strip("',%=|") or "_"
        if end > start:
            phonemes.append(Phoneme(symbol, start + lead_in, end + lead_in, stress))
    return Speech(samples, rate_hz, phonemes)
