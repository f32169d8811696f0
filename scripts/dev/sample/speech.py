"""Speech with phoneme times from espeak-ng, called through its C library.

The library and its voices come from the `espeakng-loader` package. espeak-ng is a separate program
under GPL-3.0 that this generator merely runs; its output, like any recording, is ours.
"""

import ctypes
import multiprocessing
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

EVENT_LIST_TERMINATED, EVENT_WORD, EVENT_PHONEME = 0, 1, 7
SYNCHRONOUS, PHONEME_EVENTS, PHONEME_IPA = 2, 0x1, 0x2
RATE, VOLUME, PITCH, RANGE = 1, 2, 3, 4
CHARS_UTF8, SSML = 1, 0x10
LEVEL_DB = -21.0
"""Level to which the speech is brought (RMS over its active parts)."""


@dataclass(frozen=True)
class Voice:
    """An espeak-ng voice and its delivery."""

    name: str = "en-us"
    """Voice or voice+variant, as `espeak-ng --voices` lists them."""
    words_per_minute: int = 150
    """Speaking rate."""
    pitch: int = 42
    """Base pitch, 0 to 100."""
    pitch_range: int = 55
    """Liveliness of the pitch, 0 to 100."""


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


class _EventId(ctypes.Union):
    _fields_ = [("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8)]


class _Event(ctypes.Structure):
    _fields_ = [
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _EventId),
    ]


_Callback = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event)
)


def _load_library() -> tuple[ctypes.CDLL, str]:
    """Return espeak-ng's library and its data folder."""
    try:
        import espeakng_loader  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise FileNotFoundError(
            "The package `espeakng-loader` was not found in this environment; the sample's speech "
            "is made with it. Install it with `pip install gaussiantalker-ns[sample]`."
        ) from error
    return ctypes.CDLL(espeakng_loader.get_library_path()), espeakng_loader.get_data_path()


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
    library, data = _load_library()
    rate_hz = library.espeak_Initialize(SYNCHRONOUS, 500, data.encode(), PHONEME_EVENTS)
    if rate_hz <= 0:
        raise FileNotFoundError(
            f"espeak-ng could not start with the data folder `{data}`; expected its `phontab` "
            "there. Reinstall `espeakng-loader`."
        )
    chunks: list[np.ndarray] = []
    marks: list[tuple[str, float]] = []

    def receive(wave, count: int, events) -> int:
        if wave and count:
            chunks.append(np.ctypeslib.as_array(wave, (count,)).copy())
        index = 0
        while events[index].type != EVENT_LIST_TERMINATED:
            if events[index].type == EVENT_PHONEME:
                name = bytes(events[index].id.string).split(b"\0")[0].decode("utf-8", "replace")
                marks.append((name, events[index].audio_position / 1000.0))
            index += 1
        return 0

    callback = _Callback(receive)
    library.espeak_SetSynthCallback(callback)
    voice = utterance.voice
    if library.espeak_SetVoiceByName(voice.name.encode()) != 0:
        raise ValueError(
            f"`{voice.name}` is not an espeak-ng voice; expected a name such as `en-us` or "
            "`en+f3`. Choose another with `--voice`."
        )
    settings = ((RATE, voice.words_per_minute), (PITCH, voice.pitch), (RANGE, voice.pitch_range))
    for parameter, value in settings:
        library.espeak_SetParameter(parameter, value, 0)
    raw = utterance.text.strip().replace("\n", " <break time='420ms'/> ").encode()
    library.espeak_Synth(raw, len(raw) + 1, 0, 0, 0, CHARS_UTF8 | SSML, None, None)
    library.espeak_Synchronize()
    library.espeak_Terminate()
    samples = np.concatenate(chunks).astype(np.float64) / 32768.0
    return _finish(samples, rate_hz, marks, utterance.lead_in, utterance.tail)


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
