"""Uploads: bodies of requests as files that are whole or absent, and sound that strangers send."""

import os
import tempfile
from pathlib import Path

import numpy as np
from jaxtyping import Float32
from starlette.exceptions import HTTPException
from starlette.requests import Request

from gaussiantalker_ns.audio.espeak import speak_to_file
from gaussiantalker_ns.audio.read import read_audio
from gaussiantalker_ns.live.worker import WorkerDiedError, WorkerProcesses

MOST_SOUND_S = 300.0
"""Longest sound of a session's upload, in seconds."""

DECODE_TIMEOUT_S = 60.0

MOST_TEXT_LETTERS = 2000
"""Longest text that is spoken at once."""

SOUND_RATE_HZ = 48_000


async def save_body(request: Request, path: Path, most_bytes: int) -> int:
    """Write a request's body to a file that appears when it is whole; return its length.

    Raises:
        HTTPException: 413 for a longer body, 400 for an empty one.
    """
    partial = path.with_name(f".partial-{path.name}")
    length = 0
    try:
        with partial.open("wb") as file:
            async for piece in request.stream():
                length += len(piece)
                if length > most_bytes:
                    raise HTTPException(
                        413, f"The file is longer than {most_bytes >> 20} MiB; send a shorter one."
                    )
                file.write(piece)
        if length == 0:
            raise HTTPException(400, "The upload is empty; expected a file as the request's body.")
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    return length


async def uploaded_sound(
    request: Request, worker: WorkerProcesses, most_bytes: int
) -> Float32[np.ndarray, " m"]:
    """The sound of an audio or video file that is a request's body, mono at 48 kHz.

    Raises:
        HTTPException: 413 too long, 415 no sound in it, 408 decoding takes too long.
    """
    with tempfile.TemporaryDirectory(prefix="gaussiantalker-upload-") as folder:
        path = Path(folder) / "upload"
        await save_body(request, path, most_bytes)
        try:
            return await worker.call(_read_sound, str(path), timeout_s=DECODE_TIMEOUT_S)
        except TimeoutError as error:
            raise HTTPException(
                408,
                f"The file could not be decoded in {DECODE_TIMEOUT_S:.0f} s; send a shorter one.",
            ) from error
        except (ValueError, MemoryError, WorkerDiedError) as error:
            # Where the file lay on the server is nobody's business.
            sentence = str(error).replace(str(path), "The file")
            raise HTTPException(415, sentence) from error


async def spoken_text(text: str, worker: WorkerProcesses) -> Float32[np.ndarray, " m"]:
    """A text, spoken by espeak-ng, mono at 48 kHz.

    Raises:
        HTTPException: 400 for nothing to say, 413 for too much, 501 where no voice is installed.
    """
    if len(text) > MOST_TEXT_LETTERS:
        raise HTTPException(
            413, f"The text has {len(text)} letters; expected at most {MOST_TEXT_LETTERS}."
        )
    with tempfile.TemporaryDirectory(prefix="gaussiantalker-text-") as folder:
        try:
            return await worker.call(
                _speak, text, str(Path(folder) / "text.wav"), timeout_s=DECODE_TIMEOUT_S
            )
        except FileNotFoundError as error:
            raise HTTPException(501, str(error)) from error
        except ValueError as error:
            raise HTTPException(400, str(error)) from error
        except (TimeoutError, WorkerDiedError) as error:
            raise HTTPException(500, f"The voice failed: {error}") from error


def _read_sound(path: str) -> Float32[np.ndarray, " m"]:
    """In the worker: decode a file."""
    samples = read_audio(path, SOUND_RATE_HZ)
    if len(samples) > MOST_SOUND_S * SOUND_RATE_HZ:
        raise ValueError(
            f"{path} lasts {len(samples) / SOUND_RATE_HZ:.0f} s; expected at most"
            f" {MOST_SOUND_S:.0f} s. Send it in parts."
        )
    return samples


def _speak(text: str, path: str) -> Float32[np.ndarray, " m"]:
    """In the worker: speak a text."""
    speak_to_file(text, Path(path))
    return read_audio(path, SOUND_RATE_HZ)
