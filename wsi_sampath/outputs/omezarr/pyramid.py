"""OME-Zarr written while the slide streams: every chunk once, all levels in one pass.

Rows arrive from the top and go through the bands of every level (see ``bands.py``).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numcodecs
import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import BloscCodec

from wsi_sampath.outputs.attributes import read_attributes
from wsi_sampath.outputs.omezarr.bands import CHUNK, BandWriter
from wsi_sampath.outputs.omezarr.downsample import halve_mean, halve_mode, pyramid_shapes
from wsi_sampath.outputs.omezarr.ngff import (
    PlaneScale,
    group_attributes,
    image_label,
    multiscales,
    ome_xml,
    omero,
)
from wsi_sampath.outputs.omezarr.stored_chunks import count_chunks
from wsi_sampath.outputs.omezarr.stored_rows import StoredRows

__all__ = ["PyramidSpec", "PyramidWriter", "create_array", "read_attributes", "stored_rows"]


@dataclass(frozen=True)
class PyramidSpec:
    """What is written, and how large it is.

    Attributes
    ----------
    name
        Name of the image, the slide's.
    height, width
        Of level 0, in pixels.
    scale
        Its physical size.
    classes
        (name, "#rrggbb") of the values 1..k.
    zarr_format
        2 (NGFF 0.4) or 3 (NGFF 0.5).
    probabilities
        Whether the root image holds the class probabilities; else it is the class map itself.
    """

    name: str
    height: int
    width: int
    scale: PlaneScale
    classes: tuple[tuple[str, str], ...]
    zarr_format: int = 2
    probabilities: bool = True


class PyramidWriter:
    """The zarr of one slide: probabilities, class map, metadata.

    Parameters
    ----------
    path
        Folder to create; must not exist.
    spec
        What is written.
    """

    def __init__(self, path: Path, spec: PyramidSpec) -> None:
        self.path, self.spec = path, spec
        self._stored = StoredRows()
        self._root = zarr.open_group(str(path), mode="w-", zarr_format=_format(spec))
        shapes = pyramid_shapes(spec.height, spec.width, stop=CHUNK)
        channels = len(spec.classes) if spec.probabilities else 0
        self._write_metadata(len(shapes))
        self._create_arrays("labels/classes/", shapes, channels=0)
        self._create_arrays("", shapes, channels=channels)
        self._attach(len(shapes))

    @classmethod
    def reopen(cls, path: Path, spec: PyramidSpec, y: int) -> Self:
        """Go on with a zarr that was left after `y` rows.

        Parameters
        ----------
        path, spec
            As it was created.
        y
            Rows that are on disk as whole chunks: what `flushed` said.
        """
        writer = cls.__new__(cls)
        writer.path, writer.spec = path, spec
        writer._stored = stored_rows(path, spec, y)
        # A killed process may leave a chunk under its temporary name.
        for stray in path.rglob("*.partial"):
            stray.unlink()
        writer._root = zarr.open_group(str(path), mode="r+")
        writer._attach(len(pyramid_shapes(spec.height, spec.width, stop=CHUNK)))
        for bands, _ in writer._writers:
            bands.restore(y)
        return writer

    def _attach(self, n_levels: int) -> None:
        labels = [[self._array(f"labels/classes/{level}")] for level in range(n_levels)]
        image = [[self._array(str(level))] for level in range(n_levels)]
        if self.spec.probabilities:
            self._writers = [
                (BandWriter(labels, halve_mode), "labels"),
                (BandWriter(image, halve_mean), "probabilities"),
            ]
        else:
            both = [one + other for one, other in zip(labels, image, strict=True)]
            self._writers = [(BandWriter(both, halve_mode), "labels")]

    def _array(self, name: str) -> Any:
        # Emptiness is looked after in `_full_chunks`; zarr's own check costs as much as the codec.
        return self._root[name].with_config({"write_empty_chunks": True})

    @property
    def flushed(self) -> int:
        """Rows of level 0 that are on disk as whole chunks."""
        return self._writers[0][0].y // CHUNK * CHUNK

    def stored_digest(self) -> str:
        """Return a digest of all chunks of the rows that are flushed; see `stored_rows`."""
        self._stored = stored_rows(self.path, self.spec, self.flushed, self._stored)
        return self._stored.digest

    def append(self, y: int, labels: NDArray[np.uint8], probabilities: NDArray[np.uint8]) -> None:
        """Take rows from `y` on; rows left out since the last call stay 0.

        Parameters
        ----------
        y
            First row.
        labels
            uint8 (n, width).
        probabilities
            uint8 (classes, n, width).
        """
        values = {"labels": labels, "probabilities": probabilities}
        for writer, kind in self._writers:
            rows = values[kind]
            while writer.y < y:
                missing = min(CHUNK, y - writer.y)
                writer.append(np.zeros((*rows.shape[:-2], missing, rows.shape[-1]), np.uint8))
            writer.append(rows)

    def finish(self, attributes: dict[str, Any]) -> dict[str, Any]:
        """Write what is still held, then the ``wsi_sampath`` attribute; return it as written."""
        for writer, _ in self._writers:
            writer.finish()
        complete = {**attributes, "chunks": count_chunks(self.path)}
        self._root.attrs["wsi_sampath"] = complete
        return complete

    def _create_arrays(self, prefix: str, shapes: list[tuple[int, int]], channels: int) -> None:
        lead = (channels,) if channels else ()
        chunks = (1,) * len(lead) + (CHUNK, CHUNK)
        axes = ("c", "y", "x") if channels else ("y", "x")
        for level, shape in enumerate(shapes):
            name = f"{prefix}{level}"
            create_array(self._root, name, (*lead, *shape), chunks, axes, self.spec.zarr_format)

    def _write_metadata(self, n_levels: int) -> None:
        spec = self.spec
        image = {
            "multiscales": multiscales(
                spec.name,
                spec.scale,
                n_levels,
                channels=spec.probabilities,
                downsampling="mean" if spec.probabilities else "mode",
            )
        }
        label = {
            "multiscales": multiscales(
                "classes", spec.scale, n_levels, channels=False, downsampling="mode"
            ),
            "image-label": image_label(spec.classes),
        }
        if spec.probabilities:
            image["omero"] = omero(spec.name, spec.classes)  # type: ignore[assignment]
        version = spec.zarr_format
        self._root.attrs.update(group_attributes(image, version))
        labels = self._root.create_group("labels")
        labels.attrs.update(group_attributes({"labels": ["classes"]}, version))
        labels.create_group("classes").attrs.update(group_attributes(label, version))
        self._write_ome_xml()

    def _write_ome_xml(self) -> None:
        spec = self.spec
        names = [name for name, _ in spec.classes] if spec.probabilities else ["classes"]
        text = ome_xml(spec.name, spec.scale, width=spec.width, height=spec.height, channels=names)
        folder = self.path / "OME"
        folder.mkdir()
        (folder / "METADATA.ome.xml").write_text(text, encoding="utf-8")


def stored_rows(
    path: Path, spec: PyramidSpec, rows: int, known: StoredRows | None = None
) -> StoredRows:
    """Read what a zarr holds of its first `rows` rows; `known` is what was read before."""
    return (known or StoredRows()).upto(
        rows,
        path,
        n_levels=len(pyramid_shapes(spec.height, spec.width, stop=CHUNK)),
        channels=len(spec.classes) if spec.probabilities else 0,
        zarr_format=spec.zarr_format,
    )


def _format(spec: PyramidSpec) -> Any:
    return spec.zarr_format


def create_array(
    root: Any,
    name: str,
    shape: tuple[int, ...],
    chunks: tuple[int, ...],
    axes: tuple[str, ...],
    zarr_format: int,
) -> Any:
    """Create a uint8 array with the codec that all of QuPath, napari and vizarr can read."""
    if zarr_format == 2:
        return root.create_array(
            name,
            shape=shape,
            dtype="uint8",
            chunks=chunks,
            compressors=numcodecs.Blosc("zstd", 1, numcodecs.Blosc.BITSHUFFLE),
            chunk_key_encoding={"name": "v2", "separator": "/"},
            fill_value=0,
        )
    return root.create_array(
        name,
        shape=shape,
        dtype="uint8",
        chunks=chunks,
        compressors=BloscCodec(cname="zstd", clevel=1, shuffle="bitshuffle"),
        dimension_names=axes,
        fill_value=0,
    )
