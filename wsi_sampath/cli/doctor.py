"""``wsi-doctor``: what works here, and whether QuPath would load a GeoJSON."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from wsi_sampath.cli.entry import BEFORE_ANY_SLIDE, new_app, run
from wsi_sampath.cli.help import Command
from wsi_sampath.errors import EXIT_FAILED, EXIT_OK, UsageError

app = new_app()

_READ_BY_QUPATH = (".geojson", ".json", ".geojson.gz", ".json.gz", ".geojson.zip", ".zip")
_MARKS = {"refuses": "", "changes": "changed: ", "ours": "not ours: "}


@app.command(cls=Command)
def doctor(
    geojson: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="Tell what QuPath makes of this; may be repeated."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Try how fast results are written here.")
    ] = None,
) -> None:
    """Check this machine, or GeoJSON files. Exit code 0: all is well; 1: something is not."""
    healthy = _check_files(geojson) if geojson else _check_machine(out)
    raise typer.Exit(EXIT_OK if healthy else EXIT_FAILED)


def _check_files(paths: list[Path]) -> bool:
    from wsi_sampath.outputs.qupath.rules import VERDICTS, gravest, judge_geojson

    loads = True
    for path in paths:
        if not path.is_file():
            raise UsageError("there is no such file", subject=str(path))
        if not path.name.lower().endswith(_READ_BY_QUPATH):
            wanted = ", ".join(_READ_BY_QUPATH)
            raise UsageError(f"QuPath wants a name in {wanted}", subject=str(path))
        found = judge_geojson(path)
        verdict = gravest(found)
        loads = loads and verdict in (None, "ours")
        print(f"{path}: {VERDICTS[verdict] if verdict else 'QuPath loads it'}")
        for kind, mark in _MARKS.items():
            for one in found:
                if one.verdict == kind:
                    print(f"  {mark}{_shown(one.text)}")
    return loads


def _shown(text: str) -> str:
    """Return a text that a terminal can show, whatever a file put into it."""
    return "".join(one if one.isprintable() else ascii(one)[1:-1] for one in text)


def _check_machine(out: Path | None) -> bool:
    from wsi_sampath.doctor import check_machine

    healthy = True
    for finding in check_machine(out):
        print(f"{'ok      ' if finding.fine else 'PROBLEM '}{finding.line}", flush=True)
        healthy = healthy and finding.fine
    return healthy


def main() -> None:
    """Run the command; every known failure is one line and an exit code."""
    run(app, "wsi-doctor", wrong_use=BEFORE_ANY_SLIDE)
