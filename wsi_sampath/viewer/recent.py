"""A bounded store of what was used last, shared by the threads that answer requests."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

Value = TypeVar("Value")
_STRIPES = 64


class Recent(Generic[Value]):
    """Values by key; those used longest ago are dropped first.

    Parameters
    ----------
    capacity
        Most that is held, in the unit of `size`; the newest value is always held.
    size
        How much a value takes.

    Attributes
    ----------
    held
        How much is held now.
    made
        Values that had to be made.
    """

    def __init__(self, capacity: int, size: Callable[[Value], int]) -> None:
        self.held = self.made = 0
        self._capacity, self._size = capacity, size
        self._values: OrderedDict[Hashable, Value] = OrderedDict()
        self._lock = threading.Lock()
        self._stripes = tuple(threading.Lock() for _ in range(_STRIPES))

    def fetch(self, key: Hashable, make: Callable[[], Value]) -> Value:
        """Return a value, made now if it is not held.

        Parameters
        ----------
        key
            By which it is found again.
        make
            Makes it, in one thread at a time per key; its errors are passed on. It must not fetch
            from the same store.
        """
        with self._stripes[hash(key) % _STRIPES]:
            with self._lock:
                if key in self._values:
                    self._values.move_to_end(key)
                    return self._values[key]
            value = make()
            self._hold(key, value)
        return value

    def _hold(self, key: Hashable, value: Value) -> None:
        with self._lock:
            self._values[key] = value
            self.made += 1
            self.held += self._size(value)
            while self.held > self._capacity and len(self._values) > 1:
                _, dropped = self._values.popitem(last=False)
                self.held -= self._size(dropped)
