"""Open and plan the next slide in a thread while the current one runs."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType

from wsi_sampath.batch.job import Job
from wsi_sampath.inference.segmenter import PreparedSlide


class LookAhead:
    """Prepare slides, at most one of them in advance.

    Parameters
    ----------
    prepare
        Opens and plans a slide; called from another thread where it is done in advance.
    """

    def __init__(self, prepare: Callable[[Job], PreparedSlide]) -> None:
        self._prepare = prepare
        self._threads = ThreadPoolExecutor(1, thread_name_prefix="look-ahead")
        self._next: tuple[Job, Future[PreparedSlide]] | None = None

    def start(self, job: Job) -> None:
        """Begin to prepare a slide, unless one is prepared in advance already."""
        if self._next is None:
            self._next = (job, self._threads.submit(self._prepare, job))

    def take(self, job: Job) -> PreparedSlide:
        """Return a prepared slide: the one from before, or one prepared now.

        Raises
        ------
        WsiError
            Whatever was wrong with the slide.
        """
        if self._next is None or self._next[0] != job:
            return self._prepare(job)
        _, future = self._next
        self._next = None
        return future.result()

    def drop(self, job: Job) -> None:
        """Release a slide that was prepared in advance and is no longer wanted."""
        if self._next is not None and self._next[0] == job:
            self._close()

    def _close(self) -> None:
        if self._next is None:
            return
        _, future = self._next
        self._next = None
        if not future.cancel() and future.exception() is None:
            future.result().close()

    def __enter__(self) -> LookAhead:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._close()
        self._threads.shutdown()
