"""Work that threads do ahead of its turn."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

T = TypeVar("T")


class Prefetcher(Generic[T]):
    """Prepares the items of the next steps in threads; any step can be asked for at any time."""

    def __init__(self, prepare: Callable[[int], T], depth: int, num_workers: int) -> None:
        """Remember the work.

        Args:
            prepare: Makes the item of a step; called from several threads at once.
            depth: Steps that are prepared in advance; 0 prepares each when it is asked for.
            num_workers: Threads.
        """
        self._prepare = prepare
        self._depth = depth
        self._pool = ThreadPoolExecutor(num_workers, thread_name_prefix="prefetch")
        self._pending: dict[int, Future[T]] = {}

    def get(self, step: int) -> T:
        """Return the item of a step and start on the following ones."""
        if self._depth == 0:
            return self._prepare(step)
        wanted = range(step, step + self._depth + 1)
        for other in [key for key in self._pending if key not in wanted]:
            self._pending.pop(other).cancel()
        for key in wanted:
            if key not in self._pending:
                self._pending[key] = self._pool.submit(self._prepare, key)
        return self._pending.pop(step).result()

    def close(self) -> None:
        """Forget what was prepared and end the threads."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._pending.clear()
