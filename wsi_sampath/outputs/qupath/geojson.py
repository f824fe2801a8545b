"""Polygons to a GeoJSON file that QuPath opens, streamed to disk."""

from __future__ import annotations

import json
import math
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import shapely
from numpy.typing import NDArray

from wsi_sampath.classes import ClassSpec, check_class_names
from wsi_sampath.errors import WsiError
from wsi_sampath.outputs.growing import GrowingFile, disk_full_named
from wsi_sampath.outputs.qupath.packing import TAIL, check_suffix, head, pack, unpack
from wsi_sampath.outputs.qupath.slide_shapes import PlaneToSlide, Shapes, fill_small_holes

__all__ = ["GeoJSONWriter", "PlaneObject", "PlaneToSlide", "SlideObjects", "geometry_texts"]

AREA = "Area µm^2"
MANY_FEATURES, MANY_BYTES = 100_000, 150_000_000
# In a zip of small members the parser is no limit, only the number of objects is.
TOO_MANY_FEATURES = 1_000_000
_BATCH = 10_000


@dataclass(frozen=True)
class PlaneObject:
    """Something with an outline: a region, a nucleus.

    Attributes
    ----------
    label
        Its class, 1..k.
    polygon
        In plane pixels.
    values
        What was measured, one number for each of the writer's measurements; one that is not
        finite is left out, for JSON has none.
    key
        What names the object among all of its slide, so that its id does not depend on what else
        is written; None for an id by the order of writing.
    """

    label: int
    polygon: shapely.Polygon
    values: tuple[float, ...] = ()
    key: int | None = None


@dataclass(frozen=True)
class SlideObjects:
    """Many objects that lie on the slide already, as columns of one length, n.

    Attributes
    ----------
    labels
        (n,) integers, their classes, 1..k.
    shapes
        (n,) shapely polygons or multipolygons, valid, in level-0 pixels as `PlaneToSlide` has them,
        with 2 decimals.
    keys
        (n,) integers; what names each among all of its slide.
    areas_um2
        (n,) their areas.
    values
        (n, measurements) what else was measured.
    """

    labels: NDArray[np.integer[Any]]
    shapes: Shapes
    keys: NDArray[np.integer[Any]]
    areas_um2: NDArray[np.float64]
    values: NDArray[np.float64]


class GeoJSONWriter:
    """Write objects for QuPath, one feature each, as they come.

    Everything goes to PATH.partial, which becomes PATH when the writer is closed. If the `with`
    block ends by an exception the partial file stays, for a later writer to go on with, and PATH
    is left as it was. The same polygons written in the same order give the same bytes, with or
    without a stop in between.

    Parameters
    ----------
    path
        Ends in .geojson or .json, or with .gz after it, or in .geojson.zip: members of at most
        100,000 features.
    classes
        Name and colour of the labels 1..k.
    transform
        From plane to level-0 pixels.
    namespace
        Text from which the object ids are made; one for each slide and model.
    measurements
        Names of the objects' values. Their area is measured here and stands before them.
    object_type
        What QuPath makes of the objects.
    run
        Id of the run, kept in the file, by which it is known as ours later.
    growing
        Where to write until the writer is closed; None is PATH.partial.
    name
        What the file will be called, if it is to be moved once it is complete.
    resume
        What `state` said when an earlier writer stopped; its file is cut back to that point.
    min_area_um2
        Polygons smaller than this are left out and holes smaller than this are filled, so that
        a speck left out leaves no hole in the region around it. Where small polygons lie side
        by side, the hole that they fill together may be larger and then stays.

    Attributes
    ----------
    count
        Features written so far.
    areas_um2
        Class name to the area of the features written so far.

    Raises
    ------
    WsiError
        `bad-input` for a suffix, classes that QuPath would take for one, a transform, a label or
        a number of values that can't be written; `disk-full`.
    """

    def __init__(
        self,
        path: Path,
        *,
        classes: Sequence[ClassSpec],
        transform: PlaneToSlide,
        namespace: str,
        measurements: tuple[str, ...] = (),
        object_type: Literal["annotation", "detection"] = "annotation",
        min_area_um2: float = 0.0,
        run: str | None = None,
        growing: Path | None = None,
        name: str | None = None,
        resume: Mapping[str, Any] | None = None,
    ) -> None:
        check_suffix(path)
        _check_transform(transform)
        self._path = path
        self._partial = growing or path.with_name(path.name + ".partial")
        self._name = name or path.name
        self._run = run
        self._transform = transform
        self._namespace = uuid.uuid5(uuid.NAMESPACE_URL, namespace)
        self._min_area_um2 = min_area_um2
        self._names = [one.name for one in classes]
        _check_classes(self._names)
        self._noun = "polygons" if object_type == "annotation" else "detections"
        self._heads = [_properties_head(object_type, one) for one in classes]
        self._measured = [_member(name) for name in (AREA, *measurements)]
        self.count = 0
        self._bytes = 0
        self.areas_um2 = dict.fromkeys(self._names, 0.0)
        with self._disk_full_named():
            self._file = self._reopen(resume) if resume else self._begin()

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
        return {**grown, "count": self.count, "areas_um2": dict(self.areas_um2)}

    def write(self, objects: Iterable[PlaneObject]) -> None:
        """Write objects, one feature each (more if rounding splits one)."""
        remaining = iter(objects)
        while batch := list(islice(remaining, _BATCH)):
            self._write_batch(batch)

    def write_on_slide(self, objects: SlideObjects) -> None:
        """Write objects, one feature each; those below the least area are left out.

        Their holes stay as they are.
        """
        self._check(objects.labels, np.array(objects.values.shape[1:]))
        chosen = np.flatnonzero(objects.areas_um2 >= self._min_area_um2)
        for start in range(0, len(chosen), _BATCH):
            batch = chosen[start : start + _BATCH]
            self._append(
                objects.labels[batch].tolist(),
                (uuid.uuid5(self._namespace, f"key {key}") for key in objects.keys[batch].tolist()),
                objects.shapes[batch],
                objects.areas_um2[batch],
                objects.values[batch].tolist(),
            )

    def close(self) -> None:
        """Complete the file and put it in its place. Closing twice does nothing."""
        if self._file.is_closed:
            return
        with self._disk_full_named():
            self._file.append(TAIL)
            self._bytes = self._file.close()
            pack(self._partial, self._path, name=self._name)

    def warning(self) -> str | None:
        """Tell, once closed, why QuPath would struggle with the file, and what helps."""
        zipped = self._path.suffix == ".zip"
        if zipped and self.count <= TOO_MANY_FEATURES:
            return None
        if self.count <= MANY_FEATURES and self._bytes <= MANY_BYTES:
            return None
        help_ = "--min-area UM2 leaves out specks, --simplify UM shortens outlines"
        if not zipped:
            help_ += ", --geojson NAME.geojson.zip loads in parts"
        size = f"{self.count:,} {self._noun} ({self._bytes / 1e6:,.0f} MB)"
        return f"QuPath will be slow with {size} in {self._name}: {help_}"

    def _begin(self) -> GrowingFile:
        file = GrowingFile(self._partial)
        file.append(head(self._run))
        return file

    def _reopen(self, state: Mapping[str, Any]) -> GrowingFile:
        if not self._partial.exists():
            # A run that was stopped just before its end had closed the polygons already.
            unpack(self._path, self._partial)
        self.count = state["count"]
        self.areas_um2 = dict(state["areas_um2"])
        return GrowingFile(self._partial, state)

    def _write_batch(self, batch: Sequence[PlaneObject]) -> None:
        labels = np.array([one.label for one in batch])
        self._check(labels, np.array([len(one.values) for one in batch]))
        shapes = np.empty(len(batch), object)
        shapes[:] = [one.polygon for one in batch]
        chosen, shapes = self._drop_specks(shapes)
        shapes, source = self._transform.to_slide(shapes)
        self._write_features([batch[number] for number in chosen[source].tolist()], shapes)

    def _check(self, labels: NDArray[np.integer[Any]], widths: NDArray[np.integer[Any]]) -> None:
        if len(labels) and not 1 <= labels.min() <= labels.max() <= len(self._names):
            message = f"label {labels.max()} has no class among the {len(self._names)}"
            raise WsiError("bad-input", message, subject=str(self._path))
        expected = len(self._measured) - 1
        if (widths != expected).any():
            message = f"an object has other than {expected} values, one a measurement"
            raise WsiError("bad-input", message, subject=str(self._path))

    def _drop_specks(self, shapes: Shapes) -> tuple[NDArray[np.int64], Shapes]:
        pixel = self._transform.um2_per_pixel * self._transform.scale_x * self._transform.scale_y
        smallest = self._min_area_um2 / pixel
        chosen = np.flatnonzero(shapely.area(shapes) >= smallest)
        kept = shapes[chosen]
        return chosen, fill_small_holes(kept, smallest) if smallest > 0 else kept

    def _write_features(self, objects: Sequence[PlaneObject], shapes: Shapes) -> None:
        """Write shapes on the slide, each of one object; parts of one object lie side by side."""
        if len(objects) == 0:
            return
        areas = shapely.area(shapes) * self._transform.um2_per_pixel
        labels, values = [one.label for one in objects], [one.values for one in objects]
        self._append(labels, self._ids(objects), shapes, areas, values)

    def _append(
        self,
        labels: Sequence[int],
        ids: Iterable[uuid.UUID],
        shapes: Shapes,
        areas_um2: NDArray[np.float64],
        values: Sequence[Sequence[float]],
    ) -> None:
        columns = zip(labels, ids, geometry_texts(shapes), areas_um2.tolist(), values, strict=True)
        features = [
            f'\n{{"type":"Feature","id":"{id_}","geometry":{geometry},'
            f"{self._heads[label - 1]}{self._measurements(area, numbers)}}}}}}}"
            for label, id_, geometry, area, numbers in columns
        ]
        with self._disk_full_named():
            self._file.append((("," if self.count else "") + ",".join(features)).encode())
        self.count += len(features)
        per_label = np.bincount(labels, weights=areas_um2, minlength=len(self._names) + 1)
        for name, area in zip(self._names, per_label[1:].tolist(), strict=True):
            self.areas_um2[name] += area

    def _measurements(self, area: float, values: Sequence[float]) -> str:
        rounded = (round(area, 2), *(round(float(value), 4) for value in values))
        members = zip(self._measured, rounded, strict=True)
        return ",".join(f"{name}{value}" for name, value in members if math.isfinite(value))

    def _ids(self, objects: Sequence[PlaneObject]) -> Iterator[uuid.UUID]:
        """Make the ids: by the running number, or by the key, and its part where it has several."""
        part, before = 0, None
        for number, one in enumerate(objects, start=self.count):
            part = part + 1 if one is before else 0
            before = one
            name = str(number)
            if one.key is not None:
                name = f"key {one.key} part {part}" if part else f"key {one.key}"
            yield uuid.uuid5(self._namespace, name)

    def _disk_full_named(self) -> AbstractContextManager[None]:
        return disk_full_named("the polygons", self._path)


def geometry_texts(shapes: Shapes) -> list[str]:
    """Return the geometry of each shape as compact JSON, whole numbers without a fraction."""
    texts = shapely.to_geojson(shapes).tolist()
    return [text.replace(".0,", ",").replace(".0]", "]") for text in texts]


def _check_classes(names: Sequence[str]) -> None:
    try:
        check_class_names(names)
    except ValueError as error:
        raise WsiError("bad-input", f"QuPath would not take these classes: {error}") from error


def _properties_head(object_type: str, one: ClassSpec) -> str:
    red, green, blue = bytes.fromhex(one.color[1:])
    classification = {"name": one.name, "color": [red, green, blue]}
    text = json.dumps(classification, separators=(",", ":"), ensure_ascii=False)
    return f'"properties":{{"objectType":"{object_type}","classification":{text},"measurements":{{'


def _member(name: str) -> str:
    return json.dumps(name, ensure_ascii=False) + ":"


def _check_transform(transform: PlaneToSlide) -> None:
    sizes = (transform.scale_x, transform.scale_y, transform.mpp_x, transform.mpp_y)
    if not (np.isfinite([*sizes, transform.offset_x, transform.offset_y]).all() and min(sizes) > 0):
        raise WsiError("bad-input", f"{transform} needs finite numbers and positive sizes")
