"""Files of prompts: QuPath's GeoJSON, or a table of points."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from wsi_sampath.errors import WsiError
from wsi_sampath.files import require_file
from wsi_sampath.garbage_collection import collection_paused
from wsi_sampath.prompt_files.drawn_pieces import read_drawn_pieces
from wsi_sampath.prompt_files.grouping import grouped
from wsi_sampath.prompt_files.listed_pieces import SUFFIXES, read_listed_pieces
from wsi_sampath.prompt_files.pieces import Piece, checked
from wsi_sampath.prompt_files.prompt import Prompt, PromptFile, Refused, made_id
from wsi_sampath.shown import plural


@collection_paused()
def read_prompts(
    path: str | Path,
    *,
    slide_size: tuple[int, int],
    reach_px: float,
    bounds_offset: tuple[float, float] = (0.0, 0.0),
    mpp: tuple[float, float] | None = None,
    each_point: bool = False,
) -> PromptFile:
    """Read what asks for objects on a slide.

    Parameters
    ----------
    path
        GeoJSON as QuPath 0.2 to 0.8 exports it (``.geojson``, ``.json``, either with ``.gz``, or a
        ``.zip`` of them), or a table of points (``.csv``, ``.tsv``, ``.txt``).
    slide_size
        Width and height of level 0.
    reach_px
        Level-0 px along x and along y from the centre of a prompt within which background points
        of no object count for it: half the side of the field that is looked at.
    bounds_offset
        Added to coordinates: QuPath counts from the corner of the slide's bounds.
    mpp
        Microns in a level-0 pixel along x and y, for tables in microns.
    each_point
        Whether each point of a MultiPoint asks for an object of its own; without it an annotation
        asks for one object.

    Returns
    -------
    PromptFile
        Prompts in the file's order, and what cannot be used.

    Raises
    ------
    WsiError
        ``bad-input`` if the file cannot be read, or holds no prompt that can be used.
    """
    path = Path(path)
    require_file(path, "bad-input")
    notes: tuple[str, ...] = ()
    if path.suffix.lower() in SUFFIXES:
        read = read_listed_pieces(path, bounds_offset, mpp)
    else:
        read, notes = read_drawn_pieces(path, bounds_offset, each_point=each_point)
    found = [one if isinstance(one, Refused) else checked(one, slide_size) for one in read]
    pieces = [one for one in found if isinstance(one, Piece)]
    prompts, alone = grouped(pieces, reach_px)
    refused = [one for one in found if isinstance(one, Refused)] + alone
    if not prompts:
        raise _without_prompts(path, pieces, refused, notes)
    prompts, again = _with_own_ids(prompts)
    if again:
        notes += (f"{path.name}: {plural(again, 'id')} used before; the masks get new ones",)
    return PromptFile(tuple(prompts), tuple(refused), notes)


def _without_prompts(
    path: Path, pieces: Sequence[Piece], refused: Sequence[Refused], notes: Sequence[str]
) -> WsiError:
    if refused:
        more = f" (and {len(refused) - 1:,} more)" if len(refused) > 1 else ""
        why = f"{refused[0].line()}{more}"
    elif pieces:
        why = "there are only background points"
    else:
        why = "; ".join(note.removeprefix(f"{path.name}: ") for note in notes) or "it is empty"
    message = f"it holds no prompt that can be used: {why}"
    return WsiError("bad-input", message, subject=str(path))


def _with_own_ids(prompts: Sequence[Prompt]) -> tuple[list[Prompt], int]:
    """Give new ids to prompts whose id others have before them; return how many they are."""
    taken = {one.id for one in prompts}
    seen: set[str] = set()
    found: list[Prompt] = []
    again = 0
    for prompt in prompts:
        id_ = prompt.id
        if id_ in seen:
            again += 1
            id_ = _free_id(id_, taken)
            taken.add(id_)
        seen.add(id_)
        found.append(prompt if id_ is prompt.id else replace(prompt, id=id_))
    return found, again


def _free_id(id_: str, taken: set[str]) -> str:
    while id_ in taken:
        id_ = made_id(id_)
    return id_
