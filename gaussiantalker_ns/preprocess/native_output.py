"""Keeping the chatter of native libraries off the user's terminal."""

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def hidden_stderr() -> Iterator[None]:
    """Hold back what native code writes to the error stream; it is shown only if the block fails.

    MediaPipe prints a page of warnings about its own defaults at every start, past Python's
    logging.
    """
    sys.stderr.flush()
    with tempfile.TemporaryFile() as held:
        saved = os.dup(2)
        os.dup2(held.fileno(), 2)
        failed = True
        try:
            yield
            failed = False
        finally:
            sys.stderr.flush()
            os.dup2(saved, 2)
            os.close(saved)
            if failed:
                held.seek(0)
                sys.stderr.write(held.read().decode(errors="replace"))
