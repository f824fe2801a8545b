"""The scale of a slide: everything that its file states, and the statement that counts.

From the most to the least trusted: OME-XML; the scanner's own metadata (Aperio, Philips, Leica,
Ventana, or whatever vendor OpenSlide knows, DICOM among them); the description of a TIFF; its
resolution tags; a reader's guess. The order does not depend on the reader that opened the file.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from wsi_sampath.slides.mpp import differs, format_mpp
from wsi_sampath.slides.readers.base import BROKEN_TIFF
from wsi_sampath.slides.readers.dicom_scale import dicom_statements
from wsi_sampath.slides.readers.metadata import SlideMetadata
from wsi_sampath.slides.readers.tiff_scale import (
    OME,
    PLACEHOLDER_UM,
    TAGS,
    Statement,
    Statements,
    open_tiff,
    tiff_statements,
)

# Vendors whose scale readers take only from places that we read ourselves.
_PLAIN_VENDORS = frozenset({"", "aperio", "generic-tiff", "ome", "generic"})
_LOW_TRUST = frozenset({"ImageJ description", "TIFF description", TAGS})


@dataclass(frozen=True)
class StatedScale:
    """The scale of a file, as chosen from its statements.

    Attributes
    ----------
    mpp
        (x, y) in um per level-0 pixel, None if the file states nothing usable.
    stated_by
        Where the file states it.
    objective
        Magnification, None if not stated.
    warnings
        Contradictions and oddities, for the user.
    hint
        What the file says that is not a measurement, for the message about a missing mpp.
    statements
        All measurements that it states, from the most to the least trusted.
    """

    mpp: tuple[float, float] | None
    stated_by: str = ""
    objective: float | None = None
    warnings: tuple[str, ...] = ()
    hint: str = ""
    statements: tuple[Statement, ...] = ()


def stated_scale(path: Path, reader: str, metadata: SlideMetadata) -> StatedScale:
    """Collect what a file says about its scale, and choose the most trusted statement.

    Parameters
    ----------
    path
        The slide.
    reader, metadata
        Name of the reader that opened it, and what that reader found.
    """
    stated = _file_statements(path, metadata.level_sizes[0])
    found = _with_reader(stated.found, reader, metadata)
    if metadata.vendor == "dicom":
        found += dicom_statements(path, metadata.level_sizes[0])
    objective = metadata.objective if metadata.objective is not None else stated.objective
    if not found:
        return StatedScale(None, objective=objective, hint=_hint(stated, objective))
    first = found[0]
    mpp, doubts = _both_axes(first)
    # An unusable statement in a better place is not silently replaced by a worse one.
    lost = tuple(f"{reason}; taken: {format_mpp(*mpp)} ({first.source})" for reason in stated.lost)
    lost = lost if first.source != OME else ()
    warnings = (*stated.doubts, *lost, *doubts, *contradictions(mpp, first.source, found[1:]))
    return StatedScale(mpp, first.source, objective, warnings, statements=tuple(found))


def contradictions(
    taken: tuple[float, float], source: str, others: tuple[Statement, ...]
) -> tuple[str, ...]:
    """Return one sentence that names all statements that differ from the one taken by over 1 %."""
    against = [
        f"{other.source} {format_mpp(other.x or other.y or 0.0, other.y or other.x or 0.0)}"
        for other in others
        if any(
            value is not None and differs(value, mine)
            for value, mine in zip((other.x, other.y), taken, strict=True)
        )
    ]
    if not against:
        return ()
    return (
        f"the file contradicts itself: {source} says {format_mpp(*taken)} per pixel, "
        f"{', '.join(against)}; taken: {format_mpp(*taken)} ({source}); "
        "--slide-mpp gives another",
    )


def _file_statements(path: Path, size: tuple[int, int]) -> Statements:
    tiff = open_tiff(path) if path.is_file() else None
    if tiff is None:
        return Statements()
    try:
        with tiff:
            return tiff_statements(tiff, size)
    except (*BROKEN_TIFF, ElementTree.ParseError):
        return Statements(doubts=("what its tags say about the scale could not be read",))


def _with_reader(
    stated: tuple[Statement, ...], reader: str, metadata: SlideMetadata
) -> tuple[Statement, ...]:
    """Rank what the reader says among the statements of the file."""
    mpp, vendor = metadata.mpp, metadata.vendor
    if mpp is None:
        return stated
    if vendor in _PLAIN_VENDORS:
        # The reader used a place that is read here, too: it counts only where that failed.
        measured = max(mpp) <= PLACEHOLDER_UM
        return stated or ((Statement(f"the reader {reader}", *mpp),) if measured else ())
    better = [statement for statement in stated if statement.source == OME]
    worse = [statement for statement in stated if statement.source in _LOW_TRUST]
    return (*better, Statement(f"{vendor} metadata", *mpp), *worse)


def _both_axes(statement: Statement) -> tuple[tuple[float, float], tuple[str, ...]]:
    x, y = statement.x, statement.y
    if x is not None and y is not None:
        return (x, y), ()
    value = x if x is not None else y
    assert value is not None
    axis, other = ("x", "y") if x is not None else ("y", "x")
    return (value, value), (
        f"{statement.source} states {value:.5g} um per pixel along {axis} alone; taken for "
        f"{other} as well",
    )


def _hint(stated: Statements, objective: float | None) -> str:
    notes = list(stated.unusable)
    if objective is not None and objective > 0:
        notes.append(f"it names a {objective:g}x objective, so about {10 / objective:.3g} um")
    return "; ".join((*stated.doubts, *notes))
