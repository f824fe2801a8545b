"""A bounded store of decoded TIFF tiles, shared by the threads that read one slide."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Rgb = NDArray[np.uint8]
Key = tuple[int, int]
_STRIPES = 64


class TileCache:
    """Tiles by (level, index); those that are no longer needed are dropped first.

    A stream requests every pixel about once, in boxes that do not follow the tiles of the file. So
    a tile is worth keeping until all its pixels were requested, which may be a whole row of tiles
    later: fully read tiles go first, then the least recently used.

    Parameters
    ----------
    capacity
        Most bytes of pixels to hold; the newest tile is always held.

    Attributes
    ----------
    decoded_px
        Pixels of all tiles that had to be decoded.
    """

    def __init__(self, capacity: int) -> None:
        self.decoded_px = 0
        self._capacity = capacity
        self._held = 0
        self._in_use: OrderedDict[Key, Rgb] = OrderedDict()
        self._spent: OrderedDict[Key, Rgb] = OrderedDict()
        self._unread: dict[Key, int] = {}
        self._lock = threading.Lock()
        self._stripes = tuple(threading.Lock() for _ in range(_STRIPES))

    def fetch(self, key: Key, make: Callable[[], Rgb], *, pixels: int, wanted: int) -> Rgb:
        """Return a tile, decoded now if it is not held.

        Parameters
        ----------
        key
            Level and index of the tile.
        make
            Decodes the tile, in one thread at a time per tile; its errors are passed on.
        pixels, wanted
            Number of the tile's pixels inside its level, and those that this call is for.
        """
        with self._stripes[hash(key) % _STRIPES]:
            tile = self._find(key)
            if tile is None:
                tile = make()
                self.count(pixels)
                self._hold(key, tile, pixels)
        self._spend(key, wanted)
        return tile

    def holds(self, key: Key) -> bool:
        """Return whether a tile need not be decoded now."""
        with self._lock:
            return key in self._in_use or key in self._spent

    def count(self, pixels: int) -> None:
        """Add to `decoded_px` what was decoded past this store."""
        with self._lock:
            self.decoded_px += pixels

    def _find(self, key: Key) -> Rgb | None:
        with self._lock:
            for tiles in (self._in_use, self._spent):
                if key in tiles:
                    tiles.move_to_end(key)
                    return tiles[key]
            return None

    def _hold(self, key: Key, tile: Rgb, pixels: int) -> None:
        with self._lock:
            self._in_use[key] = tile
            self._unread[key] = pixels
            self._held += tile.nbytes
            while self._held > self._capacity and len(self._unread) > 1:
                oldest, dropped = (self._spent or self._in_use).popitem(last=False)
                del self._unread[oldest]
                self._held -= dropped.nbytes

    def _spend(self, key: Key, wanted: int) -> None:
        with self._lock:
            if key in self._unread:
                self._unread[key] -= wanted
                if self._unread[key] <= 0 and key in self._in_use:
                    self._spent[key] = self._in_use.pop(key)
