"""Which files belong together: whether a file is ours, of which run, and as that run left it.

A GeoJSON begins with the id of its run, a table of nuclei, a report and a picture have it in their
metadata, and the zarr stores it as ``run_id``, with size and digest of GeoJSON and table.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any, Literal

from wsi_sampath.errors import WsiError
from wsi_sampath.fingerprint import sampled_digest
from wsi_sampath.outputs.qupath.packing import is_whole, run_of

State = Literal["absent", "same", "torn", "edited", "other", "foreign"]
_REPORT_RUN = re.compile(rb'<meta name="wsi-sampath-run" content="([0-9a-f]{8,64})">')
PICTURE_KEY = "wsi-sampath-run"
PREVIEW = "preview"
"""What stands for the run's id in the picture of one that was only planned."""
_PICTURE_RUN = re.compile(
    rb"\A\x89PNG\r\n\x1a\n.*?tEXt" + PICTURE_KEY.encode() + rb"\0([0-9a-f]{8,64}|preview)",
    re.DOTALL,
)
_PICTURE_END = b"IEND\xaeB\x60\x82"
_HEAD_BYTES = 2048


def content_of(path: Path) -> dict[str, Any]:
    """Return size and digest of a file, as a result keeps them."""
    return {"bytes": path.stat().st_size, "digest": sampled_digest(path)}


def polygons_state(path: Path, attributes: dict[str, Any]) -> State:
    """Return how a GeoJSON relates to the zarr with these attributes.

    Returns
    -------
    str
        ``same`` as the run left it; ``absent``; ``torn`` (it ends too early, or is blank);
        ``edited`` (of this run, whole, with other content); of an ``other`` run of ours;
        ``foreign`` (not ours).
    """
    if not os.path.lexists(path):
        return "absent"
    content = attributes.get("geojson_content")
    try:
        if content is not None and content_of(path) == content:
            return "same"
    except OSError:
        return "foreign"
    return state_by_run(path, run_of(path), str(attributes.get("run_id")), whole=is_whole)


def nuclei_state(path: Path, attributes: dict[str, Any]) -> State:
    """Return how a table of nuclei relates to the zarr with these attributes, as `polygons_state`.

    One that is cut off cannot be told from another program's, and is ``foreign``.
    """
    if not os.path.lexists(path):
        return "absent"
    try:
        if content_of(path) == attributes.get("nuclei_content"):
            return "same"
    except OSError:
        return "foreign"
    run_id = str(attributes.get("run_id"))
    return state_by_run(path, nuclei_run(path), run_id, whole=lambda _: True)


def nuclei_run(path: Path) -> str | None:
    """Return the id of the run that wrote a table of nuclei; None where no run of ours did."""
    if not path.is_file():
        return None
    # pyarrow takes its time to import, and few results have a table.
    from wsi_sampath.outputs.nuclei.reading import open_nuclei

    try:
        return open_nuclei(path).info.run
    except WsiError:
        return None


def report_state(path: Path, attributes: dict[str, Any]) -> State:
    """Return how a report relates to the zarr with these attributes; see `polygons_state`."""
    if not os.path.lexists(path):
        return "absent"
    state = state_by_run(path, report_run(path), str(attributes.get("run_id")), whole=_ends)
    return "same" if state == "edited" else state


def report_run(path: Path) -> str | None:
    """Return the id of the run that wrote a report; None where no run of ours did."""
    found = _REPORT_RUN.search(_head(path))
    return found[1].decode() if found else None


def picture_state(path: Path, attributes: dict[str, Any]) -> State:
    """Return how a picture relates to the zarr with these attributes; see `polygons_state`."""
    if not os.path.lexists(path):
        return "absent"
    run_id = str(attributes.get("run_id"))
    state = state_by_run(path, picture_run(path), run_id, whole=_has_picture_end)
    return "same" if state == "edited" else state


def picture_run(path: Path) -> str | None:
    """Return the id of the run whose picture it is, or `PREVIEW`; None where it is not ours."""
    found = _PICTURE_RUN.search(_head(path))
    return found[1].decode() if found else None


def state_by_run(path: Path, run: str | None, run_id: str, *, whole: Any) -> State:
    """Return the state of a file whose content is unknown."""
    if run is None:
        return "torn" if is_blank(path) else "foreign"
    if run != run_id:
        return "other"
    return "edited" if whole(path) else "torn"


def is_blank(path: Path) -> bool:
    """Return whether a file holds nothing to lose: empty, or the zeros that a power loss leaves."""
    if path.is_symlink() or not path.is_file():
        return False
    return not _head(path).strip(b"\0")


def _head(path: Path) -> bytes:
    try:
        if not path.is_file():
            return b""
        with path.open("rb") as stream:
            return stream.read(_HEAD_BYTES)
    except OSError:
        return b""


def _ends(path: Path) -> bool:
    return _tail(path).rstrip().endswith(b"</html>")


def _has_picture_end(path: Path) -> bool:
    return _tail(path).endswith(_PICTURE_END)


def _tail(path: Path) -> bytes:
    with path.open("rb") as stream:
        stream.seek(max(0, path.stat().st_size - 16))
        return stream.read()
