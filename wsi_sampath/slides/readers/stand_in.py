"""A local file that stands in for a slide on a server, before what reads local files alone.

It is as long as the slide, and has its header and some of its tiles in their places; the rest is
zeros, which take no room on most disks.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from wsi_sampath.slides.readers.tiff_header import read_header
from wsi_sampath.slides.readers.tiff_pages import TiledPage
from wsi_sampath.slides.remote.place import RemotePath, opened_file

Spans = list[tuple[int, int]]


def spans_of(page: TiledPage, indices: Iterable[int]) -> Spans:
    """Return (offset, count) of the bytes of some tiles of a level, in all planes."""
    return [
        (int(plane.offsets[index]), int(plane.counts[index]))
        for index in indices
        for plane in page.planes
        if 0 < plane.counts[index] <= page.most_bytes
    ]


@contextmanager
def as_local(path: Path, needed: Callable[[], Spans]) -> Iterator[Path]:
    """Yield a local file with the header of a TIFF and some bytes of it: itself, if it is local.

    Parameters
    ----------
    path
        The TIFF.
    needed
        Returns the (offset, count) spans that must be there besides the header.

    Raises
    ------
    WsiError
        Where these cannot be fetched.
    """
    if not isinstance(path, RemotePath):
        yield path
        return
    file = opened_file(path)
    header = read_header(path)
    directories = () if header is None else header.directories
    entries = [entry for one in directories for entry in one.entries.values()]
    # What was read last is held: the directories, their values, the tiles.
    file.expect([*((entry.position, entry.size) for entry in entries), *needed()])
    with tempfile.NamedTemporaryFile(prefix="wsi-sampath-", suffix=path.suffix) as local:
        local.truncate(file.size)
        for offset, data in file.held():
            local.seek(offset)
            local.write(data)
        local.flush()
        yield Path(local.name)
