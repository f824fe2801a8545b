"""``report.html`` of a batch: failures, then slides of doubtful quality, then all others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from wsi_sampath.batch.record.journal import Record
from wsi_sampath.batch.record.table import replace_text
from wsi_sampath.outputs.report.report import number
from wsi_sampath.pages import Filters, link, render_template
from wsi_sampath.shown import format_duration, plural, shown

# More rows than these no browser shows gladly; the table has all of them.
MOST_ROWS = 5000
_MARK = b'<meta name="generator" content="wsi-sampath batch">'


def write_page(
    path: Path,
    records: Sequence[Record],
    waiting: Sequence[tuple[str, str]],
    picture: Callable[[Record], str | None],
) -> None:
    """Write the page; it appears at once, complete.

    Parameters
    ----------
    path
        The HTML file.
    records
        Slides done or failed.
    waiting
        (slide, zarr) of those without a record.
    picture
        Finds the thumbnail of a record, as a path seen from the page, or None.
    """
    replace_text(path, render_page(records, waiting, picture))


def is_page(path: Path) -> bool:
    """Tell whether a file may be replaced by a page: it is one of ours, or not there."""
    try:
        with path.open("rb") as stream:
            return _MARK in stream.read(1024)
    except FileNotFoundError:
        return True
    except OSError:
        return False


def render_page(
    records: Sequence[Record],
    waiting: Sequence[tuple[str, str]],
    picture: Callable[[Record], str | None],
) -> str:
    """Return the page as HTML; see `write_page`."""
    failed = sorted((r for r in records if r.status != "done"), key=lambda r: (r.reason, r.zarr))
    done = sorted((r for r in records if r.status == "done"), key=_most_doubtful_first)
    values = {
        "n_failed": len(failed),
        "failed": failed[:MOST_ROWS],
        "reasons": Counter(record.reason for record in failed).most_common(),
        "n_done": len(done),
        "n_doubtful": sum(bool(record.doubts) for record in done),
        "slides": [_entry(record, picture(record)) for record in done[:MOST_ROWS]],
        "classes": list(dict.fromkeys(name for record in done for name in record.area_mm2)),
        "areas": _sums(done),
        "tiles": sum(record.tiles_analysed for record in done),
        "seconds": sum(record.seconds for record in done),
        "analysed_mm2": sum(record.analysed_mm2 for record in done),
        "models": sorted({record.model for record in done if record.model}),
        "waiting": waiting,
    }
    filters: Filters = {
        "number": number,
        "duration": format_duration,
        "shown": shown,
        "plural": plural,
    }
    return render_template("wsi_sampath.batch.record", "batch.html.j2", values, filters=filters)


def _most_doubtful_first(record: Record) -> tuple[int, float, str]:
    """Order by the number of doubts, then by how much is out of focus, then by name."""
    return -len(_doubts(record)), -(record.blurred or 0.0), record.zarr


def _entry(record: Record, picture: str | None) -> dict[str, Any]:
    name = PurePosixPath(record.zarr)
    page = link(name.with_suffix(".html").as_posix()) if record.has_report else None
    return {
        "name": str(name.with_suffix("")),
        "record": record,
        "picture": picture and link(picture),
        "page": page,
        "doubts": _doubts(record),
    }


def _doubts(record: Record) -> list[str]:
    return record.doubts.split("; ") if record.doubts else []


def _sums(done: Sequence[Record]) -> dict[str, float]:
    sums: dict[str, float] = {}
    for record in done:
        for name, area in record.area_mm2.items():
            sums[name] = sums.get(name, 0.0) + area
    return sums
