"""``wsi-evaluate``: how good a model is on labelled patches, or a result on its slide."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from wsi_sampath.cli.entry import new_app, run
from wsi_sampath.cli.help import Command
from wsi_sampath.cli.options import flag_of, with_options
from wsi_sampath.cli.score_file import JsonFile, check_json, save_json
from wsi_sampath.errors import UsageError
from wsi_sampath.evaluation.settings import PatchScoring
from wsi_sampath.settings import Panel
from wsi_sampath.shown import plural

app = new_app()
_PROMPTS = "prompts"
"""The first word where answers to prompts are scored; a folder of that name is ./prompts."""

_NUCLEUS_SCORES = {
    "f1_50": "F1 at IoU 0.5",
    "precision": "precision",
    "recall": "recall",
    "mean_iou": "mean IoU of matches",
    "aji": "aggregated Jaccard (AJI)",
    "pq": "panoptic quality (PQ)",
    "msa": "mSA, IoU 0.50 to 0.95",
    "sa50": "SA at IoU 0.50",
    "sa75": "SA at IoU 0.75",
}


@app.command(cls=Command)
@with_options(settings=PatchScoring)
def evaluate(
    context: typer.Context,
    data: Annotated[
        Path,
        typer.Argument(metavar="DATA", help="Folder made by wsi-prepare, or a result NAME.zarr."),
    ],
    settings: PatchScoring,
    annotations: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="QuPath's GeoJSON of the slide, to score a result NAME.zarr against.",
            rich_help_panel=Panel.SLIDE.value,
        ),
    ] = None,
    leave_out: Annotated[
        list[str] | None,
        typer.Option(
            help="An annotation class that is not scored; may be repeated.",
            rich_help_panel=Panel.SLIDE.value,
        ),
    ] = None,
    same: Annotated[
        list[str] | None,
        typer.Option(
            metavar="MODEL=DATA",
            help="A class of the model, and a name that means it; may be repeated.",
            rich_help_panel=Panel.SCORES.value,
        ),
    ] = None,
    paper_metrics: Annotated[
        bool,
        typer.Option(
            "--paper-metrics",
            help="Also what SAM-Path's code computes, under its names, to compare with the paper.",
            rich_help_panel=Panel.SCORES.value,
        ),
    ] = False,
    json_file: JsonFile = None,
) -> None:
    """Score a model on labelled patches, or a result: Dice and IoU, or F1, AJI and PQ of nuclei.

    Answers to prompts are scored by wsi-evaluate prompts DATA; see wsi-evaluate prompts --help.
    """
    check_json(json_file)
    renamed = [_renaming(pair) for pair in same or []]
    if annotations is not None:
        _check_for_slide(context)
        scores = _slide_scores(data, annotations, renamed, leave_out or [])
    else:
        _check_for_patches(context, data, leave_out)
        scores = _patch_scores(data, settings, renamed)
    if not paper_metrics:
        scores.pop("paper", None)
    if json_file is not None:
        save_json(json_file, scores)
    _print(scores, settings.pictures)


def _patch_scores(
    data: Path, settings: PatchScoring, renamed: Sequence[tuple[str, str]]
) -> dict[str, Any]:
    # Imported here, as below: what is wrong is said before torch has been imported.
    from wsi_sampath.evaluation.patches import score_patches

    scores = score_patches(data, settings, renamed)
    _warn_of_scale(scores["scale"], stretch=settings.stretch)
    return scores


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
    for name in PatchScoring.model_fields:
        if _is_given(context, name):
            flag = flag_of(PatchScoring, name)
            raise UsageError(f"{flag} is for labelled patches and changes nothing of a result")


def _is_given(context: typer.Context, name: str) -> bool:
    return getattr(context.get_parameter_source(name), "name", "") == "COMMANDLINE"


def _check_for_patches(context: typer.Context, data: Path, leave_out: Sequence[str] | None) -> None:
    if _is_given(context, "worst") and not _is_given(context, "pictures"):
        raise UsageError("--worst N says how many patches are drawn: add --pictures FOLDER")
    if data.name.endswith(".zarr"):
        message = "is a result: give what to score it against with --annotations FILE.geojson"
        raise UsageError(message, subject=str(data))
    if leave_out:
        raise UsageError("--leave-out is for --annotations; patches have 0 where nothing is scored")


def _renaming(pair: str) -> tuple[str, str]:
    name, equals, other = pair.partition("=")
    if not (name and equals and other):
        raise UsageError(f"--same {pair!r} is not of the form MODEL=DATA")
    return name, other


def _print(scores: dict[str, Any], pictures: Path | None) -> None:
    from wsi_sampath.evaluation.confusions import confusion_lines

    print(_heading(scores))
    if "instances" in scores:
        _print_nuclei(scores)
    else:
        _print_pixels(scores)
    if "confusion" in scores and len(scores["confusion"]["predicted"]) > 2:
        for line in confusion_lines(scores["confusion"], shutil.get_terminal_size().columns):
            print(line)
    for name in ("Dice", "IOU_Jaccard") if "paper" in scores else ():
        paper = scores["paper"][name]
        print(f"  {'paper ' + name:17} {paper['value']:9.4f}  ({paper['is']})")
    if "worst" in scores:
        drawn = plural(len(scores["worst"]), "patch", "patches")
        print(f"  the worst: {drawn} drawn in {pictures}, worst first", flush=True)


def _print_pixels(scores: dict[str, Any]) -> None:
    macro, micro, image = scores["macro"], scores["micro"], scores["per_image"]
    rows = [*scores["per_class"].items(), ("macro", macro)]
    for name, score in [*rows, *([("mean over images", image)] if "patches" in scores else [])]:
        dice, iou = _with_ci(score, "dice"), _with_ci(score, "iou")
        print(f"  {name:16} Dice {dice}  IoU {iou}")
    print(f"  {'pixel accuracy':16}      {_with_ci(micro, 'pixel_accuracy')}")


def _print_nuclei(scores: dict[str, Any]) -> None:
    found = scores["instances"]
    print(f"  {plural(found['true'], 'nucleus', 'nuclei')} labelled, {found['found']} found")
    for name, words in _NUCLEUS_SCORES.items():
        print(f"  {words:28} {_with_ci(found, name)}")
    classes = scores["instance_classes"]
    if classes is not None:
        for name, score in classes["per_class"].items():
            print(f"  {name:16} F1 {_with_ci(score, 'f1_50')}  PQ {_with_ci(score, 'pq')}")
        print(f"  {'mPQ':28} {_with_ci(classes, 'mpq')}")


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
    if sys.argv[1:2] == [_PROMPTS]:
        from wsi_sampath.cli import evaluate_prompts

        run(evaluate_prompts.app, f"wsi-evaluate {_PROMPTS}", words=sys.argv[2:])
        return
    run(app, "wsi-evaluate")
