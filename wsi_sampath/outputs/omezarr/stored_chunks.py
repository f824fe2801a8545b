"""How many chunks of a result are on disk, and whole: an absent one reads as "not analysed"."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

# Of a version that did not say which images it wrote.
_IMAGES = ("labels/classes", "")
# Blosc states the length of what it packed in these bytes of its header.
_LENGTH = slice(12, 16)


def count_chunks(zarr: Path, images: Iterable[str]) -> int:
    """Count the chunks of the images at these paths that have the length that they state."""
    folders = (zarr / name / level for name in images for level in _levels(zarr / name))
    return sum(map(_is_whole, (file for folder in folders for file in _files(folder))))


def missing_chunks(zarr: Path, attributes: dict[str, Any]) -> str:
    """Say how many chunks are missing, or cut off, of those that the run wrote; empty if none.

    More of them are not a fault: somebody may have corrected the maps by hand.
    """
    written = attributes.get("chunks")
    if written is None:  # Of a version that did not count them.
        return ""
    missing = written - count_chunks(zarr, images_of(attributes))
    return f"{missing} of its {written} chunks are missing or cut off" if missing > 0 else ""


def images_of(attributes: dict[str, Any]) -> tuple[str, ...]:
    """Return the paths of the images that the run wrote."""
    return tuple(attributes.get("images") or _IMAGES)


def _levels(folder: Path) -> list[str]:
    try:
        return [name for name in os.listdir(folder) if name.isdecimal()]
    except OSError:
        return []


def _files(folder: Path) -> Iterator[Path]:
    for parent, _, names in os.walk(folder):
        yield from (Path(parent, name) for name in names if name.isdecimal())


def _is_whole(chunk: Path) -> bool:
    try:
        with chunk.open("rb") as stream:
            stated = int.from_bytes(stream.read(_LENGTH.stop)[_LENGTH], "little")
            return 0 < stated == os.fstat(stream.fileno()).st_size
    except OSError:
        return False
