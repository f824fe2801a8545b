"""The file of all scores that ``wsi-evaluate --json`` writes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from wsi_sampath.errors import UsageError
from wsi_sampath.settings import Panel

JsonFile = Annotated[
    Path | None,
    typer.Option(
        "--json",
        metavar="OUT.json",
        help="File for all scores.",
        rich_help_panel=Panel.SCORES.value,
    ),
]


def check_json(path: Path | None) -> None:
    """Refuse a file that could not be written in the end."""
    if path is None:
        return
    if not path.absolute().parent.is_dir():
        raise UsageError("its folder does not exist", subject=str(path))
    if path.exists() and not path.is_file():
        raise UsageError("is not a file: --json takes the name of one", subject=str(path))


def save_json(path: Path, scores: dict[str, Any]) -> None:
    """Write all scores."""
    from wsi_sampath.data.patches import write_atomically

    text = json.dumps(scores, ensure_ascii=False, indent=2, allow_nan=False)
    try:
        write_atomically(path, f"{text}\n".encode())
    except OSError as error:
        raise UsageError(f"cannot be written: {error}", subject=str(path)) from error
