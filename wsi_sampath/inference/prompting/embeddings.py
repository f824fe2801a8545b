"""What a network has seen of squares, kept for the next prompt: in memory and on disk, bounded."""

from __future__ import annotations

import hashlib
import os
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from wsi_sampath.files import GROWING, replacing
from wsi_sampath.inference.prompting.settings import PromptSettings
from wsi_sampath.models.network import Embedding

SUFFIX = ".embedding"
_GIB = 1 << 30
_KEY = "key"
_ABANDONED_S = 3600.0
_AFTER_EVICTION = 0.9
"""Share of its limit that a full folder is brought down to, so that not every file makes room."""


@dataclass(frozen=True)
class Seen:
    """What everything that is kept depends on, beside the square.

    Attributes
    ----------
    slide
        Fingerprint of the slide, and how its pixels become those of the finest plane.
    model
        Digests of weights and specification.
    precision
        Data type and kind of device that the network ran with: these decide the last digits.
    """

    slide: str
    model: str
    precision: str

    @property
    def parts(self) -> tuple[str, str, str]:
        """All of it."""
        return self.slide, self.model, self.precision


class EmbeddingCache:
    """Embeddings by key: those used last in memory, and all on disk where there is a folder.

    What comes back is what was stored, bit for bit, so that an answer does not depend on what is
    kept. A file that is torn, or of another key, counts as absent. A folder that cannot be written
    is not tried again: what is kept in it is a convenience.

    Parameters
    ----------
    memory_bytes
        Most that is held in memory, on the network's device; a single embedding is always held.
    folder
        Where files are kept; None for memory alone. Several processes may share it.
    disk_bytes
        Most that its files take; those used longest ago go first.

    Attributes
    ----------
    memory_bytes
        Held in memory now.
    made
        Embeddings that had to be made.
    trouble
        Why nothing more is written, if so.
    """

    def __init__(
        self, *, memory_bytes: int = _GIB, folder: Path | None = None, disk_bytes: int = 8 * _GIB
    ) -> None:
        self._held: OrderedDict[str, Embedding] = OrderedDict()
        self._limit, self._folder, self._disk_limit = memory_bytes, folder, disk_bytes
        self._on_disk: int | None = None
        self.trouble: OSError | None = None
        self.memory_bytes = self.made = 0

    def holds(self, key: str) -> bool:
        """Return whether an embedding is kept, wherever it is."""
        return key in self._held or (
            self._folder is not None and _path(self._folder, key).is_file()
        )

    def get(self, key: str, device: torch.device, make: Callable[[], Embedding]) -> Embedding:
        """Return the embedding of a key; made, and kept, where it is not there yet.

        Parameters
        ----------
        key
            From `key_of`.
        device
            Where it is wanted.
        make
            Makes it, on that device.
        """
        if key in self._held:
            self._held.move_to_end(key)
            return self._held[key]
        found = None if self._folder is None else _read(_path(self._folder, key), key, device)
        if found is None:
            # Laid out as it comes back from a file: another layout changes the last digits.
            found = tuple(part.contiguous() for part in make())
            self.made += 1
            if self._folder is not None and self.trouble is None:
                self._try_to_store(self._folder, key, found)
        self._hold(key, found)
        return found

    def _hold(self, key: str, embedding: Embedding) -> None:
        self._held[key] = embedding
        self.memory_bytes += _size(embedding)
        while self.memory_bytes > self._limit and len(self._held) > 1:
            _, dropped = self._held.popitem(last=False)
            self.memory_bytes -= _size(dropped)

    def _try_to_store(self, folder: Path, key: str, embedding: Embedding) -> None:
        try:
            self._store(folder, key, embedding)
        except (OSError, SafetensorError) as error:
            self.trouble = error if isinstance(error, OSError) else OSError(str(error))

    def _store(self, folder: Path, key: str, embedding: Embedding) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        tensors = {str(index): part.contiguous().cpu() for index, part in enumerate(embedding)}
        with replacing(_path(folder, key), shared=True) as growing:
            save_file(tensors, growing, metadata={_KEY: key})
        if self._on_disk is None:
            _sweep(folder)
            known = _taken(folder)
        else:
            known = self._on_disk + _size(embedding)
        self._on_disk = _make_room(folder, self._disk_limit) if known > self._disk_limit else known


def cache_of(settings: PromptSettings) -> EmbeddingCache:
    """Return an empty cache within the limits of settings."""
    return EmbeddingCache(
        memory_bytes=int(settings.memory_gib * _GIB),
        folder=settings.folder if settings.cache_gib else None,
        disk_bytes=int(settings.cache_gib * _GIB),
    )


def key_of(seen: Seen, *, factor: int, y: int, x: int) -> str:
    """Return the key of a square, a hexadecimal digest."""
    words = (*seen.parts, str(factor), str(y), str(x))
    return hashlib.sha256("\n".join(words).encode()).hexdigest()


def _path(folder: Path, key: str) -> Path:
    return folder / f"{key}{SUFFIX}"


def _read(path: Path, key: str, device: torch.device) -> Embedding | None:
    try:
        with safe_open(path, framework="pt", device=str(device)) as file:
            if (file.metadata() or {}).get(_KEY) != key:
                return None
            names = sorted(file.keys(), key=int)
            found = tuple(file.get_tensor(name) for name in names)
    except (OSError, SafetensorError, ValueError):
        return None
    with suppress(OSError):
        os.utime(path)
    return found


def _size(embedding: Embedding) -> int:
    return sum(part.element_size() * part.nelement() for part in embedding)


def _files(folder: Path) -> list[tuple[float, int, Path]]:
    """Return when each file was used last, its size and its path; others may delete meanwhile."""
    found = []
    for path in folder.glob(f"*{SUFFIX}"):
        with suppress(OSError):
            state = path.stat()
            found.append((state.st_mtime, state.st_size, path))
    return sorted(found)


def _sweep(folder: Path) -> None:
    """Delete what was left half-written by processes that were killed."""
    for path in folder.glob(f".*{GROWING}"):
        with suppress(OSError):
            if time.time() - path.stat().st_mtime > _ABANDONED_S:
                path.unlink()


def _taken(folder: Path) -> int:
    return sum(size for _, size, _ in _files(folder))


def _make_room(folder: Path, limit: int) -> int:
    files = _files(folder)
    taken = sum(size for _, size, _ in files)
    # The last one is what has just been written.
    for _, size, path in files[:-1]:
        if taken <= limit * _AFTER_EVICTION:
            break
        path.unlink(missing_ok=True)
        taken -= size
    return taken
