"""Python's cyclic garbage collector, paused where it takes long and finds nothing."""

from __future__ import annotations

import atexit
import gc
from collections.abc import Iterator
from contextlib import contextmanager

_NEW_OBJECTS = 50_000


@contextmanager
def collection_paused() -> Iterator[None]:
    """Pause the collector while millions of lists are built, which it would visit repeatedly."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def collect_rarely() -> None:
    """Let the collector visit a command's objects less often, and not once more when it ends.

    The functions and classes of the imported packages stay to the end. By default, a seventh of the
    time that their import takes goes into visiting them, and a fifth of it once more after the last
    line of the command, when nothing can be gained by it.
    """
    gc.set_threshold(_NEW_OBJECTS)
    atexit.register(gc.freeze)
