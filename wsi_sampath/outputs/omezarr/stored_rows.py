"""What a growing zarr holds on disk, as one digest: tells whether chunks were lost or torn."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import xxhash

from wsi_sampath.outputs.omezarr.bands import CHUNK
from wsi_sampath.outputs.omezarr.images import ImageSpec, PyramidSpec


@dataclass(frozen=True)
class StoredRows:
    """A digest of all chunks of the first `rows` rows, made in one pass as they are written.

    Attributes
    ----------
    rows
        Of level 0; a whole number of chunks.
    digest
        Hexadecimal.
    """

    rows: int = 0
    digest: str = ""

    def upto(self, rows: int, path: Path, spec: PyramidSpec) -> StoredRows:
        """Go on to `rows` rows, reading the chunks that are new since.

        Parameters
        ----------
        rows
            Of level 0 that are on disk as whole chunks.
        path, spec
            The zarr, and what it holds.
        """
        digest, done = self.digest, self.rows
        while done + CHUNK <= rows:
            done += CHUNK
            for level in range(len(spec.shapes)):
                row = (done >> level) // CHUNK - 1
                if row >= 0 and (done - CHUNK >> level) // CHUNK == row:
                    for image in spec.images:
                        for folder in _folders(path, image, level, row, spec.zarr_format):
                            digest = _extended(digest, folder)
        return StoredRows(done, digest)


def forget_rows(path: Path, spec: PyramidSpec, first: int) -> None:
    """Remove the chunks of all rows from `first` on, of every level that shows any of them.

    Parameters
    ----------
    path, spec
        The zarr, and what it holds.
    first
        Of level 0; a whole number of chunks.
    """
    for level, (height, _) in enumerate(spec.shapes):
        for row in range((first >> level) // CHUNK, -(-height // CHUNK)):
            for image in spec.images:
                for folder in _folders(path, image, level, row, spec.zarr_format):
                    shutil.rmtree(folder, ignore_errors=True)


def _folders(
    path: Path, image: ImageSpec, level: int, row: int, zarr_format: int
) -> Iterator[Path]:
    array = path / image.array(level) / ("c" if zarr_format == 3 else "")
    if not image.channels:
        yield array / str(row)
    for channel in range(len(image.channels)):
        yield array / str(channel) / str(row)


def _extended(digest: str, folder: Path) -> str:
    total = xxhash.xxh3_64(digest.encode())
    for file in sorted(folder.glob("*")):
        if not file.name.endswith(".partial"):
            data = file.read_bytes()
            total.update(f"{file.name} {len(data)}\n".encode() + data)
    return total.hexdigest()
