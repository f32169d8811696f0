"""A video on its way to the server: in pieces, within bounds, and whole or absent."""

import os
import shutil
import time
from pathlib import Path
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request

from gaussiantalker_ns.live.studio.probing import FILE, probe_video
from gaussiantalker_ns.live.studio.projects import PART, RECORDING, UPLOAD, Project, remove
from gaussiantalker_ns.live.studio.run_job import read_json, write_json
from gaussiantalker_ns.live.studio.settings import MIB, StudioSettings
from gaussiantalker_ns.live.worker import WorkerDiedError, WorkerProcesses

PROBE_TIMEOUT_S = 120.0
"""How long a worker may look at a video."""

MOST_FINGERPRINT = 300
"""Letters by which a browser knows a file again."""


class VideoUpload:
    """The upload of one project."""

    _receiving: set[Path] = set()
    """Where a piece is arriving: two tabs must not write at once."""

    def __init__(self, project: Project, settings: StudioSettings) -> None:
        self.project = project
        self.settings = settings
        self.part: Path = project.folder / PART
        self.record: Path = project.folder / UPLOAD

    def facts(self) -> dict[str, Any] | None:
        """What has arrived, and of what; None where nothing is on its way."""
        if not self.part.is_file():
            return None
        return {**read_json(self.record), "received": self.part.stat().st_size}

    def begin(self, num_bytes: int | None, fingerprint: str, kind: str) -> None:
        """Begin, or begin anew.

        Args:
            num_bytes: Length of the file; None for a recording that goes on.
            fingerprint: By which the browser knows the file again after a reload.
            kind: `file` or `recording`.

        Raises:
            HTTPException: 413 too large, 507 no space, 409 the project has a video.
        """
        most = self.settings.most_video_bytes
        if self.project.video is not None or self.project.process_job.exists:
            raise HTTPException(409, "There is a video already; discard it first.")
        if num_bytes is not None and num_bytes > most:
            raise HTTPException(413, too_large(num_bytes, most))
        check_space(self.project.folder, self.settings.spare_bytes + (num_bytes or 0))
        remove(self.part)
        record = {
            "bytes": num_bytes,
            "fingerprint": fingerprint[:MOST_FINGERPRINT],
            "kind": kind,
            "begun": time.time(),
        }
        write_json(self.record, record)
        self.part.touch()

    async def receive(self, offset: int, request: Request) -> int:
        """Append a piece; returns how many bytes have arrived.

        Raises:
            HTTPException: 409 it does not begin where the last one ended, 413 too much.
        """
        facts = self.facts()
        if facts is None:
            raise HTTPException(409, "No upload was begun; begin one.")
        if self.part in self._receiving:
            raise HTTPException(409, "Another piece is on its way; go on after it.")
        if facts["received"] != offset:
            raise HTTPException(
                409, f"The piece begins at {offset}; expected {facts['received']}. Go on there."
            )
        most = min(facts["bytes"] or self.settings.most_video_bytes, self.settings.most_video_bytes)
        end = offset + self.settings.most_piece_bytes
        self._receiving.add(self.part)
        try:
            length = await self._append(offset, request, min(most, end))
        finally:
            self._receiving.discard(self.part)
        if length > most:
            self.cancel()
            raise HTTPException(413, too_large(length, most))
        if length > end:
            limit = self.settings.most_piece_bytes // MIB
            raise HTTPException(413, f"The piece is longer than {limit} MiB; send smaller ones.")
        return length

    async def _append(self, offset: int, request: Request, most: int) -> int:
        """Write a piece behind what has arrived; what is longer than `most` is not kept."""
        length = offset
        with self.part.open("ab") as file:
            async for piece in request.stream():
                length += len(piece)
                if length > most:
                    file.truncate(offset)
                    break
                await run_in_threadpool(file.write, piece)
        return length

    async def finish(self, worker: WorkerProcesses) -> dict[str, Any]:
        """Look at what has arrived and make it the project's video; refused, it is removed.

        Raises:
            HTTPException: 409 not all is there, 415 it is no video that can be used, 408 looking at
                it takes too long.
        """
        facts = self.facts()
        if facts is None or facts["bytes"] not in (None, facts["received"]):
            raise HTTPException(409, "The upload is not whole; expected the rest of it first.")
        bounds = self.settings.least_video_s, self.settings.most_video_s
        try:
            found = await worker.call(
                probe_video, str(self.part), *bounds, timeout_s=PROBE_TIMEOUT_S
            )
        except TimeoutError as error:
            self.cancel()
            raise HTTPException(408, f"{FILE} could not be read in time.") from error
        except (ValueError, MemoryError, WorkerDiedError) as error:
            self.cancel()
            raise HTTPException(415, refusal(error)) from error
        os.replace(self.part, self.project.folder / f"{RECORDING}.{found['ending']}")
        write_json(self.record, {**facts, **found})
        return found

    def cancel(self) -> None:
        """Remove what has arrived."""
        remove(self.part)
        remove(self.record)

    def expire(self) -> None:
        """Remove what nobody has finished for a long time."""
        facts = self.facts()
        if facts is not None and time.time() - facts.get("begun", 0) > self.settings.upload_s:
            self.cancel()


def check_space(folder: Path, num_bytes: int) -> None:
    """Refuse what the disk cannot hold.

    Raises:
        HTTPException: 507.
    """
    free = shutil.disk_usage(folder).free
    if free < num_bytes:
        raise HTTPException(
            507,
            f"The disk has {free // MIB} MiB left; expected {num_bytes // MIB} MiB. Delete"
            " something first.",
        )


def refusal(error: Exception) -> str:
    """What to tell about a file that was refused."""
    if isinstance(error, ValueError):
        return str(error)
    return (
        f"{FILE} brings its reader down; expected a recording in a common format. Export it again."
    )


def too_large(num_bytes: int, most: int) -> str:
    """The message about a video that is too long."""
    return (
        f"The video has {num_bytes // MIB} MiB; expected at most {most // MIB} MiB. Cut it to a"
        " minute or two, or export it smaller."
    )
