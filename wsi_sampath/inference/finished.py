"""Whether an equal, complete result is there already: zarr, polygons and report, all of one run."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from wsi_sampath.errors import WsiError
from wsi_sampath.inference.durable.identity import check_same
from wsi_sampath.inference.plan import RunFiles
from wsi_sampath.inference.targets import refuse_foreign_zarr
from wsi_sampath.outputs.attributes import damage_of, read_attributes
from wsi_sampath.outputs.belonging import nuclei_state, polygons_state
from wsi_sampath.outputs.result import open_maps

_AGAIN = {
    "torn": "was cut off since it was written",
    "other": "is of another run than the zarr",
}
_REFUSED = {
    "foreign": "is not the file that the run wrote; move it away and run again, or name another "
    "file with --geojson",
    "edited": "was changed since the run wrote it; move it away and run again, or give --force to "
    "write it anew",
}


@dataclass(frozen=True)
class Finished:
    """The files of a finished slide; `open_result` reads them.

    Attributes
    ----------
    zarr, geojson
        The files; `geojson` is None where no polygons were wanted.
    attributes
        The ``wsi_sampath`` attribute of the zarr: counts, areas, costs.
    reused
        True where an equal, complete result was there already.
    report
        The HTML page; None where none was wanted.
    nuclei
        The table of nuclei; None where the model finds none.
    overlay
        The picture; None where none was wanted.
    """

    zarr: Path
    geojson: Path | None
    attributes: dict[str, Any]
    reused: bool = False
    report: Path | None = None
    nuclei: Path | None = None
    overlay: Path | None = None

    @classmethod
    def of(cls, files: RunFiles, attributes: dict[str, Any], *, reused: bool = False) -> Finished:
        """Return the files of a run that is complete."""
        return cls(
            *(files.zarr, files.geojson, attributes, reused, files.report, files.nuclei),
            overlay=files.overlay,
        )

    def in_folder(self, folder: Path) -> Finished:
        """Return the same files with their folder by another name; others keep theirs."""

        def named(path: Path | None) -> Path | None:
            if path is None or path.parent != self.zarr.parent:
                return path
            return folder / path.name

        return replace(
            self,
            zarr=folder / self.zarr.name,
            geojson=named(self.geojson),
            report=named(self.report),
            nuclei=named(self.nuclei),
            overlay=named(self.overlay),
        )


@dataclass(frozen=True)
class Found:
    """What is there.

    Attributes
    ----------
    attributes
        Of a result that is complete and whole; None where there is none to hand out.
    note
        A sentence for the user: why a result that is there has to be made again.
    """

    attributes: dict[str, Any] | None = None
    note: str = ""


def find_finished(files: RunFiles, who: dict[str, Any], *, force: bool) -> Found:
    """Find the result of a run.

    Parameters
    ----------
    files
        Where it would lie.
    who
        The run's identity.
    force
        Whether it is to be made anew, whatever is there.

    Raises
    ------
    WsiError
        ``bad-input`` where something else lies there: not ours, made with other settings, or
        polygons that somebody changed.
    """
    # What a kill left on its way to its place is for the run to complete.
    if files.work.is_publishing() or not os.path.lexists(files.zarr):
        return Found()
    attributes = read_attributes(files.zarr)
    if attributes is None:
        refuse_foreign_zarr(files.zarr)
        return Found()
    if force:
        return Found()
    check_same(attributes, who, subject=str(files.zarr))
    damage = (
        _damage(files.zarr, attributes)
        or _polygons_damage(files.geojson, attributes)
        or _nuclei_damage(files.nuclei, attributes)
    )
    if damage:
        return Found(None, f"{damage}; the result is made again")
    beside = [file for file in (files.geojson, files.nuclei) if file is not None]
    if not all(map(os.path.lexists, beside)):
        return Found()
    return Found(attributes)


def _damage(zarr: Path, attributes: dict[str, Any]) -> str:
    damage = damage_of(attributes, of_run=True)
    if damage is None:
        try:
            open_maps(zarr)
        except WsiError as error:
            damage = error.message
    return f"{zarr.name} is damaged ({damage})" if damage else ""


def _polygons_damage(geojson: Path | None, attributes: dict[str, Any]) -> str:
    if geojson is None:
        return ""
    state = polygons_state(geojson, attributes)
    if state in _REFUSED:
        raise WsiError("bad-input", _REFUSED[state], subject=str(geojson))
    return f"{geojson.name} {_AGAIN[state]}" if state in _AGAIN else ""


def _nuclei_damage(nuclei: Path | None, attributes: dict[str, Any]) -> str:
    state = "same" if nuclei is None else nuclei_state(nuclei, attributes)
    if nuclei is None or state in ("same", "absent"):
        return ""
    if state == "other":
        return f"{nuclei.name} {_AGAIN[state]}"
    message = "is not the table that the run wrote; move it away and run again"
    raise WsiError("bad-input", message, subject=str(nuclei))
