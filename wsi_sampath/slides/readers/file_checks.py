"""What a file claims, checked against what it holds before anything relies on it.

One flipped bit turns a small slide into one of gigapixels. All sizes are checked here: against the
number of listed tiles, their byte counts, and some of their bytes.
"""

from __future__ import annotations

import stat
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from wsi_sampath.errors import WsiError
from wsi_sampath.slides.readers.base import RefusedError
from wsi_sampath.slides.readers.tiff_codec import jpeg2000_size, jpeg_size
from wsi_sampath.slides.readers.tiff_header import (
    BITS,
    COMPRESSION,
    HEIGHT,
    PHOTOMETRIC,
    PLANAR,
    ROWS_PER_STRIP,
    SAMPLES,
    STRIP_COUNTS,
    STRIP_OFFSETS,
    TILE_COUNTS,
    TILE_HEIGHT,
    TILE_OFFSETS,
    TILE_WIDTH,
    WIDTH,
    Directory,
    Header,
    read_header,
)
from wsi_sampath.slides.remote.place import RemotePath

_KINDS = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFDIR: "a folder",
}
_STRUCTURE: tuple[int, ...] = (WIDTH, HEIGHT, BITS, SAMPLES, STRIP_OFFSETS, STRIP_COUNTS)
_STRUCTURE += (TILE_WIDTH, TILE_HEIGHT, TILE_OFFSETS, TILE_COUNTS)
_LISTS = (STRIP_OFFSETS, STRIP_COUNTS, TILE_OFFSETS, TILE_COUNTS)
_SINGLE = (WIDTH, HEIGHT, COMPRESSION, SAMPLES, ROWS_PER_STRIP, PLANAR, TILE_WIDTH, TILE_HEIGHT)
_NONE, _LZW, _JPEG, _DEFLATE, _PACKBITS = (1,), (5,), (7,), (8, 32946), (32773,)
_ZSTD = (50000, 34926)
_JPEG2000 = (33003, 33004, 33005, 34712)
# Bytes out per byte in: exact bounds for LZW, deflate and PackBits; JPEG needs half a byte per
# block of 64 bytes, less when subsampled; others that claim more than this do not hold pictures.
_RATIOS = {_NONE: 1, _LZW: 2000, _DEFLATE: 1040, _PACKBITS: 64, _JPEG: 1500}
_DECODERS = {
    _LZW: imagecodecs.lzw_decode,
    _PACKBITS: imagecodecs.packbits_decode,
    _ZSTD: imagecodecs.zstd_decode,
}
_OTHER_RATIO = 100_000
# Below this, even a small file may claim it: empty tiles cost nothing.
_SLACK_BYTES = 4 << 20
_MOST_SAMPLES = 64
_YCBCR = 6
_SAMPLED = 3
_SAMPLED_BYTES = 512 << 20
_STEP = 1 << 20
# (Compression, PhotometricInterpretation) of plain grey and RGB: where zeros are black pixels.
_ZERO_IS_BLACK = ((1, 1), (1, 2))
_MOST_LOOKS, _LOOK_BYTES, _LEAST_EMPTY = 1000, 192, 0.005
_REMOTE_LOOKS = 30
_HEAD_BYTES = 1 << 16


class FalseClaimError(RefusedError):
    """A header that claims more than the file holds."""

    def __init__(self, message: str) -> None:
        super().__init__(f"{message}; copy it again from where it came")


def check_regular(path: Path) -> None:
    """Refuse anything but a plain, non-empty file, without opening it.

    Raises
    ------
    WsiError
        ``unreadable`` for a missing or empty file, a folder, pipe, socket or device.
    """
    try:
        found = path.stat()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        missing = isinstance(error, FileNotFoundError)
        message = "there is no such file" if missing else f"it cannot be read: {reason}"
        raise WsiError("unreadable", message, subject=str(path)) from None
    kind = stat.S_IFMT(found.st_mode)
    if kind != stat.S_IFREG:
        message = f"this is {_KINDS.get(kind, 'not a plain file')}, not a slide file"
        raise WsiError("unreadable", message, subject=str(path))
    if found.st_size == 0:
        raise WsiError("unreadable", "the file is empty; copy it again", subject=str(path))


def check_header(path: Path) -> None:
    """Refuse a TIFF whose directories cannot be walked safely: for readers that believe them.

    Raises
    ------
    FalseClaimError
        Where a tag claims more values than the file has bytes, or a size is absurd.
    """
    header = _header(path)
    if header is None:
        return
    for directory in header.directories:
        _check_sound(directory)
        for tag in _STRUCTURE:
            entry = directory.entries.get(tag)
            if entry is not None and entry.size > header.file_size:
                raise FalseClaimError(
                    f"its header claims {entry.count} values of tag {tag}, more than the file holds"
                )


def _check_sound(directory: Directory) -> None:
    """Refuse an image without the tags that every image has: readers would take a smaller one."""
    for tag in _SINGLE:
        entry = directory.entries.get(tag)
        if entry is not None and entry.count != 1:
            raise FalseClaimError(
                f"its header has {entry.count} values of tag {tag}: it is damaged"
            )
    lists = [tag for tag in _LISTS if tag in directory.entries]
    for tag in lists:
        # Readers that convert such values believe the size, which nothing can be held against.
        if not directory.entries[tag].is_whole:
            raise FalseClaimError(
                f"its header lists its parts (tag {tag}) by values of type "
                f"{directory.entries[tag].kind}, not by whole numbers: it is damaged"
            )
    width, height = directory.size
    is_image = bool(lists) or min(width, height) > 0
    if is_image and (len(lists) != 2 or 0 in (*directory.size, *directory.segment)):
        raise FalseClaimError(
            f"an image of {width} x {height} px in its header lacks its size or its parts: the "
            "header is damaged"
        )


def check_claims(path: Path, level_sizes: Sequence[tuple[int, int]]) -> None:
    """Check the sizes of the levels that a reader found against the file.

    Parameters
    ----------
    path
        The file.
    level_sizes
        (width, height) per level. Sizes that no directory of the file has come from the reader
        itself (it knows formats with other rules) and are not judged.

    Raises
    ------
    FalseClaimError
        Where the file cannot hold an image of such a size.
    """
    header = _header(path)
    if header is None:
        return
    for directory in _levels(header, level_sizes):
        _check_listed(directory, header)
        offsets, counts = _segments(directory, header)
        _check_bytes(directory, header, counts)
        _check_sample(directory, header, offsets, counts)


def missing_data(path: Path, level_sizes: Sequence[tuple[int, int]]) -> tuple[str, ...]:
    """Return, per level, what lies beyond the end of the file or was never written into it."""
    claims = [
        f"the file ends before its data: {int(lost.grid.sum())} of {lost.grid.size} parts of "
        f"level {level} are missing; is it fully copied?"
        for level, lost in lost_parts(path, level_sizes).items()
    ]
    header = _header(path)
    if header is not None:
        claims += _zeros(header, level_sizes)
    if header is not None and header.cut_off:
        claims.append("the file ends before its list of images does; is it fully copied?")
    return tuple(claims)


def _zeros(header: Header, level_sizes: Sequence[tuple[int, int]]) -> Iterator[str]:
    """Find uncompressed levels with stretches of zeros, which decode as black without an error."""
    for directory in _levels(header, level_sizes):
        stored = directory.value(COMPRESSION, 1), directory.value(PHOTOMETRIC, 0)
        if stored not in _ZERO_IS_BLACK or directory.value(SAMPLES, 1) not in (1, 3):
            continue
        # On a server each is a request.
        most = _REMOTE_LOOKS if isinstance(header.path, RemotePath) else _MOST_LOOKS
        places = _places(directory, *_segments(directory, header), most)
        empty = [not any(header.bytes_at(int(place), _LOOK_BYTES)) for place in places]
        share = float(np.mean(empty)) if empty else 0.0
        if share >= _LEAST_EMPTY:
            yield (
                f"about {100 * share:.2g} % of level {list(level_sizes).index(directory.size)} "
                "holds only zeros and is read as black: padding, or an unfinished copy?"
            )


def _places(
    directory: Directory, offsets: NDArray[np.int64], counts: NDArray[np.int64], most: int
) -> NDArray[np.int64]:
    """Return offsets at which to sample a level, at most so many, spread over it."""
    offsets, counts = offsets[counts > 0], counts[counts > 0]
    if not len(offsets):
        return offsets
    # The start of a tile lies on the picture, its end may be padding; strips have none.
    looks = 1 if directory.is_tiled else max(1, most // len(offsets))
    into = np.arange(looks)[:, None] * np.maximum(counts - _LOOK_BYTES, 0) // looks
    places: NDArray[np.int64] = (offsets + into).ravel()
    chosen = np.linspace(0, len(places) - 1, min(most, len(places))).astype(int)
    return np.take(places, chosen)


@dataclass(frozen=True, eq=False)
class LostParts:
    """Tiles or strips of one level that lie, wholly or in part, beyond the end of the file.

    Attributes
    ----------
    grid
        bool (rows, columns) of segments.
    segment
        (width, height) of a segment in pixels.
    """

    grid: NDArray[np.bool_]
    segment: tuple[int, int]

    def touch(self, box: tuple[int, int, int, int]) -> bool:
        """Return whether a box (x, y, width, height) of the level needs any of them."""
        (x, y, width, height), (across, down) = box, self.segment
        rows = slice(y // down, -(-(y + height) // down))
        columns = slice(x // across, -(-(x + width) // across))
        return bool(self.grid[rows, columns].any())


def lost_parts(path: Path, level_sizes: Sequence[tuple[int, int]]) -> dict[int, LostParts]:
    """Find what lies beyond the end of the file, by level; levels that are whole are left out."""
    header = _header(path)
    lost: dict[int, LostParts] = {}
    for directory in () if header is None else _levels(header, level_sizes):
        assert header is not None
        offsets, counts = _segments(directory, header)
        beyond = (counts > 0) & (offsets + counts > header.file_size)
        columns, rows = directory.grid
        if beyond.any() and len(beyond) >= rows * columns * directory.planes:
            planes = beyond[: rows * columns * directory.planes].reshape(-1, rows, columns)
            level = list(level_sizes).index(directory.size)
            lost[level] = LostParts(np.asarray(planes.any(0)), directory.segment)
    return lost


def _header(path: Path) -> Header | None:
    try:
        return read_header(path) if path.is_file() else None
    except (OSError, ValueError):
        return None


def _levels(header: Header, level_sizes: Sequence[tuple[int, int]]) -> Iterator[Directory]:
    # Of several images of one size the first counts, as it does for readers.
    wanted = set(level_sizes)
    for directory in header.directories:
        if directory.size in wanted:
            wanted.remove(directory.size)
            yield directory


def _check_listed(directory: Directory, header: Header) -> None:
    width, height = directory.size
    across, down = directory.segment
    name = "tiles" if directory.is_tiled else "strips"
    entry = directory.entries.get(TILE_OFFSETS if directory.is_tiled else STRIP_OFFSETS)
    if min(across, down) < 1 or not 1 <= directory.value(SAMPLES, 1) <= _MOST_SAMPLES:
        raise FalseClaimError(f"its header has {name} of {across} x {down} px: it is damaged")
    needed, listed = directory.segments, 0 if entry is None else entry.count
    if listed < needed or (listed >= 2 * needed and directory.is_flat):
        raise FalseClaimError(
            f"its header says {width} x {height} px, which makes {needed} {name} of "
            f"{across} x {down}, but it lists {listed}: it is damaged"
        )
    if entry is not None and entry.position + entry.size > header.file_size:
        raise FalseClaimError(f"its list of {name} lies beyond the end of the file")


def _segments(directory: Directory, header: Header) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    tags = (TILE_OFFSETS, TILE_COUNTS) if directory.is_tiled else (STRIP_OFFSETS, STRIP_COUNTS)
    offsets, counts = (header.array(directory.entries.get(tag)) for tag in tags)
    n = min(len(offsets), len(counts))
    return offsets[:n], counts[:n]


def _check_bytes(directory: Directory, header: Header, counts: NDArray[np.int64]) -> None:
    present = counts[counts > 0]
    coding = directory.value(COMPRESSION, 1)
    if not len(present) or (coding in _NONE and directory.value(PHOTOMETRIC, 2) == _YCBCR):
        return  # All empty; or sub-sampled in a way of its own.
    ratio = next((limit for codes, limit in _RATIOS.items() if coding in codes), _OTHER_RATIO)
    typical = min(int(present.max()), header.file_size)
    slack = 0 if coding in _NONE else _SLACK_BYTES
    if directory.segment_bytes > typical * ratio + slack:
        width, height = directory.size
        raise FalseClaimError(
            f"its header says {width} x {height} px in parts of {directory.segment[0]} x "
            f"{directory.segment[1]}, but {typical} bytes cannot hold such a part: it is damaged"
        )


def _check_sample(
    directory: Directory, header: Header, offsets: NDArray[np.int64], counts: NDArray[np.int64]
) -> None:
    """Decode a few tiles or strips: if all have another size, the header is wrong."""
    if not directory.is_tiled and len(counts) > 1:
        offsets, counts = offsets[:-1], counts[:-1]
    inside = np.flatnonzero((counts > 0) & (offsets + counts <= header.file_size))
    if not len(inside):
        return
    chosen = inside[np.linspace(0, len(inside) - 1, _SAMPLED).astype(int)]
    verdicts = [
        _fits(directory, header, int(offsets[index]), int(counts[index])) for index in set(chosen)
    ]
    known = [verdict for verdict in verdicts if verdict is not None]
    if known and not any(known):
        raise FalseClaimError(
            f"its parts are not of {directory.segment[0]} x {directory.segment[1]} px, as its "
            "header says: it is damaged"
        )


def _fits(directory: Directory, header: Header, offset: int, count: int) -> bool | None:
    """Return whether a segment is as large as the header says; None where that is unknown."""
    coding = directory.value(COMPRESSION, 1)
    across, down = directory.segment
    if coding in _JPEG or coding in _JPEG2000:
        head = header.bytes_at(offset, min(count, _HEAD_BYTES))
        size = jpeg_size(head) if coding in _JPEG else jpeg2000_size(head)
        return None if size is None or 0 in size else size == (down, across)
    if directory.segment_bytes > _SAMPLED_BYTES:
        return None
    length = _decoded_length(coding, header.bytes_at(offset, count), directory.segment_bytes)
    return None if length is None else length == directory.segment_bytes


def _decoded_length(coding: int, data: bytes, expected: int) -> int | None:
    """Count the bytes that a segment holds, no further than one more than expected."""
    if coding in _DEFLATE:
        return _inflated_length(data, expected)
    decode = next((decode for codes, decode in _DECODERS.items() if coding in codes), None)
    if decode is None:
        return None
    try:
        return len(decode(data, out=expected + 1))
    except (RuntimeError, ValueError):
        return None


def _inflated_length(data: bytes, expected: int) -> int | None:
    inflater, length = zlib.decompressobj(), 0
    try:
        while length <= expected and not inflater.eof:
            part = inflater.decompress(data, min(_STEP, expected + 1 - length))
            data, length = inflater.unconsumed_tail, length + len(part)
            if not part and not data:
                return None  # Cut short: damage that another check reports.
    except zlib.error:
        return None
    return length
