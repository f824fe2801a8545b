"""A stage of the run in a thread of its own, behind a bounded queue."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Background(Generic[Item]):
    """Feed items to `work` in order, in one other thread.

    `put` waits while `depth` items are queued, so that a slow stage holds its feeder back instead
    of growing memory, and raises whatever `work` raised.

    Parameters
    ----------
    work
        Called with every item.
    depth
        Items that may wait.
    prepare
        Called once in that thread, before the first item.
    """

    def __init__(
        self,
        work: Callable[[Item], None],
        *,
        depth: int = 2,
        prepare: Callable[[], None] | None = None,
    ) -> None:
        self._work = work
        self._prepare = prepare
        self._queue: queue.Queue[Item | None] = queue.Queue(depth)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="background", daemon=True)

    def put(self, item: Item) -> None:
        """Queue an item."""
        self._raise()
        self._queue.put(item)

    def _run(self) -> None:
        if self._prepare is not None:
            self._prepare()
        while (item := self._queue.get()) is not None:
            if self._error is not None:
                continue
            try:
                self._work(item)
            except BaseException as error:  # noqa: BLE001 - handed to the feeding thread
                self._error = error

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error

    def __enter__(self) -> Background[Item]:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._queue.put(None)
        self._thread.join()
        if error is None:
            self._raise()
