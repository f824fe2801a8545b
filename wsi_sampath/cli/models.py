"""``wsi-models``: what there is, fetch published weights, turn them into models."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wsi_sampath.cli.entry import new_app, run
from wsi_sampath.errors import UsageError

if TYPE_CHECKING:
    from wsi_sampath.models.catalogue import PublishedFile
    from wsi_sampath.models.spec import ModelSpec

_MIB = 2**20
_LINE_EVERY_S = 10.0
app = new_app("Models and published weights: list, info, fetch, import.")


@app.command("list")
def list_models() -> None:
    """List the bundled models and the published weights that can be fetched."""
    from wsi_sampath.models.catalogue import FILES
    from wsi_sampath.models.download import cached
    from wsi_sampath.models.zoo import bundled_models

    for name, path in bundled_models().items():
        _row(name, path.stat().st_size, "bundled", "ready to use as --model")
    for entry in FILES:
        _row(entry.name, entry.size, "fetched" if cached(entry) else "-", entry.purpose)


@app.command()
def info(
    name: Annotated[str, typer.Argument(help="A name from the list, or a .safetensors or .yaml.")],
) -> None:
    """Say all that is known about a model, or about published weights."""
    from wsi_sampath.models.catalogue import published_file
    from wsi_sampath.models.zoo import bundled_models, model_spec

    if name in bundled_models() or Path(name).suffix:
        _print_fields(_describe_model(model_spec(name)))
    else:
        _print_fields(_describe_file(published_file(name)))


@app.command()
def fetch(
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="Names from the list.")],
    source: Annotated[
        str | None, typer.Option("--from", help="A folder or a mirror's URL with the files.")
    ] = None,
) -> None:
    """Download published weights into the cache (WSI_SAMPATH_CACHE), and verify them."""
    from wsi_sampath.models.catalogue import published_file
    from wsi_sampath.models.download import fetch as fetch_file

    for entry in [published_file(name) for name in names]:
        print(f"{entry.name}: {entry.purpose}; licence: {entry.licence}", flush=True)
        with _progress(entry.name) as progress:
            path = fetch_file(entry, source=source, progress=progress)
        print(f"{entry.name}: verified, {path}", flush=True)


@app.command("import")
def import_weights(
    spec: Annotated[Path, typer.Option(help="YAML that describes the model.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The .safetensors to write.")],
    file: Annotated[
        Path | None, typer.Argument(help="A trained SAM-Path checkpoint of its authors.")
    ] = None,
    sam: Annotated[
        str | None, typer.Option(help="Start a new model from SAM: a .pth, or a fetched name.")
    ] = None,
    hipt: Annotated[
        str | None,
        typer.Option("--hipt", "--pathology", help="Its pathology encoder: HIPT, a timm state."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of what is random in a new model.")] = 0,
    half: Annotated[
        bool, typer.Option("--half", help="Store float16 in place of float32.")
    ] = False,
) -> None:
    """Turn published weights into one .safetensors file that --model takes.

    Either FILE, a trained SAM-Path; or --sam and --hipt, to start the training of a new one.
    """
    import torch

    from wsi_sampath.models.checkpoints import save_checkpoint
    from wsi_sampath.models.download import weights_file
    from wsi_sampath.models.importing import import_sam_path, start_sam_path
    from wsi_sampath.models.spec import ModelSpec

    _check_import(file, sam, hipt, out)
    description = ModelSpec.from_yaml(spec)
    if sam is None:
        model = import_sam_path(file or "", description)
    else:
        pathology = None if hipt is None else weights_file(hipt)
        model = start_sam_path(description, weights_file(sam), pathology, seed=seed)
    save_checkpoint(model, out, dtype=torch.float16 if half else torch.float32)
    print(f"{out}: {description.name}, {len(description.classes)} classes")


def _check_import(file: Path | None, sam: str | None, hipt: str | None, out: Path) -> None:
    if (file is None) == (sam is None):
        raise UsageError("give either the file of a trained SAM-Path, or --sam (see --help)")
    if file is not None and hipt is not None:
        raise UsageError("--hipt goes with --sam: a trained SAM-Path has its pathology encoder")
    if out.suffix != ".safetensors":
        raise UsageError("--out must end in .safetensors", subject=str(out))
    if not out.parent.is_dir():
        raise UsageError("its folder does not exist", subject=str(out))


def _row(name: str, size: int | None, state: str, text: str) -> None:
    print(f"{name:26}{_mebibytes(size):>10}  {state:8} {text}")


def _mebibytes(size: int | None) -> str:
    return "?" if size is None else f"{size / _MIB:.1f} MiB"


def _describe_file(entry: PublishedFile) -> dict[str, str]:
    from wsi_sampath.models.download import cache_folder, cached

    here = cached(entry)
    return {
        "name": entry.name,
        "what": entry.purpose,
        "licence": entry.licence,
        "url": entry.url,
        "size": f"{entry.size} bytes" if entry.size else "not stated",
        "digest": entry.digest,
        "file": str(here) if here else f"not fetched; will be {cache_folder() / entry.file}",
    }


def _describe_model(spec: ModelSpec) -> dict[str, str]:
    return {
        "name": spec.name,
        "what": spec.description or spec.architecture,
        "licence": spec.licence or "not stated",
        "trained on": spec.training_data or "not stated",
        "classes": ", ".join(one.name for one in spec.classes),
        "mpp": f"{spec.mpp} um",
        "tile": f"{spec.tile} px",
        "output": f"every {spec.output_stride} px, {spec.mpp * spec.output_stride} um",
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
