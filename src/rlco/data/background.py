"""Work on all cores whose results are handed on in the order in which it was given."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Condition
from typing import Generic, TypeVar

T = TypeVar("T")


class OrderedWork(Generic[T]):
    """Threads for work that lets go of Python's lock (encoding, files). Nothing is ever dropped.

    The first failure ends it: no later result is handed on, and the failure is raised at the next call.
    """

    def __init__(self, hand_on: Callable[[T], object], *, max_waiting_bytes: int) -> None:
        """``hand_on`` is called with each result, one at a time, in a thread of the pool."""
        self._hand_on, self._max_bytes = hand_on, max_waiting_bytes
        self._pool = ThreadPoolExecutor(max_workers=len(os.sched_getaffinity(0)), thread_name_prefix="encode")
        self._changed = Condition()
        self._given = 0
        self._done = 0
        self._bytes = 0
        self._results: dict[int, T] = {}
        self._sizes: dict[int, int] = {}
        self._failure: BaseException | None = None

    def give(self, work: Callable[[], T], *, num_bytes: int) -> None:
        """Start ``work`` when a core is free. Blocks while more than the allowed bytes wait; raises an old failure."""
        with self._changed:
            self._changed.wait_for(lambda: self._failure or not self._bytes or self._fits(num_bytes))
            self._raise_failure()
            number, self._given = self._given, self._given + 1
            self._sizes[number] = num_bytes
            self._bytes += num_bytes
        self._pool.submit(self._run, number, work)

    def wait(self) -> None:
        """Return once every result is handed on; raise the first failure."""
        with self._changed:
            self._changed.wait_for(lambda: self._failure or self._done == self._given)
            self._raise_failure()

    def close(self) -> None:
        """Finish what was given and end the threads; raises nothing."""
        self._pool.shutdown(wait=True)

    def _fits(self, num_bytes: int) -> bool:
        return self._bytes + num_bytes <= self._max_bytes

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _run(self, number: int, work: Callable[[], T]) -> None:
        try:
            result = work()
            with self._changed:
                self._results[number] = result
                while self._failure is None and self._done in self._results:
                    self._hand_on(self._results.pop(self._done))
                    self._bytes -= self._sizes.pop(self._done)
                    self._done += 1
                self._changed.notify_all()
        except BaseException as error:
            with self._changed:
                self._failure = self._failure or error
                self._changed.notify_all()
