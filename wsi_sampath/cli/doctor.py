"""``wsi-doctor``: what works here, and whether QuPath would load a GeoJSON."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated

import typer

from wsi_sampath.cli.entry import new_app, run
from wsi_sampath.errors import EXIT_FAILED, EXIT_OK, UsageError

_PACKAGES = (
    "wsi-sampath",
    "torch",
    "numpy",
    "zarr",
    "shapely",
    "openslide-python",
    "tiffslide",
    "tifffile",
    "imagecodecs",
)

app = new_app()


@app.command()
def doctor(
    geojson: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="Check that QuPath would load this; may be repeated."),
    ] = None,
) -> None:
    """Check this installation, or GeoJSON files. Exit code 0: all is well; 1: something is not."""
    healthy = _check_files(geojson) if geojson else _check_machine()
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


def _check_machine() -> bool:
    checks: tuple[Callable[[], Iterator[tuple[bool, str]]], ...] = (
        _python,
        _packages,
        _openslide,
        _devices,
        _models,
    )
    healthy = True
    for check in checks:
        for fine, line in check():
            print(f"{'ok      ' if fine else 'PROBLEM '}{line}", flush=True)
            healthy = healthy and fine
    return healthy


def _python() -> Iterator[tuple[bool, str]]:
    found = sys.version.split()[0]
    yield sys.version_info >= (3, 11), f"Python {found} (3.11 or newer is needed)"


def _packages() -> Iterator[tuple[bool, str]]:
    for name in _PACKAGES:
        try:
            yield True, f"{name} {version(name)}"
        except PackageNotFoundError:
            yield False, f"{name} is not installed: pip install {name}"


def _openslide() -> Iterator[tuple[bool, str]]:
    try:
        import openslide
    except (ImportError, OSError) as error:
        yield False, f"OpenSlide does not load ({error}): pip install openslide-bin"
    else:
        yield True, f"OpenSlide library {openslide.__library_version__}"


def _devices() -> Iterator[tuple[bool, str]]:
    import torch

    count = torch.cuda.device_count()
    for index in range(count):
        properties = torch.cuda.get_device_properties(index)
        memory = properties.total_memory / 2**30
        yield True, f"cuda:{index} {properties.name}, {memory:.0f} GiB"
    if torch.backends.mps.is_available():
        yield True, "mps"
    elif not count:
        yield True, "no GPU: the network runs on the CPU, slowly"


def _models() -> Iterator[tuple[bool, str]]:
    from wsi_sampath.models.zoo import bundled_models

    names = ", ".join(bundled_models())
    yield bool(names), f"bundled models: {names or 'none; install the package again'}"


def main() -> None:
    """Run the command; every known failure is one line and an exit code."""
    run(app, "wsi-doctor", wrong_use=None)
