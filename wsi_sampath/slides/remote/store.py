"""Ranges of an object in a store (S3, Google Cloud Storage), by fsspec."""

from __future__ import annotations

import threading
import time
from functools import partial
from importlib.util import find_spec
from typing import Any

from wsi_sampath.errors import UsageError, WsiError
from wsi_sampath.extras import install_hint
from wsi_sampath.slides.remote.address import Address
from wsi_sampath.slides.remote.wire import FIRST_TRIES, Broken, Stamp, patiently

# Ranges come without a tag, so that the object is looked at again as often.
_LOOK_S = 10.0
_NEEDED = {"s3": "s3fs", "gs": "gcsfs"}
_TAGS = ("ETag", "etag", "LastModified", "updated", "mtime", "created")


class StoreWire:
    """An object of a store.

    Parameters
    ----------
    files
        An fsspec file system, which finds its login by the rules of its own.
    key
        The object's path there.
    """

    def __init__(self, files: Any, key: str) -> None:
        self._files, self._key = files, key
        self._lock = threading.Lock()
        self._seen: tuple[float, Stamp] | None = None

    def begin(self, count: int) -> tuple[Stamp, bytes]:
        """See `Wire.begin`."""
        self._seen = None
        stamp = self._stamp()
        return stamp, self._range(0, min(count, stamp.size))

    def fetch(self, start: int, stop: int) -> tuple[Stamp, bytes]:
        """See `Wire.fetch`."""
        # Looked at afterwards: what was there by then is what was read.
        data = self._range(start, stop)
        return self._stamp(), data

    def _stamp(self) -> Stamp:
        with self._lock:
            if self._seen is None or time.monotonic() - self._seen[0] > _LOOK_S:
                self._seen = time.monotonic(), self._look()
            return self._seen[1]

    def _look(self) -> Stamp:
        try:
            self._files.invalidate_cache(self._key.rpartition("/")[0])
            found = self._files.info(self._key)
        except Exception as error:  # noqa: BLE001 - each store has errors of its own
            raise _explained(error) from None
        if found.get("type") == "directory":
            raise WsiError("unreadable", "this is a folder; slides are named one by one")
        tag = next((str(found[name]) for name in _TAGS if found.get(name)), "")
        return Stamp(int(found.get("size") or 0), tag)

    def _range(self, start: int, stop: int) -> bytes:
        try:
            data: bytes = self._files.cat_file(self._key, start=start, end=stop)
        except Exception as error:  # noqa: BLE001 - each store has errors of its own
            raise _explained(error) from None
        if len(data) != stop - start:
            raise Broken("the connection broke off")
        return data


def open_store(address: Address) -> StoreWire:
    """Reach an object by its address.

    Raises
    ------
    UsageError
        Where the package for such stores is not installed, or cannot be loaded.
    WsiError
        ``unreachable`` where the store cannot be entered.
    """
    protocol = address.protocol
    how = "pip install gcsfs" if protocol == "gs" else install_hint("remote")
    missing = [name for name in ("fsspec", _NEEDED[protocol]) if find_spec(name) is None]
    if missing:
        message = f"{protocol}:// needs {' and '.join(missing)}: {how}"
        raise UsageError(message, subject=address.shown)
    try:
        files = patiently(partial(_entered, protocol), tries=FIRST_TRIES)
    except ImportError:
        message = f"fsspec and {_NEEDED[protocol]} cannot be loaded, or do not fit together: {how}"
        raise UsageError(message, subject=address.shown) from None
    return StoreWire(files, address.full.partition("://")[2])


def _entered(protocol: str) -> Any:
    """Return the file system of a store; some look for their login, or at the store, at once."""
    try:
        import fsspec

        return fsspec.filesystem(protocol)
    except ImportError:
        raise
    except Exception as error:  # noqa: BLE001 - each store has errors of its own
        raise _explained(error) from None


def _explained(error: Exception) -> Exception:
    """Say what an error of a store means; its own text is not shown, and may hold a login."""
    if isinstance(error, FileNotFoundError):
        return WsiError("unreachable", "the store has no such object, or shows it to others alone")
    kind = type(error).__name__
    if isinstance(error, PermissionError) or "Credentials" in kind:
        message = f"the store does not let you in ({kind}); does your login reach this bucket?"
        return WsiError("unreachable", message)
    return Broken(f"the store failed ({kind})")
