"""Stages of a run in threads of their own: one that works ahead, one that follows behind."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Generator, Iterable
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from queue import SimpleQueue
from typing import Generic, TypeVar

Item = TypeVar("Item")


@dataclass(frozen=True)
class _End:
    error: BaseException | None = None


@dataclass
class _Worker(Generic[Item]):
    items: Iterable[Item]
    room: threading.Semaphore
    made: SimpleQueue[Item | _End] = field(default_factory=SimpleQueue)
    stopped: bool = False

    def run(self) -> None:
        try:
            self._run()
        except BaseException as error:  # noqa: BLE001 - handed to the reading thread
            self.made.put(_End(error))
        else:
            self.made.put(_End())

    def _run(self) -> None:
        # Whoever stops early wants the stage's own clean-up done, here where it ran.
        with closing(_generator(self.items)) as items:
            # Room is made before an item, since its making is what costs memory.
            while self.room.acquire() and not self.stopped:
                try:
                    self.made.put(next(items))
                except StopIteration:
                    return

    def stop(self) -> None:
        self.stopped = True
        self.room.release()


def ahead(items: Iterable[Item], *, depth: int = 1) -> Generator[Item]:
    """Iterate over `items`, which are made in another thread while the caller works.

    Parameters
    ----------
    items
        Made in that thread; what it raises is raised here, after the items before it.
    depth
        Items that may be ready, or in the making, while the caller works on one.

    Yields
    ------
    Item
        In order.
    """
    worker = _Worker(items, threading.Semaphore(depth))
    thread = threading.Thread(target=worker.run, name="ahead", daemon=True)
    thread.start()
    try:
        while not isinstance(item := worker.made.get(), _End):
            worker.room.release()
            yield item
        if item.error is not None:
            raise item.error
    finally:
        worker.stop()
        thread.join()


def _generator(items: Iterable[Item]) -> Generator[Item]:
    yield from items


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

    Attributes
    ----------
    waited
        Seconds that `put` has waited so far.
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
        self.waited = 0.0
        self._thread = threading.Thread(target=self._run, name="background", daemon=True)

    def put(self, item: Item) -> None:
        """Queue an item."""
        self._raise()
        start = time.perf_counter()
        self._queue.put(item)
        self.waited += time.perf_counter() - start

    def _run(self) -> None:
        if self._prepare is not None:
            self._try(self._prepare)
        while (item := self._queue.get()) is not None:
            if self._error is not None:
                continue
            self._try(partial(self._work, item))

    def _try(self, call: Callable[[], None]) -> None:
        try:
            call()
        except BaseException as error:  # noqa: BLE001 - handed to the feeding thread
            self._error = error

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error

    def __enter__(self) -> Background[Item]:
        self._thread.start()
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._queue.put(None)
        self._thread.join()
        if error is None:
            self._raise()
