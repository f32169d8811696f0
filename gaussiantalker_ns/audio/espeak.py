"""Speech from text by espeak-ng: through its C library, or by the program of that name.

The library and its voices come with the package `espeakng-loader` (the extra `[sample]`). espeak-ng
is a separate program under GPL-3.0 that is merely run; its output, like any recording, is the
user's.
"""

import ctypes
import importlib.util
import multiprocessing
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float64

from gaussiantalker_ns.audio.read import write_wav

PROGRAM = "espeak-ng"
LOADER = "espeakng_loader"

EVENT_LIST_TERMINATED, EVENT_PHONEME = 0, 7
SYNCHRONOUS, PHONEME_EVENTS = 2, 0x1
RATE, VOLUME, PITCH, RANGE = 1, 2, 3, 4
CHARS_UTF8, SSML = 1, 0x10
"""Numbers of espeak-ng's `speak_lib.h`."""


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
class SpokenText:
    """What espeak-ng made of a text."""

    samples: Float64[np.ndarray, " m"]
    """Mono samples in [-1, 1]."""
    sample_rate_hz: int
    phonemes: list[tuple[str, float]]
    """espeak-ng's mnemonics and the seconds at which they begin."""


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


def load_library() -> tuple[ctypes.CDLL, str]:
    """Return espeak-ng's library and its data folder.

    Raises:
        FileNotFoundError: The package that brings them is not installed.
    """
    try:
        import espeakng_loader  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise FileNotFoundError(
            "The package `espeakng-loader` was not found in this environment; text is spoken with"
            " it. Install it with `pip install gaussiantalker-ns[sample]`."
        ) from error
    return ctypes.CDLL(espeakng_loader.get_library_path()), espeakng_loader.get_data_path()


def synthesise(text: str, voice: Voice, ssml: bool = False) -> SpokenText:
    """Speak a text in this process; times vary a little with what was said before.

    Args:
        text: Plain text, or a text with SSML tags.
        voice: Who speaks.
        ssml: Whether tags are read as such.

    Raises:
        FileNotFoundError: espeak-ng is not installed, or not whole.
        ValueError: There is no such voice, or nothing to say.
    """
    library, data = load_library()
    rate_hz = library.espeak_Initialize(SYNCHRONOUS, 500, data.encode(), PHONEME_EVENTS)
    if rate_hz <= 0:
        raise FileNotFoundError(
            f"espeak-ng could not start with the data folder `{data}`; expected its `phontab`"
            " there. Reinstall `espeakng-loader`."
        )
    chunks: list[np.ndarray] = []
    phonemes: list[tuple[str, float]] = []

    def receive(wave, count: int, events) -> int:
        if wave and count:
            chunks.append(np.ctypeslib.as_array(wave, (count,)).copy())
        index = 0
        while events[index].type != EVENT_LIST_TERMINATED:
            if events[index].type == EVENT_PHONEME:
                name = bytes(events[index].id.string).split(b"\0")[0].decode("utf-8", "replace")
                phonemes.append((name, events[index].audio_position / 1000.0))
            index += 1
        return 0

    callback = _Callback(receive)
    library.espeak_SetSynthCallback(callback)
    if library.espeak_SetVoiceByName(voice.name.encode()) != 0:
        raise unknown_voice(voice)
    settings = ((RATE, voice.words_per_minute), (PITCH, voice.pitch), (RANGE, voice.pitch_range))
    for parameter, value in settings:
        library.espeak_SetParameter(parameter, value, 0)
    raw = text.encode()
    flags = CHARS_UTF8 | (SSML if ssml else 0)
    library.espeak_Synth(raw, len(raw) + 1, 0, 0, 0, flags, None, None)
    library.espeak_Synchronize()
    library.espeak_Terminate()
    if not chunks:
        raise nothing_to_say(text)
    samples = np.concatenate(chunks).astype(np.float64) / 32768.0
    return SpokenText(samples, rate_hz, phonemes)


def speak_to_file(text: str, output: Path, voice: Voice | None = None) -> None:
    """Speak a plain text into a wav file, by the library or else by the program.

    Raises:
        FileNotFoundError: Neither is installed.
        ValueError: There is no such voice, or nothing to say.
    """
    voice = voice or Voice()
    if not any(letter.isalnum() for letter in text):
        raise nothing_to_say(text)
    if importlib.util.find_spec(LOADER) is not None:
        if multiprocessing.current_process().daemon:
            # A worker that lives for one text, and may have no children.
            _write_spoken(text, output, voice)
            return
        # A process of its own: espeak-ng keeps state from one text to the next.
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            pool.apply(_write_spoken, (text, output, voice))
    elif (program := shutil.which(PROGRAM)) is not None:
        _run_program(program, text, output, voice)
    else:
        raise FileNotFoundError(
            "No voice is installed here that could speak a text; expected the package"
            f" `espeakng-loader` or the program `{PROGRAM}`. Install one of them"
            " (`pip install gaussiantalker-ns[sample]`, or `apt install espeak-ng`), or record the"
            " text, with any voice or program that you like, and give the file to --audio."
        )


def _write_spoken(text: str, output: Path, voice: Voice) -> None:
    spoken = synthesise(text, voice)
    write_wav(output, spoken.samples.astype(np.float32), spoken.sample_rate_hz)


def _run_program(program: str, text: str, output: Path, voice: Voice) -> None:
    """Have the program speak a text, which it reads from its input."""
    command = [program, "-v", voice.name, "-s", str(voice.words_per_minute)]
    command += ["-p", str(voice.pitch), "-w", str(output), "--stdin", "-b", "1"]
    done = subprocess.run(command, input=text.encode(), capture_output=True, check=False)
    if done.returncode != 0 or not output.is_file():
        said = done.stderr.decode("utf-8", "replace").strip()[:200]
        raise ValueError(
            f"{program} could not speak with the voice `{voice.name}` ({said}); expected one that"
            " `espeak-ng --voices` lists. Choose another with --voice."
        )


def unknown_voice(voice: Voice) -> ValueError:
    """The error for a voice that is not there."""
    return ValueError(
        f"`{voice.name}` is not an espeak-ng voice; expected a name such as `en-us` or `en+f3`."
        " Choose another with --voice."
    )


def nothing_to_say(text: str) -> ValueError:
    """The error for a text without words."""
    return ValueError(f"The text {text[:40]!r} has no words; expected something to say.")
