"""The objects of a session as QuPath's GeoJSON, and objects out of such a file."""

from __future__ import annotations

import math
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import shapely

from wsi_sampath.classes import drawn_class_name, name_key
from wsi_sampath.errors import WsiError
from wsi_sampath.outputs.qupath.packing import TAIL, head
from wsi_sampath.prompt_files.answer import EDITED, Answer, Mask
from wsi_sampath.prompt_files.mask_features import MaskRun, mask_features
from wsi_sampath.prompt_files.prompt import Prompt, made_id
from wsi_sampath.shown import plural
from wsi_sampath.slides.regions.geojson import (
    LEFT_OUT_KINDS,
    DrawnObject,
    Lack,
    left_out_of,
    left_out_phrases,
    read_drawn,
)
from wsi_sampath.slides.regions.polygon_parts import Broken
from wsi_sampath.unpacking import container_by_content
from wsi_sampath.viewer.drawn import LONGEST_NAME, Drawn, Frame, fitted, plain_name
from wsi_sampath.viewer.events import Drawing

_NUCLEI = ("detection", "cell")
_FILE = "annotations.geojson"


def exported(drawing: Drawing, frame: Frame) -> bytes:
    """Return the objects of a session as QuPath's GeoJSON.

    Parameters
    ----------
    drawing
        The session's.
    frame
        Of its slide.
    """
    features = [text for one in drawing.ordered() for text in _features(one, drawing, frame)]
    return head(None) + "".join("\n" + text + "," for text in features)[:-1].encode() + TAIL


def _features(one: Drawn, drawing: Drawing, frame: Frame) -> list[str]:
    spec = drawing.class_of(one.class_name)
    prompt = Prompt(
        id=one.id,
        name=one.name,
        class_name=one.class_name,
        class_color=spec.color if spec else None,
    )
    run = MaskRun(
        run="",
        model=one.model,
        weights_sha256=one.weights,
        slide_size=frame.size,
        mpp=frame.mpp,
        bounds_offset=frame.bounds_offset,
    )
    quality = math.nan if one.quality is None else one.quality
    mpp = math.nan if one.mpp is None else one.mpp
    answer = Answer(0, (Mask(one.shape, quality),), mpp, is_edited=one.edited)
    return mask_features(prompt, answer, run)


@dataclass(frozen=True)
class Imported:
    """What came of a file.

    Attributes
    ----------
    objects
        Those that are new, or other than those of the same id are.
    classes
        Colours of their classes, by `name_key`.
    notes
        Sentences for the user about everything else in it.
    """

    objects: tuple[Drawn, ...]
    classes: dict[str, str | None] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def read_annotations(raw: bytes) -> tuple[DrawnObject, ...]:
    """Return what is drawn in a GeoJSON of QuPath's.

    Raises
    ------
    WsiError
        ``bad-input`` if it cannot be read; a packed one is not unpacked here, for it might become
        anything.
    """
    with TemporaryDirectory() as folder:
        path = Path(folder) / _FILE
        path.write_bytes(raw)
        if container_by_content(path) != "plain":
            raise WsiError("bad-input", "it is packed; unpack it, and import the .geojson in it")
        try:
            return read_drawn(path).objects
        except WsiError as error:
            raise WsiError(error.reason, error.message) from None


def imported(objects: Iterable[DrawnObject], drawing: Drawing, frame: Frame) -> Imported:
    """Return what a file adds to a session.

    An object of an id that is there already replaces that one, which is how an exported file that
    was edited elsewhere comes back; where both are the same, nothing happens.

    Parameters
    ----------
    objects
        What is drawn in the file: its annotations count, detections and cells only where there is
        no annotation.
    drawing
        The session's.
    frame
        Of its slide.

    Raises
    ------
    WsiError
        ``bad-input`` where there is no area that lies on the slide.
    """
    things = list(objects)
    kinds = {one.kind for one in things}
    wanted = ("annotation",) if "annotation" in kinds else _NUCLEI
    reading = _Reading(frame)
    reading.left_out.update(
        LEFT_OUT_KINDS[one.kind] for one in things if one.kind not in (*wanted, "root")
    )
    found = list(reading.read(one for one in things if one.kind in wanted))
    reading.left_out.update(left_out_of(one for one in things if one.kind in wanted))
    if not found:
        why = "; ".join(reading.notes()) or "it is empty"
        raise WsiError("bad-input", f"there is no area in it that can be used: {why}")
    new, same = [], 0
    for one in found:
        before = drawing.objects.get(one.id)
        if before is not None:
            one = _again(one, before)
        if before == one:
            same += 1
        else:
            new.append(one)
    notes = reading.notes()
    if same:
        notes.append(f"{plural(same, 'object')} there already, and the same")
    return Imported(tuple(new), reading.classes, tuple(notes))


def _again(one: Drawn, before: Drawn) -> Drawn:
    """Return an object as it comes back, with what a file of QuPath's does not keep."""
    if one.shape == before.shape:
        return replace(one, prompt=before.prompt)
    edited = bool(one.model) or before.edited
    return replace(one, prompt=before.prompt, quality=None, edited=edited)


class _Reading:
    """Makes objects of what was drawn, and counts what cannot be."""

    def __init__(self, frame: Frame) -> None:
        self._frame = frame
        self._ids: set[str] = set()
        self.left_out: Counter[Lack] = Counter()
        self.classes: dict[str, str | None] = {}
        self._repeated = self._renamed = self._off = self._odd = 0

    def read(self, things: Iterable[DrawnObject]) -> Iterator[Drawn]:
        """Yield those that are areas on the slide."""
        for thing in things:
            if thing.area is None:
                continue
            try:
                shape = fitted(self._moved(thing.area), self._frame.size)
            except WsiError:
                self._off += 1
                continue
            yield Drawn(
                self._id(thing, shape),
                shape,
                name=plain_name(thing.name[:LONGEST_NAME]),
                class_name=self._class(thing),
                quality=thing.quality,
                model=plain_name(thing.metadata.get("model", "")[:LONGEST_NAME]),
                weights=plain_name(thing.metadata.get("weights", "")[:LONGEST_NAME]),
                mpp=thing.mpp if thing.mpp is not None and thing.mpp > 0 else None,
                edited=thing.metadata.get("note") == EDITED,
            )

    def notes(self) -> list[str]:
        """Say what is not as in the file."""
        counts = {
            "off the slide, or of more corners than can be edited": self._off,
            "of an id used before, with a new one": self._repeated,
            "of an id that is no UUID, with a new one": self._renamed,
            "of an unusable class name, without a class now": self._odd,
        }
        notes = [f"{plural(n, 'object')} {what}" for what, n in counts.items() if n]
        phrases = ", ".join(left_out_phrases(self.left_out))
        return [*notes, *([f"{phrases} left out"] if phrases else [])]

    def _moved(self, area: shapely.MultiPolygon) -> shapely.MultiPolygon | Broken:
        offset = self._frame.bounds_offset
        return shapely.transform(area, lambda xy: xy + offset) if any(offset) else area

    def _id(self, thing: DrawnObject, shape: shapely.Geometry) -> str:
        try:
            found = str(uuid.UUID(thing.id))
        except ValueError:
            # Of the same object always the same, so that a file read twice adds nothing.
            found = made_id(thing.id, thing.name, thing.class_name, shapely.to_wkb(shape, hex=True))
            self._renamed += bool(thing.id)
        if found in self._ids:
            self._repeated += 1
            while found in self._ids:
                found = made_id(found)
        self._ids.add(found)
        return found

    def _class(self, thing: DrawnObject) -> str:
        if not thing.class_name.strip():
            return ""
        try:
            name = drawn_class_name(thing.class_name)
        except ValueError:
            self._odd += 1
            return ""
        self.classes.setdefault(name_key(name), thing.color)
        return name
