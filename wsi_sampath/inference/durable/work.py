"""The folder in which a result grows, beside its final place."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wsi_sampath.errors import WsiError
from wsi_sampath.files import GROWING, replacing
from wsi_sampath.inference.durable.identity import check_same, is_replaced_slide, is_same
from wsi_sampath.inference.durable.ledger import Ledger, Strip
from wsi_sampath.inference.targets import refuse_foreign_nuclei, refuse_foreign_polygons
from wsi_sampath.outputs.attributes import read_attributes
from wsi_sampath.outputs.growing import is_intact
from wsi_sampath.outputs.qupath.packing import BROKEN_PACKING, unpack

_POLYGONS = "polygons"
_NUCLEI = "nuclei.parquet"
_PUBLISHING = "publishing.json"


@dataclass(frozen=True)
class Beginning:
    """How a run begins.

    Attributes
    ----------
    last
        The strip after which it resumes; None where it starts from the beginning.
    notes
        Sentences for the user: what of an earlier run is done again, and why.
    """

    last: Strip | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Journal:
    """Name of the polygons in the folder; places of polygons and table, seen from the zarr's."""

    polygons: str
    geojson: str | None
    nuclei: str | None

    def is_known(self) -> bool:
        """Return whether it is one that was written here."""
        places = isinstance(self.geojson, str | None) and isinstance(self.nuclei, str | None)
        named = isinstance(self.polygons, str) and Path(self.polygons).name == self.polygons
        return places and named


@dataclass(frozen=True)
class WorkFolder:
    """``NAME.zarr.partial``: what grows, and the ledger; no viewer takes it for a result.

    Attributes
    ----------
    path
        The folder.
    geojson, table
        Where polygons and table of nuclei go in the end; None where none are wanted.
    """

    path: Path
    geojson: Path | None = None
    table: Path | None = None

    @property
    def maps(self) -> Path:
        """Return the growing zarr."""
        return self.path / "maps.zarr"

    @property
    def ledger(self) -> Ledger:
        """Return the ledger of finished strips."""
        return Ledger(self.path / "ledger")

    @property
    def growing_polygons(self) -> Path:
        """Return the growing polygons, whatever they will be called and packed in."""
        return self.path / f"{_POLYGONS}.partial"

    @property
    def polygons(self) -> Path:
        """Return the complete polygons, in the container that their name asks for."""
        packed = {".gz": ".geojson.gz", ".zip": ".geojson.zip"}
        suffix = self.geojson.suffix if self.geojson is not None else ""
        return self.path / (_POLYGONS + packed.get(suffix, ".geojson"))

    @property
    def nuclei(self) -> Path:
        """Return the complete table of nuclei."""
        return self.path / _NUCLEI

    @property
    def growing_nuclei(self) -> Path:
        """Return the growing table of nuclei."""
        return self.path / f"{_NUCLEI}.partial"

    def begin(
        self,
        identity: dict[str, Any],
        *,
        force: bool,
        holds: Callable[[Path, Strip], bool] = lambda _path, _strip: True,
    ) -> Beginning:
        """Prepare the folder, and find how far an earlier run of the same identity came.

        Parameters
        ----------
        identity
            Identity of the run.
        force
            Whether to start over whatever is there.
        holds
            Returns whether the growing zarr still holds what it held at a strip.

        Raises
        ------
        WsiError
            ``bad-input`` where an earlier run differs (unless `force`, or unless the slide's file
            was written anew since), or the folder is not ours.
        """
        before = self.ledger.identity()
        notes: tuple[str, ...] = ()
        if before is not None and not force:
            if is_same(before, identity):
                begun = self._go_on(holds)
                if begun.last is not None:
                    return begun
                notes = begun.notes
            elif is_replaced_slide(before, identity):
                notes = ("the slide was replaced since an earlier run began; it starts anew",)
            else:
                check_same(before, identity, subject=str(self.path))
        self._clear(ours=before is not None)
        try:
            self.ledger.start(identity)
        except OSError:
            shutil.rmtree(self.path, ignore_errors=True)
            raise
        return Beginning(None, notes)

    def _go_on(self, holds: Callable[[Path, Strip], bool]) -> Beginning:
        if self.ledger.is_empty() or not self.maps.is_dir():
            return Beginning()
        self._unpack_polygons()
        for strip in self.ledger.candidates():
            if self._polygons_hold(strip) and self._nuclei_hold(strip) and holds(self.maps, strip):
                whole = self.ledger.is_newest(strip)
                self.ledger.forget_after(strip.row)
                note = "part of what an earlier run left is damaged; that part is done again"
                return Beginning(strip, () if whole else (note,))
        return Beginning(None, ("what an earlier run left is damaged; it starts anew",))

    def _polygons_hold(self, strip: Strip) -> bool:
        state = strip.notes["geojson"]
        return state is None or is_intact(self.growing_polygons, state)

    def _nuclei_hold(self, strip: Strip) -> bool:
        state = strip.notes.get("table")
        return state is None or is_intact(self.growing_nuclei, state)

    def _unpack_polygons(self) -> None:
        """Open polygons again that an earlier run had completed, under whichever name."""
        if self.growing_polygons.exists():
            return
        for packed in self._packed():
            try:
                with replacing(self.growing_polygons) as growing:
                    unpack(packed, growing)
            except BROKEN_PACKING as error:
                # What cannot be unpacked is not intact; a full disk is another matter.
                if getattr(error, "errno", None) is not None:
                    raise

    def _packed(self) -> list[Path]:
        found = self.path.glob(f"{_POLYGONS}.geojson*")
        return [path for path in found if not path.name.endswith(GROWING)]

    def publish(self, target: Path) -> None:
        """Put polygons and zarr in their places, then remove this folder.

        From the moment that the journal exists, `complete` finishes what a kill interrupts.
        """
        journal = {
            "geojson": _seen_from(target, self.geojson),
            "polygons": self.polygons.name,
            "nuclei": _seen_from(target, self.table),
        }
        with replacing(self.path / _PUBLISHING, durable=True) as growing:
            growing.write_text(json.dumps(journal), encoding="utf-8")
        self.complete(target)

    def is_publishing(self) -> bool:
        """Return whether a kill left a complete result here that is not wholly in its place."""
        return self._journal() is not None

    def complete(self, target: Path) -> dict[str, Any] | None:
        """End a publication that was begun; return the attributes of what is there then.

        Returns
        -------
        dict or None
            None where none was begun.

        Raises
        ------
        WsiError
            ``bad-input`` where a place was taken by something that is not ours.
        """
        journal = self._journal()
        if journal is None:
            return None
        polygons = self.path / journal.polygons
        if journal.geojson is not None and polygons.exists():
            refuse_foreign_polygons(target.parent / journal.geojson)
            _move(polygons, target.parent / journal.geojson)
        if journal.nuclei is not None and self.nuclei.exists():
            refuse_foreign_nuclei(target.parent / journal.nuclei)
            _move(self.nuclei, target.parent / journal.nuclei)
        if self.maps.exists():
            self._put_aside(target)
            self.maps.rename(target)
        shutil.rmtree(self.path)
        return read_attributes(target)

    def _put_aside(self, target: Path) -> None:
        if not os.path.lexists(target):
            return
        if read_attributes(target) is None:
            message = "the output exists and is not a result of ours; remove it and run again"
            raise WsiError("bad-input", message, subject=str(target))
        target.rename(self.path / "replaced")

    def _journal(self) -> _Journal | None:
        """Return what is being published."""
        try:
            journal = json.loads((self.path / _PUBLISHING).read_bytes())
            read = _Journal(journal["polygons"], journal["geojson"], journal.get("nuclei"))
        except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
            return None
        return read if read.is_known() else None

    def tidy(self) -> None:
        """Remove what a kill left after the result was published; what is not ours stays."""
        if self.path.exists() and self._looks_ours():
            shutil.rmtree(self.path)

    def _clear(self, *, ours: bool) -> None:
        if not self.path.exists():
            return
        if not (ours or self._looks_ours()):
            raise WsiError(
                "bad-input",
                "the folder in which the result would grow exists and is not ours; remove it",
                subject=str(self.path),
            )
        shutil.rmtree(self.path)

    def _looks_ours(self) -> bool:
        """Return whether a kill left this folder before, or after, its ledger named its run."""
        names = {path.name.removesuffix(GROWING) for path in self.path.iterdir()}
        inside = (self.path / "ledger").glob("*")
        own = {"ledger", "maps.zarr", "replaced", _PUBLISHING, self.growing_polygons.name}
        own |= {path.name for path in self._packed()} | {_NUCLEI, self.growing_nuclei.name}
        return names <= own and all(map(Ledger.is_own, inside))


def _seen_from(target: Path, file: Path | None) -> str | None:
    if file is None:
        return None
    try:
        return os.path.relpath(file, target.parent)
    except ValueError:
        return str(file.absolute())


def _move(source: Path, target: Path) -> None:
    """Move a file to its place atomically, even to another disk."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        source.replace(target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        with replacing(target, durable=True) as growing:
            shutil.copyfile(source, growing)
        source.unlink()
