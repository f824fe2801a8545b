"""A table of nuclei as GeoParquet, written while they are found.

A parquet file can't be appended to after a kill: all that is known of its row groups stands at its
end. So rows go to a growing file first, a chain of whole Arrow streams that may be cut back to any
known point, and become parquet in one pass at the end.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import shapely

from wsi_sampath.errors import WsiError
from wsi_sampath.files import replacing
from wsi_sampath.outputs.growing import GrowingFile, disk_full_named
from wsi_sampath.outputs.nuclei.columns import (
    MEASURED,
    TableInfo,
    as_table,
    grown_batch,
    grown_schema,
    metadata,
    table_schema,
)
from wsi_sampath.outputs.nuclei.placed import PlacedNuclei

SUFFIX = ".nuclei.parquet"
ROW_GROUP = 16_384
_ZSTD_LEVEL = 1


class NucleusTableWriter:
    """Write nuclei to GeoParquet 1.1, as they come.

    Rows go to a growing file, which becomes PATH when the writer is closed. If the `with` block
    ends by an exception it stays, for a later writer to go on with, and PATH is left as it was. The
    same nuclei in the same order give the same bytes, with or without a stop in between, and
    however they are gathered into calls.

    Parameters
    ----------
    path
        Where the complete table goes.
    info
        What the table says of itself.
    growing
        Where rows go until then; the caller removes it. None is PATH.partial, which is gone once
        PATH is there.
    resume
        What `state` said when an earlier writer stopped; its file is cut back to that point.

    Attributes
    ----------
    count
        Nuclei written so far.

    Raises
    ------
    WsiError
        ``bad-input`` for a label without a class; ``disk-full``.
    """

    def __init__(
        self,
        path: Path,
        *,
        info: TableInfo,
        growing: Path | None = None,
        resume: Mapping[str, Any] | None = None,
    ) -> None:
        self._path = path
        self._info = info
        self._is_own = growing is None
        self._growing = growing or path.with_name(path.name + ".partial")
        self.count = 0 if resume is None else int(resume["count"])
        self._box: list[float] | None = None if resume is None else resume["box"]
        with self._disk_full_named():
            self._file = GrowingFile(self._growing, resume)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.close()
        else:
            self._file.abandon()

    def state(self) -> dict[str, Any]:
        """Make what was written so far durable, and say how to go on from here."""
        with self._disk_full_named():
            grown = self._file.state()
        return {**grown, "count": self.count, "box": self._box}

    def write(self, placed: PlacedNuclei) -> None:
        """Write nuclei, one row each."""
        if len(placed) == 0:
            return
        most = len(self._info.classes)
        if not 1 <= placed.found.label.min() <= placed.found.label.max() <= most:
            message = f"label {placed.found.label.max()} has no class among the {most}"
            raise WsiError("bad-input", message, subject=str(self._path))
        content = pa.BufferOutputStream()
        options = pa.ipc.IpcWriteOptions(compression="lz4")
        with pa.ipc.new_stream(content, grown_schema(), options=options) as stream:
            for start in range(0, len(placed), ROW_GROUP):
                rows = slice(start, start + ROW_GROUP)
                stream.write_batch(grown_batch(placed, rows, self._info.mpp))
        with self._disk_full_named():
            self._file.append(content.getvalue())
        self.count += len(placed)
        self._box = _united(self._box, shapely.total_bounds(placed.shapes).tolist())

    def close(self) -> None:
        """Complete the table and put it in its place. Closing twice does nothing."""
        if self._file.is_closed:
            return
        with self._disk_full_named():
            length = self._file.close()
            with replacing(self._path, durable=True) as growing:
                self._write_parquet(growing, length)
        if self._is_own:
            self._growing.unlink()

    def _write_parquet(self, target: Path, length: int) -> None:
        schema = table_schema().with_metadata(metadata(self._info, self.count, self._box))
        with pq.ParquetWriter(
            target,
            schema,
            compression="zstd",
            compression_level=_ZSTD_LEVEL,
            use_dictionary=["class"],
            use_byte_stream_split=list(MEASURED),
            write_page_checksum=True,
        ) as parquet:
            for rows in _row_groups(_grown_batches(self._growing, length)):
                # in one piece: where rows are cut shows in the pages
                table = as_table(rows.combine_chunks(), self._info.classes)
                parquet.write_table(table.replace_schema_metadata(schema.metadata), ROW_GROUP)

    def _disk_full_named(self) -> AbstractContextManager[None]:
        return disk_full_named("the table of nuclei", self._path)


def _grown_batches(path: Path, length: int) -> Iterator[pa.RecordBatch]:
    """Read a chain of Arrow streams, batch after batch."""
    with path.open("rb") as file:
        while file.tell() < length:
            yield from pa.ipc.open_stream(file)


def _row_groups(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.Table]:
    """Gather batches to tables of `ROW_GROUP` rows, the last one of what is left."""
    waiting = grown_schema().empty_table()
    for batch in batches:
        waiting = pa.concat_tables([waiting, pa.Table.from_batches([batch])])
        while len(waiting) >= ROW_GROUP:
            yield waiting.slice(0, ROW_GROUP)
            waiting = waiting.slice(ROW_GROUP)
    if len(waiting):
        yield waiting


def _united(box: list[float] | None, other: list[float]) -> list[float]:
    if box is None:
        return other
    low, high = np.minimum(box, other), np.maximum(box, other)
    return [*low[:2].tolist(), *high[2:].tolist()]
