"""``wsi-models``: what there is, fetch published weights, turn them into models, export these."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wsi_sampath.cli.entry import new_app, run
from wsi_sampath.cli.exports import ExportRequest, exported
from wsi_sampath.cli.help import Command
from wsi_sampath.cli.imports import ImportRequest
from wsi_sampath.cli.options import suggesting, with_options
from wsi_sampath.errors import UsageError
from wsi_sampath.models.shipped import all_names, bundled_models
from wsi_sampath.shown import plural, shown

if TYPE_CHECKING:
    from wsi_sampath.models.published.catalogue import PublishedFile
    from wsi_sampath.models.spec import ModelSpec

_MIB = 2**20
_DAMAGED, _UNREADABLE = "damaged", "no access"
_DOUBT = {
    _DAMAGED: " (not the published file: fetch it again)",
    _UNREADABLE: " (cannot be read)",
}
_LINE_EVERY_S = 10.0
app = new_app("Models and published weights: list, info, keys, fetch, import, export.")


@app.command("list", cls=Command)
def list_models() -> None:
    """List the bundled models and the published weights that can be fetched."""
    from wsi_sampath.models.published.catalogue import FILES

    for name, path in bundled_models().items():
        _row(name, path.stat().st_size, "bundled", "ready to use as --model")
    for entry in FILES:
        _row(entry.name, entry.size, _state(entry), entry.purpose)


@app.command(cls=Command)
def info(
    name: Annotated[
        str,
        typer.Argument(
            help="A name from the list, or a .safetensors or .yaml.",
            autocompletion=suggesting(all_names),
        ),
    ],
) -> None:
    """Say all that is known about a model, or about published weights."""
    from wsi_sampath.models.described import provenance_of
    from wsi_sampath.models.origin import warnings_of
    from wsi_sampath.models.published.catalogue import FILES, published_file
    from wsi_sampath.models.zoo import describe_model
    from wsi_sampath.settings import nearest_name

    bundled = bundled_models()
    if name in bundled or Path(name).suffix:
        spec, weights = describe_model(name)
        _print_fields(_describe_model(spec, weights))
        for warning in warnings_of(spec, provenance_of(name)):
            print(f"warning: {shown(warning)}", file=sys.stderr)
    elif Path(name).exists():
        raise UsageError("is neither a .safetensors nor a .yaml file", subject=name)
    elif (meant := nearest_name(name, [*bundled, *(one.name for one in FILES)])) in bundled:
        raise UsageError(f"no model '{name}'; did you mean '{meant}'?")
    else:
        _print_fields(_describe_file(published_file(name)))


@app.command(cls=Command)
def keys() -> None:
    """List the keys of a specification, with type, default and meaning."""
    from wsi_sampath.cli.keys import print_model_keys

    print_model_keys()


@app.command(cls=Command)
def fetch(
    names: Annotated[
        list[str],
        typer.Argument(
            metavar="NAME",
            help="Names from the list.",
            autocompletion=suggesting(all_names),
        ),
    ],
    source: Annotated[
        str | None, typer.Option("--from", help="A folder or a mirror's URL with the files.")
    ] = None,
) -> None:
    """Download published weights into the cache (WSI_SAMPATH_CACHE), and verify them."""
    from wsi_sampath.models.published.catalogue import published_file
    from wsi_sampath.models.published.download import fetch as fetch_file

    for entry in [published_file(name) for name in names]:
        print(f"{entry.name}: {entry.purpose}; licence: {entry.licence}", flush=True)
        with _progress(entry.name) as progress:
            path = fetch_file(entry, source=source, progress=progress)
        checked = "verified" if entry.digest else "not verified, since no digest is known"
        print(f"{entry.name}: {checked}, {path}", flush=True)


@app.command("import", cls=Command)
@with_options(request=ImportRequest)
def import_weights(
    request: ImportRequest,
    file: Annotated[
        Path | None,
        typer.Argument(help="A trained SAM-Path or PathoSAM of its authors, SAM or MobileSAM."),
    ] = None,
) -> None:
    """Turn published weights into one .safetensors file that --model takes.

    Of SAM-Path either FILE, a trained one; or --sam and --hipt, to start the training of a new one.
    Of PathoSAM FILE with both its parts, or --sam and --decoder. Of SAM and MobileSAM FILE, or
    --sam. Of WSI-SAM --sam, --high and --low; or --sam alone, to start the training of a new one.
    """
    import torch

    from wsi_sampath.cli.imports import imported
    from wsi_sampath.models.checkpoints import save_checkpoint

    model, provenance = imported(request, file)
    dtype = torch.float16 if request.half else torch.float32
    save_checkpoint(model, request.out, dtype=dtype, provenance=provenance)
    spec = model.spec
    what = plural(len(spec.classes), "class", "classes") if spec.makes_maps else "answers prompts"
    print(f"{request.out}: {spec.name}, {what}")


@app.command(cls=Command)
@with_options(request=ExportRequest)
def export(
    request: ExportRequest,
    model: Annotated[
        str,
        typer.Argument(
            help="A bundled model, or a .safetensors.", autocompletion=suggesting(bundled_models)
        ),
    ],
) -> None:
    """Write a model that makes maps as ONNX, for ONNX Runtime.

    Tiles in, the maps of each tile out, normalisation inside. Class names, colours, um per pixel
    and what else is needed are in the file's metadata.
    """
    print(exported(request, model))


def _row(name: str, size: int | None, state: str, text: str) -> None:
    print(f"{name:24}{_mebibytes(size):>10} {state:9} {text}")


def _mebibytes(size: int | None) -> str:
    return "?" if size is None else f"{size / _MIB:.1f} MiB"


def _describe_file(entry: PublishedFile) -> dict[str, str]:
    from wsi_sampath.cache import cache_folder
    from wsi_sampath.models.published.download import cached

    here = cached(entry)
    return {
        "name": entry.name,
        "what": entry.purpose,
        "licence": entry.licence,
        "url": entry.url,
        "size": f"{entry.size} bytes" if entry.size else "not stated",
        "digest": entry.digest or "not stated: the file cannot be verified",
        "file": f"{here}{_DOUBT.get(_state(entry), '')}"
        if here
        else f"not fetched; will be {cache_folder() / entry.file}",
    }


def _state(entry: PublishedFile) -> str:
    """Return whether a file was fetched, and is still what was published."""
    from wsi_sampath.models.published.download import cached, is_genuine

    here = cached(entry)
    if here is None:
        return "-"
    try:
        return "fetched" if is_genuine(entry, here) else _DAMAGED
    except OSError:
        return _UNREADABLE


def _describe_model(spec: ModelSpec, weights: int) -> dict[str, str]:
    every = f"every {spec.output_stride} px, {spec.mpp * spec.output_stride} um"
    return {
        "name": spec.name,
        "what": spec.description or spec.architecture,
        "licence": spec.licence or "not stated",
        "trained on": spec.training_data or "not stated",
        "classes": ", ".join(one.name for one in spec.classes),
        "size": f"{weights / 1e6:.1f} million weights",
        "mpp": " and ".join(f"{spec.mpp * view} um" for view in spec.views),
        "tile": f"{spec.tile} px",
        "output": every if spec.makes_maps else f"masks, {every}, for prompts only (wsi-prompt)",
    }


def _print_fields(fields: dict[str, str]) -> None:
    for name, value in fields.items():
        print(f"{name:12}{value}")


@contextmanager
def _progress(name: str) -> Iterator[Callable[[int, int | None], None]]:
    """Show a live bar on a terminal, a plain line every ten seconds elsewhere."""
    if not sys.stderr.isatty():
        yield _PlainLines(name)
        return
    from rich.console import Console
    from rich.progress import DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

    columns = (*Progress.get_default_columns()[:2], DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True)) as bar:
        task = bar.add_task(name, total=None)
        yield lambda have, total: bar.update(task, completed=have, total=total)


class _PlainLines:
    def __init__(self, name: str) -> None:
        self.name, self.told = name, time.monotonic()

    def __call__(self, have: int, total: int | None) -> None:
        if time.monotonic() - self.told >= _LINE_EVERY_S:
            self.told = time.monotonic()
            print(f"{self.name}: {_mebibytes(have)} of {_mebibytes(total)}", file=sys.stderr)


def main() -> None:
    """Run the command; every known failure is one line and an exit code."""
    run(app, "wsi-models")
