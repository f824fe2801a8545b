"""``wsi-doctor``: what works here, and whether QuPath would load a GeoJSON."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from wsi_sampath.cli.entry import BEFORE_ANY_SLIDE, new_app, run
from wsi_sampath.errors import EXIT_FAILED, EXIT_OK, UsageError

app = new_app()


@app.command()
def doctor(
    geojson: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="Check that QuPath would load this; may be repeated."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Try how fast results are written here.")
    ] = None,
) -> None:
    """Check this machine, or GeoJSON files. Exit code 0: all is well; 1: something is not."""
    healthy = _check_files(geojson) if geojson else _check_machine(out)
    raise typer.Exit(EXIT_OK if healthy else EXIT_FAILED)


def _check_files(paths: list[Path]) -> bool:
    from wsi_sampath.outputs.packing import SUFFIXES
    from wsi_sampath.outputs.qupath_rules import check_geojson

    healthy = True
    for path in paths:
        if not path.is_file():
            raise UsageError("there is no such file", subject=str(path))
        if not path.name.endswith(SUFFIXES):
            raise UsageError(f"QuPath wants a name in {', '.join(SUFFIXES)}", subject=str(path))
        problems = check_geojson(path)
        healthy = healthy and not problems
        print(f"{path}: {'problems' if problems else 'QuPath loads it'}")
        for problem in problems:
            print(f"  {problem}")
    return healthy


def _check_machine(out: Path | None) -> bool:
    from wsi_sampath.batch.checkup import check_machine

    healthy = True
    for finding in check_machine(out):
        print(f"{'ok      ' if finding.fine else 'PROBLEM '}{finding.line}", flush=True)
        healthy = healthy and finding.fine
    return healthy


def main() -> None:
    """Run the command; every known failure is one line and an exit code."""
    run(app, "wsi-doctor", wrong_use=BEFORE_ANY_SLIDE)
