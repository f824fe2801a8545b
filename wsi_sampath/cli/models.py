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
from wsi_sampath.cli.help import Command
from wsi_sampath.errors import UsageError
from wsi_sampath.shown import shown

if TYPE_CHECKING:
    from wsi_sampath.models.build import AnyNetwork
    from wsi_sampath.models.patho_sam.network import PathoSam
    from wsi_sampath.models.patho_sam.spec import PathoSamSpec
    from wsi_sampath.models.published.catalogue import PublishedFile
    from wsi_sampath.models.sam_path.network import SamPath
    from wsi_sampath.models.sam_path.spec import SamPathSpec
    from wsi_sampath.models.spec import ModelSpec

_MIB = 2**20
_DAMAGED, _UNREADABLE = "damaged", "no access"
_DOUBT = {
    _DAMAGED: " (not the published file: fetch it again)",
    _UNREADABLE: " (cannot be read)",
}
_LINE_EVERY_S = 10.0
app = new_app("Models and published weights: list, info, fetch, import.")


@app.command("list", cls=Command)
def list_models() -> None:
    """List the bundled models and the published weights that can be fetched."""
    from wsi_sampath.models.published.catalogue import FILES
    from wsi_sampath.models.zoo import bundled_models

    for name, path in bundled_models().items():
        _row(name, path.stat().st_size, "bundled", "ready to use as --model")
    for entry in FILES:
        _row(entry.name, entry.size, _state(entry), entry.purpose)


@app.command(cls=Command)
def info(
    name: Annotated[str, typer.Argument(help="A name from the list, or a .safetensors or .yaml.")],
) -> None:
    """Say all that is known about a model, or about published weights."""
    from wsi_sampath.models.origin import warnings_of
    from wsi_sampath.models.published.catalogue import FILES, published_file
    from wsi_sampath.models.zoo import bundled_models, describe_model, provenance_of
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
def fetch(
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="Names from the list.")],
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
        print(f"{entry.name}: verified, {path}", flush=True)


@app.command("import", cls=Command)
def import_weights(
    spec: Annotated[Path, typer.Option(help="YAML that describes the model.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The .safetensors to write.")],
    file: Annotated[
        Path | None,
        typer.Argument(help="A trained checkpoint of SAM-Path's or PathoSAM's authors."),
    ] = None,
    sam: Annotated[
        str | None,
        typer.Option(help="SAM's weights, for a new SAM-Path or with --decoder: a file or a name."),
    ] = None,
    hipt: Annotated[
        str | None,
        typer.Option(
            "--hipt", "--pathology", help="Pathology encoder of a new SAM-Path: HIPT, a timm state."
        ),
    ] = None,
    decoder: Annotated[
        str | None, typer.Option(help="PathoSAM's nucleus decoder, beside --sam.")
    ] = None,
    class_decoder: Annotated[
        str | None, typer.Option(help="PathoSAM's decoder of classes, if the YAML has one.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed for what is random in a new model.")] = 0,
    half: Annotated[
        bool, typer.Option("--half", help="Store float16 in place of float32.")
    ] = False,
    description: Annotated[
        str | None, typer.Option(help="What the model is, over what the YAML says.")
    ] = None,
    licence: Annotated[
        str | None, typer.Option(help="Licence of the weights, over what the YAML says.")
    ] = None,
) -> None:
    """Turn published weights into one .safetensors file that --model takes.

    Of SAM-Path either FILE, a trained one; or --sam and --hipt, to start the training of a new one.
    Of PathoSAM FILE with both its parts, or --sam and --decoder.
    """
    import torch

    from wsi_sampath.models.checkpoints import save_checkpoint
    from wsi_sampath.models.origin import with_claims
    from wsi_sampath.models.parse import spec_from_yaml
    from wsi_sampath.models.patho_sam.spec import PathoSamSpec
    from wsi_sampath.models.zoo import unclaimed

    _check_import(file, sam, out)
    told = with_claims(unclaimed(spec_from_yaml(spec)), description, licence)
    model: AnyNetwork
    if isinstance(told, PathoSamSpec):
        _refuse(f"'{told.name}' is a PathoSAM", hipt=hipt)
        model, provenance = _patho_sam(told, file, sam, decoder, class_decoder), ""
    else:
        _refuse(f"'{told.name}' is a SAM-Path", decoder=decoder, class_decoder=class_decoder)
        model, provenance = _sam_path(told, file, sam, hipt, seed)
    dtype = torch.float16 if half else torch.float32
    save_checkpoint(model, out, dtype=dtype, provenance=provenance)
    print(f"{out}: {told.name}, {len(told.classes)} classes")


def _sam_path(
    spec: SamPathSpec, file: Path | None, sam: str | None, hipt: str | None, seed: int
) -> tuple[SamPath, str]:
    """Return a SAM-Path, trained or new, and its provenance."""
    from wsi_sampath.models.origin import provenance_of_start
    from wsi_sampath.models.published.download import weights_file
    from wsi_sampath.models.sam_path.importing import import_sam_path
    from wsi_sampath.models.sam_path.start import RANDOM_PARTS, start_sam_path

    if file is not None:
        if hipt is not None:
            raise UsageError("--hipt goes with --sam: a trained SAM-Path has its pathology encoder")
        return import_sam_path(file, spec), ""
    pathology = None if hipt is None else weights_file(hipt)
    model = start_sam_path(spec, weights_file(sam or ""), pathology, seed=seed)
    return model, provenance_of_start(RANDOM_PARTS)


def _patho_sam(
    spec: PathoSamSpec,
    file: Path | None,
    sam: str | None,
    decoder: str | None,
    class_decoder: str | None,
) -> PathoSam:
    from wsi_sampath.models.patho_sam.importing import import_patho_sam
    from wsi_sampath.models.published.download import weights_file

    nuclei, classes = (one and weights_file(one) for one in (decoder, class_decoder))
    return import_patho_sam(
        file or weights_file(sam or ""), spec, decoder=nuclei, class_decoder=classes
    )


def _refuse(why: str, **options: str | None) -> None:
    """Refuse options that mean nothing for a model."""
    for name, value in options.items():
        if value is not None:
            raise UsageError(f"{why}, for which --{name.replace('_', '-')} means nothing")


def _check_import(file: Path | None, sam: str | None, out: Path) -> None:
    if (file is None) == (sam is None):
        raise UsageError("give either the file of a trained model, or --sam (see --help)")
    if out.suffix != ".safetensors":
        raise UsageError("--out must end in .safetensors", subject=str(out))
    if not out.parent.is_dir():
        raise UsageError("its folder does not exist", subject=str(out))


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
        "digest": entry.digest,
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
    return {
        "name": spec.name,
        "what": spec.description or spec.architecture,
        "licence": spec.licence or "not stated",
        "trained on": spec.training_data or "not stated",
        "classes": ", ".join(one.name for one in spec.classes),
        "size": f"{weights / 1e6:.1f} million weights",
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
