"""Working on frames in several threads, in order and with a bounded number of frames in memory."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

AHEAD_PER_WORKER = 2
"""Results that may wait for their turn, per thread."""


def ordered_map(
    function: Callable[[Item], Result], items: Iterable[Item], num_workers: int
) -> Iterator[Result]:
    """Yield `function(item)` for every item in order, computed in `num_workers` threads.

    Unlike `ThreadPoolExecutor.map` it starts only a few items ahead of the consumer, so that memory
    does not grow with the length of the video. OpenCV, MediaPipe and NumPy release the interpreter
    lock in their heavy parts, hence threads.

    Example: `list(ordered_map(abs, [-1, 2], 2))` is `[1, 2]`.
    """
    waiting: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(num_workers) as pool:
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) > num_workers * AHEAD_PER_WORKER:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
