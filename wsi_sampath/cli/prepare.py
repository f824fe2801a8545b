"""``wsi-prepare``: public data sets and a lab's own masks to labelled patches."""

from __future__ import annotations

import signal
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wsi_sampath.errors import EXIT_FAILED, EXIT_USAGE, UsageError, WsiError

if TYPE_CHECKING:
    from wsi_sampath.training.grouping import Grouping
    from wsi_sampath.training.prepare import Plan

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    help="Turn data sets into labelled patches: patches, bcss, crag.",
)

Out = Annotated[Path, typer.Option("--out", "-o", help="Folder for img, mask and patches.csv.")]
Classes = Annotated[
    str | None,
    typer.Option(help="What mask values mean: a YAML file, or bcss, crag, glands, rings, ..."),
]
Folds = Annotated[int, typer.Option(help="Parts of what is not test; one is for validation.")]
Seed = Annotated[int, typer.Option(help="Of the draw of the folds.")]


@app.command()
def patches(
    images: Annotated[
        list[Path], typer.Option(help="Folder of images; may be repeated, each with --masks.")
    ],
    masks: Annotated[list[Path], typer.Option(help="Folder of masks of the same names.")],
    out: Out,
    classes: Classes = None,
    mask_suffix: Annotated[
        str, typer.Option(help="What names of masks have at their end, such as _anno (GlaS).")
    ] = "",
    case: Annotated[
        str, typer.Option(help="Regular expression that finds the patient in a name (group 1).")
    ] = "",
    test_cases: Annotated[
        str, typer.Option(help="Regular expression: cases of the test split [drawn].")
    ] = "",
    test: Annotated[float, typer.Option(help="Share of the test split, if it is drawn.")] = 0.2,
    folds: Folds = 5,
    seed: Seed = 0,
    mpp: Annotated[
        float | None, typer.Option(help="um per pixel of the images, noted for wsi-evaluate.")
    ] = None,
) -> None:
    """Folders of images and masks; black-and-white masks mean other and gland."""
    from wsi_sampath.training.prepare import plan_patches

    plan = plan_patches(
        images,
        masks,
        out,
        grouping=_grouping(classes),
        mask_suffix=mask_suffix,
        case=case,
        test_cases=test_cases,
        test=test,
        folds=folds,
        seed=seed,
        mpp=mpp,
    )
    if not case:
        _warn("without --case every image is a patient of its own, which flatters all scores")
    _write(plan)


@app.command()
def bcss(
    root: Annotated[Path, typer.Argument(help="Folder with masks and rgbs_colorNormalized.")],
    out: Out,
    images: Annotated[Path | None, typer.Option(help="Folder of the RGB regions.")] = None,
    masks: Annotated[Path | None, typer.Option(help="Folder of the masks [ROOT/masks].")] = None,
    classes: Classes = None,
    folds: Folds = 5,
    seed: Seed = 0,
    paper_compatible: Annotated[
        bool,
        typer.Option("--paper-compatible", help="Draw validation by patch, which leaks, as it was"),
    ] = False,
    image_format: Annotated[str, typer.Option(help="png, or the smaller jpg.")] = "png",
) -> None:
    """Breast cancer regions of BCSS: tiles of 1024 px, the official test split by institution."""
    from wsi_sampath.training.bcss import plan_bcss, warnings_about

    if image_format not in ("png", "jpg"):
        raise UsageError(f"--image-format {image_format!r} is neither png nor jpg")
    plan = plan_bcss(
        root,
        out,
        images=images,
        masks=masks,
        grouping=_grouping(classes),
        folds=_at_least_two(folds),
        seed=seed,
        paper_compatible=paper_compatible,
        image_format="png" if image_format == "png" else "jpg",
    )
    for warning in warnings_about(plan):
        _warn(warning)
    if paper_compatible:
        _warn("validation shares patients and pixels with training; select no model on it")
    _write(plan)


@app.command()
def crag(
    root: Annotated[Path, typer.Argument(help="Folder with train and valid.")],
    out: Out,
    classes: Classes = None,
    folds: Folds = 5,
    seed: Seed = 0,
) -> None:
    """Colorectal glands of CRAG: whole images, valid as the test split."""
    from wsi_sampath.training.crag import plan_crag

    _write(plan_crag(root, out, grouping=_grouping(classes), folds=_at_least_two(folds), seed=seed))


def _grouping(classes: str | None) -> Grouping | None:
    from wsi_sampath.training.grouping import read_grouping

    return None if classes is None else read_grouping(classes)


def _at_least_two(folds: int) -> int:
    if folds < 2:
        raise UsageError("--folds must be 2 or more")
    return folds


def _write(plan: Plan) -> None:
    from wsi_sampath.cli.counting import counted
    from wsi_sampath.training.prepare import prepare

    for _ in counted(prepare(plan), plan.out.name, len(plan.sources)):
        pass
    found = Counter(patch.split for patch in plan.patches)
    cases = len({patch.case for patch in plan.patches})
    for name in ("train", "validation", "test"):
        if not found[name]:
            _warn(f"the {name} split is empty: there are only {cases} cases")
    counts = ", ".join(f"{found[name]} {name}" for name in ("train", "validation", "test"))
    names = ", ".join(one.name for one in plan.grouping.classes)
    print(f"{plan.out}: {len(plan.patches)} patches of {cases} cases: {counts}; classes: {names}")


def _warn(message: str) -> None:
    print(f"warning: {message}", file=sys.stderr, flush=True)


def _terminate(_signal: int, _frame: object) -> None:
    raise KeyboardInterrupt


def main() -> None:
    """Run the command; every known failure is one line and an exit code."""
    signal.signal(signal.SIGTERM, _terminate)
    try:
        code = app(standalone_mode=False)
    except typer.TyperException as error:
        print(f"error: {error.format_message()} (see wsi-prepare --help)", file=sys.stderr)
        sys.exit(EXIT_USAGE)
    except WsiError as error:
        print(error.line(), file=sys.stderr)
        sys.exit(EXIT_USAGE if error.reason == "bad-input" else EXIT_FAILED)
    except KeyboardInterrupt:
        print("error: interrupted: stopped by the user; run again to go on", file=sys.stderr)
        sys.exit(EXIT_FAILED)
    sys.exit(code)
