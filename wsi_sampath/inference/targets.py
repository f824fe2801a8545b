"""Checks of the places where a run will write: nothing that is not ours is ever replaced."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from wsi_sampath.errors import WsiError
from wsi_sampath.outputs.attributes import read_attributes
from wsi_sampath.outputs.belonging import is_blank, nuclei_run, picture_run, report_run
from wsi_sampath.outputs.qupath.packing import check_suffix, run_of, says_more

# What a run of ours writes into its zarr, and what file browsers leave there.
_OWN = {".zattrs", ".zgroup", ".zmetadata", "zarr.json", "labels", "OME"}
_LITTER = {".DS_Store", "Thumbs.db", "desktop.ini"}


def refuse_foreign_polygons(path: Path, *, mask: Path | None = None) -> None:
    """Make sure that polygons may be written to a path.

    Parameters
    ----------
    path
        Where they would go.
    mask
        The tissue mask of the run, which is never replaced, whoever wrote it.

    Raises
    ------
    WsiError
        ``bad-input`` where something lies there that no run of ours wrote, or the mask itself.
    """
    if not os.path.lexists(path):
        return
    advice = "move it away, name another file with --geojson, or choose another --out"
    if mask is not None and mask.exists() and path.exists() and mask.samefile(path):
        message = f"the polygons would replace the run's own tissue mask; {advice}"
        raise WsiError("bad-input", message, subject=str(path))
    if path.is_symlink() or (run_of(path) is None and not is_blank(path)):
        message = f"the polygons would replace a file that is not ours; {advice}"
        raise WsiError("bad-input", message, subject=str(path))


def refuse_polygons_of_others(path: Path, zarr: Path, run_id: str) -> None:
    """Make sure that a GeoJSON at a path does not belong to another result beside it.

    Parameters
    ----------
    path, zarr
        Where polygons and maps of the run go.
    run_id
        Id of the run.

    Raises
    ------
    WsiError
        ``bad-input``, naming that result.
    """
    run = run_of(path)
    if run is None or run in (run_id, (read_attributes(zarr) or {}).get("run_id")):
        return
    for other in _zarrs_beside(path, zarr):
        if (read_attributes(other) or {}).get("run_id") == run:
            message = f"these are the polygons of {other.name}; name another file with --geojson"
            raise WsiError("bad-input", message, subject=str(path))


def _zarrs_beside(path: Path, zarr: Path) -> Iterator[Path]:
    for folder in {path.absolute().parent, zarr.absolute().parent}:
        yield from (one for one in sorted(folder.glob("*.zarr")) if one.name != zarr.name)


def refuse_foreign_nuclei(path: Path) -> None:
    """Make sure that a table of nuclei may be written to a path.

    Raises
    ------
    WsiError
        ``bad-input`` where something lies there that no run of ours wrote.
    """
    if not os.path.lexists(path) or is_blank(path):
        return
    if path.is_symlink() or nuclei_run(path) is None:
        message = "the table of nuclei would replace a file that is not ours; move it away, or"
        raise WsiError("bad-input", f"{message} choose another --out", subject=str(path))


def refuse_own_nuclei(path: Path, existing: Path) -> None:
    """Make sure that a file that a run writes is not the one that it reads nuclei from.

    Raises
    ------
    WsiError
        ``bad-input`` where it is.
    """
    if path.exists() and existing.exists() and path.samefile(existing):
        message = "the result would replace the nuclei that --nuclei names; choose another --out"
        raise WsiError("bad-input", message, subject=str(path))


def refuse_foreign_report(path: Path) -> None:
    """Make sure that a report may be written to a path.

    Raises
    ------
    WsiError
        ``bad-input`` where something lies there that no run of ours wrote.
    """
    if not os.path.lexists(path) or is_blank(path):
        return
    if path.is_symlink() or report_run(path) is None:
        raise WsiError(
            "bad-input",
            "the report would replace a file that is not ours; move it away, choose another "
            "--out, or give --no-report",
            subject=str(path),
        )


def refuse_foreign_picture(path: Path, *, advice: str) -> None:
    """Make sure that an overlay or a preview may be written to a path.

    Parameters
    ----------
    path
        The PNG.
    advice
        How else to go round what lies there, beside moving it or another ``--out``.

    Raises
    ------
    WsiError
        ``bad-input`` where something lies there that is not a picture of ours.
    """
    if not os.path.lexists(path) or is_blank(path):
        return
    if path.is_symlink() or picture_run(path) is None:
        message = "the picture would replace a file that is not ours; move it away, choose another"
        raise WsiError("bad-input", f"{message} --out, or {advice}", subject=str(path))


def refuse_foreign_zarr(path: Path) -> None:
    """Make sure that a zarr may be replaced: a result of ours, with nothing else inside.

    Raises
    ------
    WsiError
        ``bad-input`` otherwise.
    """
    if not os.path.lexists(path):
        return
    if read_attributes(path) is None:
        raise WsiError(
            "bad-input",
            "the output exists and is not a result of ours; remove it, or choose another --out",
            subject=str(path),
        )
    stranger = next(_strangers(path), None)
    if stranger is not None:
        message = f"holds {stranger!r}, which is not ours and would be lost; move it away first"
        raise WsiError("bad-input", message, subject=str(path))


def _strangers(zarr: Path) -> Iterator[str]:
    for folder, own in ((zarr, _OWN), (zarr / "labels", {*_OWN, "classes", "nuclei"})):
        for name in sorted(os.listdir(folder)) if folder.is_dir() else ():
            ours = name in own | _LITTER or name.isdecimal() or name.endswith(".partial")
            if not ours:
                yield (folder / name).relative_to(zarr).as_posix()


def refuse_foreign_masks(out: Path, prompts: Path) -> None:
    """Make sure that masks may be written to a path.

    Raises
    ------
    WsiError
        ``bad-input`` for a name that says nothing of the format, or where something lies there
        that is not one of our files of masks, or is the file of prompts itself.
    """
    check_suffix(out)
    if not os.path.lexists(out):
        return
    if out.exists() and prompts.exists() and out.samefile(prompts):
        raise WsiError("bad-input", "--out is the file of prompts itself", subject=str(out))
    if out.is_symlink() or not (says_more(out) or is_blank(out)):
        message = "the masks would replace a file that is not ours; move it, or give another --out"
        raise WsiError("bad-input", message, subject=str(out))
