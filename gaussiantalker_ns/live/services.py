"""What the parts of one server share: settings, talkers, worker processes, sessions.

Applications that are mounted beside the page of the head (`make_app`) are given the same, so that a
talker which one of them adds can be spoken to at once.
"""

from dataclasses import dataclass

from gaussiantalker_ns.live.library import TalkerLibrary
from gaussiantalker_ns.live.sessions.manager import SessionManager
from gaussiantalker_ns.live.settings import ServerSettings
from gaussiantalker_ns.live.worker import WorkerProcesses


@dataclass(frozen=True)
class Services:
    """One of each for a server.

    `make_app` makes them and ends them; requests find them as `request.app.state.services`, and an
    application that is mounted beside the interface gets them from its maker.
    """

    settings: ServerSettings
    """What it was started with."""
    library: TalkerLibrary
    """Who can talk."""
    worker: WorkerProcesses
    """Processes for strangers' files."""
    sessions: SessionManager
    """Who talks now."""

    @classmethod
    def of(cls, settings: ServerSettings) -> "Services":
        """Make them for a server.

        Args:
            settings: What it is started with.

        Raises:
            FileNotFoundError, ValueError: A talker that was named cannot be used.
        """
        library = TalkerLibrary(settings.library, settings.talkers)
        return cls(settings, library, WorkerProcesses(), SessionManager(settings, library))

    async def close(self) -> None:
        """End all sessions and processes."""
        await self.sessions.close()
        self.worker.close()
