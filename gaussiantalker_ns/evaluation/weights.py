"""What some measures need and no package carries: network weights, and where they are expected."""

from pathlib import Path

from gaussiantalker_ns.files import sha256_of
from gaussiantalker_ns.losses.perceptual import checkpoint_folder


class NotMeasured(Exception):
    """A figure cannot be had here; the text says what it needs, and where to put it."""


def require_weights(file_name: str, what: str, sha256_prefix: str | None = None) -> Path:
    """Find a file of weights in torch's folder of checkpoints; nothing is downloaded.

    Args:
        file_name: Name of the file.
        what: What it is and where it comes from, for the message.
        sha256_prefix: Beginning of its hash, where the authors publish one.

    Raises:
        NotMeasured: The file is missing or another one.
    """
    path = checkpoint_folder() / file_name
    if not path.is_file():
        raise NotMeasured(f"needs {what}, put it at {path}")
    if sha256_prefix is not None and not sha256_of(path).startswith(sha256_prefix):
        raise NotMeasured(
            f"needs {what} with a sha256 that begins with {sha256_prefix}; the file at {path} is"
            " another one, or damaged: replace it"
        )
    return path
