"""OME-Zarr written while the slide streams: every chunk once, all levels in one pass.

Rows arrive from the top and go through the bands of every level (see ``bands.py``).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numcodecs
import zarr
from zarr.codecs import BloscCodec

from wsi_sampath.outputs.omezarr.bands import CHUNK, BandWriter
from wsi_sampath.outputs.omezarr.downsample import Unsigned, halve_mean, halve_mode
from wsi_sampath.outputs.omezarr.images import ImageSpec, PyramidSpec
from wsi_sampath.outputs.omezarr.ngff import (
    group_attributes,
    image_label,
    multiscales,
    ome_xml,
    omero,
)
from wsi_sampath.outputs.omezarr.stored_chunks import count_chunks
from wsi_sampath.outputs.omezarr.stored_rows import StoredRows, forget_rows

_HALVE = {"mean": halve_mean, "mode": halve_mode}


class PyramidWriter:
    """The zarr of one slide: a root image, label planes, metadata.

    Parameters
    ----------
    path
        Folder to create, which must not exist; or to go on with.
    spec
        What is written.
    resume_at
        None for a new zarr. Else an earlier writer of the same `spec` left this one when `flushed`
        said so many rows; all of them are kept, and what came after is to be appended again: it is
        removed.
    """

    def __init__(self, path: Path, spec: PyramidSpec, *, resume_at: int | None = None) -> None:
        self.path, self.spec = path, spec
        self._stored = StoredRows().upto(resume_at or 0, path, spec)
        self._root = _create(path, spec) if resume_at is None else _reopen(path, spec, resume_at)
        self._bands = {image.path: self._open_bands(image) for image in spec.images}
        if resume_at is not None:
            for bands in self._bands.values():
                bands.restore(resume_at)

    @property
    def flushed(self) -> int:
        """Rows of level 0 that are on disk as whole chunks, in every image."""
        return min(bands.y for bands in self._bands.values()) // CHUNK * CHUNK

    def stored_digest(self) -> str:
        """Return a digest of all chunks of the rows that are flushed; see `StoredRows`."""
        self._stored = self._stored.upto(self.flushed, self.path, self.spec)
        return self._stored.digest

    def append(self, image: str, y: int, rows: Unsigned) -> None:
        """Take rows of an image from `y` on; rows left out since the last call stay 0.

        Parameters
        ----------
        image
            Path of one of ``spec.images``.
        y
            First row.
        rows
            (n, width), or (channels, n, width), of the image's dtype.
        """
        bands = self._bands[image]
        bands.skip_to(y)
        bands.append(rows)

    def finish(self, attributes: dict[str, Any]) -> dict[str, Any]:
        """Write what is still held, then the ``wsi_sampath`` attribute; return it as written."""
        for bands in self._bands.values():
            bands.finish()
        images = list(self._bands)
        complete = {**attributes, "images": images, "chunks": count_chunks(self.path, images)}
        self._root.attrs["wsi_sampath"] = complete
        return complete

    def _open_bands(self, image: ImageSpec) -> BandWriter:
        # Emptiness is looked after in `bands`; zarr's own check costs as much as the codec.
        arrays = [
            self._root[image.array(level)].with_config({"write_empty_chunks": True})
            for level in range(len(self.spec.shapes))
        ]
        return BandWriter(arrays, _HALVE[image.halving])


def stored_rows(path: Path, spec: PyramidSpec, rows: int) -> StoredRows:
    """Read what a zarr holds of its first `rows` rows."""
    return StoredRows().upto(rows, path, spec)


def _create(path: Path, spec: PyramidSpec) -> Any:
    root: Any = zarr.open_group(str(path), mode="w-", zarr_format=spec.zarr_format)
    _write_metadata(root, spec)
    _write_ome_xml(path, spec)
    for image in spec.images:
        for level, shape in enumerate(spec.shapes):
            _create_array(root, image, level, shape, spec.zarr_format)
    return root


def _reopen(path: Path, spec: PyramidSpec, resume_at: int) -> Any:
    # A killed process may leave a chunk under its temporary name.
    for stray in path.rglob("*.partial"):
        stray.unlink()
    # Where a tile fails this time, its chunk is not written again.
    forget_rows(path, spec, resume_at)
    return zarr.open_group(str(path), mode="r+")


def _write_metadata(root: Any, spec: PyramidSpec) -> None:
    def attributes(image: ImageSpec, name: str, extra: dict[str, Any]) -> dict[str, Any]:
        scales = multiscales(
            name,
            spec.scale,
            len(spec.shapes),
            channels=bool(image.channels),
            downsampling=image.halving,
        )
        return group_attributes({"multiscales": scales, **extra}, spec.zarr_format)

    channels = spec.root.channels
    hints = {"omero": omero(spec.name, channels)} if channels else {}
    root.attrs.update(attributes(spec.root, spec.name, hints))
    if not spec.labels:
        return
    names = {"labels": [image.label for image in spec.labels]}
    group = root.create_group("labels")
    group.attrs.update(group_attributes(names, spec.zarr_format))
    for image in spec.labels:
        extra = {"image-label": image_label(image.values)}
        group.create_group(image.label).attrs.update(attributes(image, str(image.label), extra))


def _write_ome_xml(path: Path, spec: PyramidSpec) -> None:
    # A root image without channels shows the first label plane once more.
    planes = [str(image.label) for image in spec.labels[:1]]
    names = [one.name for one in spec.root.channels] or planes or ["image"]
    text = ome_xml(
        spec.name,
        spec.scale,
        width=spec.width,
        height=spec.height,
        channels=names,
        dtype=spec.root.dtype,
    )
    (path / "OME").mkdir()
    (path / "OME" / "METADATA.ome.xml").write_text(text, encoding="utf-8")


def _create_array(
    root: Any, image: ImageSpec, level: int, shape: tuple[int, int], zarr_format: int
) -> None:
    """Create an array with the codec that all of QuPath, napari and vizarr can read."""
    lead = (len(image.channels),) if image.channels else ()
    formatted: dict[str, Any] = {
        2: {
            "compressors": numcodecs.Blosc("zstd", 1, numcodecs.Blosc.BITSHUFFLE),
            "chunk_key_encoding": {"name": "v2", "separator": "/"},
        },
        3: {
            "compressors": BloscCodec(cname="zstd", clevel=1, shuffle="bitshuffle"),
            "dimension_names": ("c", "y", "x")[-2 - len(lead) :],
        },
    }[zarr_format]
    root.create_array(
        image.array(level),
        shape=(*lead, *shape),
        dtype=image.dtype,
        chunks=(1,) * len(lead) + (CHUNK, CHUNK),
        fill_value=0,
        **formatted,
    )
