"""Videos that talkers speak: each a folder with what is said, the job that makes it, and an mp4."""

import hashlib
import os
import re
import secrets
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gaussiantalker_ns.audio.espeak import LOADER, PROGRAM
from gaussiantalker_ns.live.studio.commands import PROGRESS, drive_steps
from gaussiantalker_ns.live.studio.jobs import BusyError, Job
from gaussiantalker_ns.live.studio.projects import one_line, remove
from gaussiantalker_ns.live.studio.run_job import read_json, write_json
from gaussiantalker_ns.live.studio.settings import StudioSettings

REQUEST, VIDEO, AUDIO = "request.json", "video.mp4", "audio"
"""Names in the folder of a video."""

VIDEO_ID = re.compile(r"[0-9]{10}-[0-9a-f]{8}")
"""What such a folder is called: when it was asked for, and eight letters against doubles."""

MOST_TEXT = 2000
"""Letters of a text that is spoken."""

MOST_TITLE = 80


def has_voice() -> bool:
    """Whether a text can be spoken here."""
    import importlib.util

    return importlib.util.find_spec(LOADER) is not None or shutil.which(PROGRAM) is not None


@dataclass(frozen=True)
class SpokenVideo:
    """One video; a view of its folder."""

    folder: Path

    @property
    def job(self) -> Job:
        """The job that makes it."""
        return Job(self.folder)

    @property
    def file(self) -> Path:
        """The mp4, once it is there."""
        return self.folder / VIDEO

    def facts(self) -> dict[str, Any]:
        """What the page shows of it."""
        request = read_json(self.folder / REQUEST)
        state = self.job.state()
        progress = read_json(self.folder / PROGRESS)
        return {
            "id": self.folder.name,
            "title": request.get("title", ""),
            "created": request.get("created"),
            "state": state.state,
            "message": state.message,
            "done": progress.get("done"),
            "total": progress.get("total"),
            "bytes": self.file.stat().st_size if self.file.is_file() else None,
        }


class SpokenVideos:
    """The videos of all talkers."""

    def __init__(self, folder: Path, settings: StudioSettings) -> None:
        self.folder = folder
        self.settings = settings

    def _of(self, talker: str) -> Path:
        # A talker's file may be called anything that a file system allows.
        return self.folder / hashlib.sha256(talker.encode()).hexdigest()[:24]

    def all(self, talker: str) -> list[SpokenVideo]:
        """The videos of a talker, the newest first."""
        folder = self._of(talker)
        if not folder.is_dir():
            return []
        names = sorted((path.name for path in folder.iterdir()), reverse=True)
        found = (folder / name for name in names if VIDEO_ID.fullmatch(name))
        return [SpokenVideo(path) for path in found if (path / REQUEST).is_file()]

    def get(self, talker: str, video_id: str) -> SpokenVideo:
        """The video of a name.

        Raises:
            KeyError: There is none.
        """
        for video in self.all(talker):
            if video.folder.name == video_id:
                return video
        raise KeyError(video_id)

    def check_free(self, talker: str) -> None:
        """Refuse a video while another one is made, or where there are too many.

        Raises:
            BusyError: One is made.
            ValueError: There are too many.
        """
        for folder in self.folder.iterdir() if self.folder.is_dir() else ():
            for path in folder.iterdir():
                if VIDEO_ID.fullmatch(path.name) and Job(path).is_running():
                    raise BusyError("Another video is being made; wait until it is done.")
        if len(self.all(talker)) >= self.settings.most_videos:
            raise ValueError(
                f"This talker has {self.settings.most_videos} videos; expected fewer. Delete some."
            )

    def new_folder(self, talker: str) -> Path:
        """A folder for a new video, not listed before `speak`."""
        folder = self._of(talker) / f"{int(time.time()):010d}-{secrets.token_hex(4)}"
        folder.mkdir(parents=True)
        return folder

    def speak(
        self, folder: Path, talker: Path, title: str, audio: Path | None, text: str | None
    ) -> SpokenVideo:
        """Begin to make a video.

        Args:
            folder: From `new_folder`.
            talker: Who speaks.
            title: What the page calls it.
            audio: A recording inside the folder, or None.
            text: A text, where there is no recording.
        """
        request = {
            "title": one_line(title)[:MOST_TITLE],
            "created": time.time(),
            "audio": audio.name if audio is not None else None,
            "text": text,
        }
        write_json(folder / REQUEST, request)
        video = SpokenVideo(folder)
        video.job.start(drive_steps(self.settings, folder, talker, audio, text))
        return video

    def go_on(self, video: SpokenVideo, talker: Path) -> None:
        """Make a video that was interrupted; what is rendered is kept."""
        request = read_json(video.folder / REQUEST)
        name = request.get("audio")
        audio = video.folder / AUDIO if name else None
        text = request.get("text")
        video.job.start(drive_steps(self.settings, video.folder, talker, audio, text))

    def delete(self, video: SpokenVideo) -> None:
        """End its job and remove it."""
        video.job.end()
        hidden = video.folder.with_name(f".{video.folder.name}")
        os.replace(video.folder, hidden)
        remove(hidden)

    def delete_all(self, talker: str) -> None:
        """Remove all videos of a talker."""
        for video in self.all(talker):
            self.delete(video)
        remove(self._of(talker))


def text_to_speak(text: str) -> str:
    """A text in a form that can be spoken.

    Raises:
        ValueError: There is nothing to say, or too much.
    """
    plain = one_line(text)
    if not any(letter.isalnum() for letter in plain):
        raise ValueError("The text has no words; expected something to say. Write a sentence.")
    if len(plain) > MOST_TEXT:
        raise ValueError(
            f"The text has {len(plain)} letters; expected at most {MOST_TEXT}. Shorten it."
        )
    return plain
