"""A stage of the run that works ahead of the next one, in a thread of its own."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterable
from contextlib import closing
from dataclasses import dataclass, field
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
