"""``wsi-evaluate``: how good a model is on labelled patches, or a result on its slide."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from wsi_sampath.cli.entry import new_app, run
from wsi_sampath.errors import UsageError
from wsi_sampath.shown import plural

if TYPE_CHECKING:
    from wsi_sampath.inference.settings import Precision

app = new_app()


_FOR_PATCHES = (
    *("model", "split", "weights", "allow_random_weights", "mpp", "stretch"),
    *("bootstrap", "seed", "batch_size", "device", "precision"),
)


@app.command()
def evaluate(
    context: typer.Context,
    data: Annotated[
        Path,
        typer.Argument(metavar="DATA", help="Folder made by wsi-prepare, or a result NAME.zarr."),
    ],
    model: Annotated[
        str, typer.Option("--model", "-m", help="Name of a model, .safetensors, or .yaml.")
    ] = "gland-mini",
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="OUT.json", help="File for all scores.")
    ] = None,
    split: Annotated[str, typer.Option(help="test, validation, train or all.")] = "test",
    weights: Annotated[Path | None, typer.Option(help="Weights for a .yaml model.")] = None,
    allow_random_weights: Annotated[
        bool, typer.Option("--allow-random-weights", help="Take a .yaml model untrained.")
    ] = False,
    mpp: Annotated[
        float | None, typer.Option(help="um per pixel of the patches [as in classes.yaml].")
    ] = None,
    stretch: Annotated[
        bool, typer.Option("--stretch", help="Stretch all patches to the tile, as the paper.")
    ] = False,
    same: Annotated[
        list[str] | None,
        typer.Option(metavar="MODEL=DATA", help="A class of the model, and a name that means it."),
    ] = None,
    annotations: Annotated[
        Path | None, typer.Option(help="QuPath's GeoJSON of the slide, for a result NAME.zarr.")
    ] = None,
    leave_out: Annotated[
        list[str] | None, typer.Option(help="An annotation class that is not scored.")
    ] = None,
    bootstrap: Annotated[
        int, typer.Option(help="Draws for the 95 % intervals; 0 for none.")
    ] = 1000,
    seed: Annotated[int, typer.Option(help="Seed for the draws.")] = 0,
    batch_size: Annotated[str, typer.Option("--batch-size", "-b", help="auto or N.")] = "auto",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    precision: Annotated[str, typer.Option(help="auto, fp16, bf16 or fp32.")] = "auto",
) -> None:
    """Score a model on labelled patches, or a result: one confusion matrix, Dice, IoU."""
    _check_json(json_file)
    _check(mpp, bootstrap, seed, batch_size, precision)
    renamed = [_renaming(one) for one in same or []]
    if annotations is not None:
        _check_for_slide(context)
        scores = _slide_scores(data, annotations, renamed, leave_out or [])
    else:
        _check_for_patches(data, leave_out)
        from wsi_sampath.evaluation.patches import score_patches

        scores = score_patches(
            data,
            split,
            model,
            renamed=renamed,
            weights=weights,
            allow_random_weights=allow_random_weights,
            draws=bootstrap,
            seed=seed,
            mpp=mpp,
            stretch=stretch,
            device=device,
            precision=cast("Precision", precision),
            batch_size=batch_size,
        )
        _warn_of_scale(scores["scale"], stretch=stretch)
    if json_file is not None:
        _save(json_file, scores)
    _print(scores)


def _warn_of_scale(scale: Sequence[str], *, stretch: bool) -> None:
    guessed = [how for how in scale if "taken to be" in how or "stretched" in how]
    if guessed and not stretch:
        message = f"the pixel size of the patches is unknown ({'; '.join(guessed)}): give --mpp"
        print(f"warning: {message}", file=sys.stderr, flush=True)


def _slide_scores(
    data: Path,
    annotations: Path,
    renamed: Sequence[tuple[str, str]],
    left_out: Sequence[str],
) -> dict[str, Any]:
    from wsi_sampath.evaluation.slides import score_slide

    scores, told = score_slide(data, annotations, renamed, left_out)
    for one in told:
        print(f"warning: {annotations.name}: {one}", file=sys.stderr, flush=True)
    return scores


def _check_for_slide(context: typer.Context) -> None:
    given = [
        name
        for name in _FOR_PATCHES
        if getattr(context.get_parameter_source(name), "name", "") == "COMMANDLINE"
    ]
    if given:
        option = given[0].replace("_", "-")
        raise UsageError(f"--{option} is for labelled patches and changes nothing of a result")


def _check_for_patches(data: Path, leave_out: Sequence[str] | None) -> None:
    if data.name.endswith(".zarr"):
        message = "is a result: give what to score it against with --annotations FILE.geojson"
        raise UsageError(message, subject=str(data))
    if leave_out:
        raise UsageError("--leave-out is for --annotations; patches have 0 where nothing is scored")


def _check_json(path: Path | None) -> None:
    if path is None:
        return
    if not path.absolute().parent.is_dir():
        raise UsageError("its folder does not exist", subject=str(path))
    if path.exists() and not path.is_file():
        raise UsageError("is not a file: --json takes the name of one", subject=str(path))


def _check(mpp: float | None, bootstrap: int, seed: int, batch_size: str, precision: str) -> None:
    if mpp is not None and not 0 < mpp < math.inf:
        raise UsageError(f"--mpp {mpp} must be a number above 0")
    if seed < 0:
        raise UsageError(f"--seed {seed} must be 0 or more")
    if bootstrap < 0:
        raise UsageError(f"--bootstrap {bootstrap} must be 0 or more")
    if batch_size != "auto" and not (batch_size.isdecimal() and int(batch_size)):
        raise UsageError(f"--batch-size {batch_size!r} is neither auto nor a whole number above 0")
    if precision not in ("auto", "fp16", "bf16", "fp32"):
        raise UsageError(f"--precision {precision!r} is not auto, fp16, bf16 or fp32")


def _renaming(pair: str) -> tuple[str, str]:
    name, equals, other = pair.partition("=")
    if not (name and equals and other):
        raise UsageError(f"--same {pair!r} is not of the form MODEL=DATA")
    return name, other


def _save(path: Path, scores: dict[str, Any]) -> None:
    from wsi_sampath.data.patches import write_atomically

    text = json.dumps(scores, ensure_ascii=False, indent=2, allow_nan=False)
    try:
        write_atomically(path, f"{text}\n".encode())
    except OSError as error:
        raise UsageError(f"cannot be written: {error}", subject=str(path)) from error


def _print(scores: dict[str, Any]) -> None:
    print(_heading(scores))
    macro, micro, image = scores["macro"], scores["micro"], scores["per_image"]
    rows = [*scores["per_class"].items(), ("macro", macro)]
    for name, score in [*rows, *([("mean over images", image)] if "patches" in scores else [])]:
        dice, iou = _with_ci(score, "dice"), _with_ci(score, "iou")
        print(f"  {name:16} Dice {dice}  IoU {iou}")
    print(f"  {'pixel accuracy':16}      {_with_ci(micro, 'pixel_accuracy')}")
    for name in ("Dice", "IOU_Jaccard") if _is_of_paper(scores) else ():
        paper = scores["paper"][name]
        print(f"  {'paper ' + name:17} {paper['value']:9.4f}  ({paper['is']})", flush=True)


def _is_of_paper(scores: dict[str, Any]) -> bool:
    """Return whether the classes are those of the paper's data: elsewhere its numbers mislead."""
    from wsi_sampath.data.grouping import read_grouping

    names = {one.casefold() for one in scores["per_class"]}
    return any(
        names == {one.name for one in read_grouping(data).plain_classes}
        for data in ("bcss", "crag")
    )


def _heading(scores: dict[str, Any]) -> str:
    if "annotations" in scores:
        um_x, um_y = scores["um_per_pixel"]
        return (
            f"{scores['model']} on {scores['data']}, against {scores['annotations']}: "
            f"{scores['annotated_mm2']:.4g} mm2 at {um_x:.4g} x {um_y:.4g} um per pixel, "
            f"{100 * scores['not_analysed']:.1f} % of it not analysed"
        )
    return (
        f"{scores['model']} on {scores['data']} ({scores['split']}): "
        f"{plural(scores['patches'], 'patch', 'patches')} "
        f"of {plural(scores['cases'], 'case')}; {', '.join(scores['scale'])}"
    )


def _with_ci(score: dict[str, Any], name: str) -> str:
    value, interval = score[name], score[f"{name}_ci"]
    if value is None:
        return "   -"
    return f"{value:.4f}" + (f" [{interval[0]:.4f}, {interval[1]:.4f}]" if interval else "")


def main() -> None:
    """Run the command; every known failure is one line and an exit code."""
    run(app, "wsi-evaluate")
