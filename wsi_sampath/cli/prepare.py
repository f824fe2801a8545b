"""``wsi-prepare``: public data sets and a lab's own masks to labelled patches."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wsi_sampath.cli.entry import new_app, run
from wsi_sampath.cli.help import Command
from wsi_sampath.cli.preparing import note, warn, write_plan
from wsi_sampath.errors import UsageError

if TYPE_CHECKING:
    from wsi_sampath.data.annotated import NamedClasses
    from wsi_sampath.data.grouping import Grouping
    from wsi_sampath.data.patch_plan import ImageFormat, PatchPlan
    from wsi_sampath.data.slides import CutSettings, SlideAnnotations

app = new_app("Turn data sets into labelled patches: patches, nuclei, slide, camelyon, bcss, crag.")

Out = Annotated[Path, typer.Option("--out", "-o", help="Folder for img, mask and patches.csv.")]
Classes = Annotated[
    str | None,
    typer.Option(help="What mask values mean: a YAML file, or bcss, crag, glands, rings, ..."),
]
Case = Annotated[
    str, typer.Option(help="Regular expression that finds the patient in a name (group 1).")
]
TestCases = Annotated[
    str, typer.Option(help="Regular expression: cases of the test split [drawn].")
]
Test = Annotated[float, typer.Option(help="Share of the test split, if it is drawn.")]
Folds = Annotated[int, typer.Option(help="Parts of what is not test; one is for validation.")]
Seed = Annotated[int, typer.Option(help="Seed for drawing the folds.")]
MaskSuffix = Annotated[
    str, typer.Option(help="What names of masks have at their end, such as _anno (GlaS).")
]
Mpp = Annotated[
    float | None,
    typer.Option(help="um per pixel of the images, noted for wsi-train and wsi-evaluate."),
]
CutMpp = Annotated[float, typer.Option("--mpp", help="um per pixel of the patches.")]
Tile = Annotated[int, typer.Option(help="Side of the patches, px.")]
MinLabelled = Annotated[
    float, typer.Option(help="Leave out tiles with a smaller share of annotated pixels.")
]
SlideMpp = Annotated[
    float | None, typer.Option(help="um per level-0 pixel, over what the files say.")
]
ImageSuffix = Annotated[str, typer.Option("--image-format", help="png, or the smaller jpg.")]

_NO_MPP = (
    "the pixel size of the images is unknown, so wsi-train cannot tell at which scale the model "
    "must read slides: give um per pixel with --mpp (about 0.25 for 40x, 0.5 for 20x, 1 for 10x)"
)


@app.command(cls=Command)
def patches(
    images: Annotated[
        list[Path], typer.Option(help="Folder of images; may be repeated, each with --masks.")
    ],
    masks: Annotated[list[Path], typer.Option(help="Folder of masks of the same names.")],
    out: Out,
    classes: Classes = None,
    mask_suffix: MaskSuffix = "",
    context: Annotated[
        list[Path] | None,
        typer.Option(help="Folder of what lies around the images, at twice their um per pixel."),
    ] = None,
    context_masks: Annotated[
        list[Path] | None, typer.Option(help="Folder of its masks, with --context.")
    ] = None,
    case: Case = "",
    test_cases: TestCases = "",
    test: Test = 0.2,
    folds: Folds = 5,
    seed: Seed = 0,
    mpp: Mpp = None,
) -> None:
    """Folders of images and masks; black-and-white masks become other and gland, and say so."""
    from wsi_sampath.data.prepare import plan_patches

    plan = plan_patches(
        images,
        masks,
        out,
        grouping=_grouping(classes),
        mask_suffix=mask_suffix,
        context=(context or [], context_masks or []),
        case=case,
        test_cases=test_cases,
        test=test,
        folds=folds,
        seed=seed,
        mpp=mpp,
    )
    for line in plan.notes:
        note(line)
    _warn_of(mpp, case)
    write_plan(plan, test_cases=test_cases)


@app.command(cls=Command)
def nuclei(
    images: Annotated[
        list[Path], typer.Option(help="Folder of images; may be repeated, each with --instances.")
    ],
    instances: Annotated[
        list[Path],
        typer.Option(help="Folder of instance labels: 16-bit PNG or TIFF, .npy, CoNSeP's .mat."),
    ],
    out: Out,
    types: Annotated[
        list[Path] | None, typer.Option(help="Folder of the nuclei's types, with --classes.")
    ] = None,
    classes: Annotated[
        str | None,
        typer.Option(help="What numbers of types mean: a YAML file, or pannuke, consep."),
    ] = None,
    mask_suffix: MaskSuffix = "",
    types_suffix: Annotated[
        str, typer.Option(help="What names of types have at their end, such as _type.")
    ] = "",
    case: Case = "",
    test_cases: TestCases = "",
    test: Test = 0.2,
    folds: Folds = 5,
    seed: Seed = 0,
    mpp: Mpp = None,
) -> None:
    """Images with labelled nuclei: folders of files, or PanNuke's images.npy and masks.npy."""
    from wsi_sampath.data.folds import Split
    from wsi_sampath.data.nuclei import plan_nuclei

    plan = plan_nuclei(
        images,
        instances,
        out,
        types=types or [],
        grouping=_grouping(classes),
        mask_suffix=mask_suffix,
        types_suffix=types_suffix,
        split=Split(case, test_cases, test, folds, seed),
        mpp=mpp,
    )
    _warn_of(mpp, case)
    write_plan(plan, test_cases=test_cases)


@app.command(cls=Command)
def slide(
    out: Out,
    files: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="SLIDE ANNOTATIONS",
            help="Slides, each with annotations: QuPath's GeoJSON, or ASAP's XML.",
        ),
    ] = None,
    pairs: Annotated[
        Path | None, typer.Option("--list", help="CSV with slide,annotations and maybe case.")
    ] = None,
    classes: Annotated[
        Path | None, typer.Option(help="YAML: classes and annotation names [all, as they come].")
    ] = None,
    mpp: CutMpp = 0.5,
    tile: Tile = 1024,
    min_labelled: MinLabelled = 0.05,
    context: Annotated[
        bool,
        typer.Option(
            "--context", help="Keep what lies around each patch, at twice its um per pixel, too."
        ),
    ] = False,
    case: Case = "",
    test_cases: TestCases = "",
    test: Test = 0.2,
    blocks: Annotated[
        bool, typer.Option("--blocks", help="Split by blocks of a slide, not by patient.")
    ] = False,
    folds: Folds = 5,
    seed: Seed = 0,
    slide_mpp: SlideMpp = None,
    image_format: ImageSuffix = "png",
) -> None:
    """Slides annotated in QuPath or ASAP; what nobody annotated is ignored."""
    from wsi_sampath.data.slides import CutSettings, listed, paired

    if bool(files) == bool(pairs):
        raise UsageError("give either SLIDE FILE.geojson ... or --list CSV")
    drawn = listed(pairs, case) if pairs else paired(files or [], case)
    plan = _plan_of_slides(
        drawn,
        out,
        CutSettings(mpp, tile, min_labelled, slide_mpp, context),
        classes=_named(classes),
        blocks=blocks,
        split=(test_cases, test, folds, seed),
        image_format=image_format,
    )
    if blocks:
        warn("all splits show the same patients, which flatters all scores")
    hint = "" if blocks else "; --blocks splits within slides instead"
    write_plan(plan, hint, test_cases)


@app.command(cls=Command)
def camelyon(
    slides: Annotated[Path, typer.Argument(help="Folder of slides.")],
    out: Out,
    xml: Annotated[
        Path, typer.Option(help="Folder of ASAP's annotations, NAME.xml for each slide.")
    ],
    classes: Annotated[
        Path | None, typer.Option(help="YAML: classes and groups of ASAP [tumor].")
    ] = None,
    exclude: Annotated[
        list[str] | None,
        typer.Option(help="Group that cuts out; may be repeated [_2, Exclusion, Normal]."),
    ] = None,
    mpp: CutMpp = 1.0,
    tile: Tile = 1024,
    min_labelled: MinLabelled = 0.05,
    case: Annotated[
        str | None,
        typer.Option(help="Regular expression that finds the patient in a name [CAMELYON's]."),
    ] = None,
    test_cases: TestCases = "",
    test: Test = 0.2,
    folds: Folds = 5,
    seed: Seed = 0,
    slide_mpp: SlideMpp = None,
    image_format: ImageSuffix = "png",
) -> None:
    """Slides of CAMELYON with ASAP's outlines: patches, each with what lies around it."""
    from wsi_sampath.data.camelyon import CASE, TUMOR, annotated_slides
    from wsi_sampath.data.slides import CutSettings
    from wsi_sampath.slides.regions.asap import EXCLUSIONS

    drawn, notes = annotated_slides(slides, xml, CASE if case is None else case)
    for line in notes:
        warn(line)
    excluded = tuple(exclude) if exclude else EXCLUSIONS
    plan = _plan_of_slides(
        drawn,
        out,
        CutSettings(mpp, tile, min_labelled, slide_mpp, context=True, exclusions=excluded),
        classes=_named(classes) or TUMOR,
        blocks=False,
        split=(test_cases, test, folds, seed),
        image_format=image_format,
    )
    write_plan(plan, "", test_cases)


@app.command(cls=Command)
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
        typer.Option(
            "--paper-compatible", help="Draw validation by patch, as the paper did (it leaks)."
        ),
    ] = False,
    image_format: ImageSuffix = "png",
) -> None:
    """Breast cancer regions of BCSS: tiles of 1024 px, the official test split by institution."""
    from wsi_sampath.data.bcss import plan_bcss, warnings_about

    plan = plan_bcss(
        root,
        out,
        images=images,
        masks=masks,
        grouping=_grouping(classes),
        folds=_at_least_two(folds),
        seed=seed,
        paper_compatible=paper_compatible,
        image_format=_known_format(image_format),
    )
    for warning in warnings_about(plan):
        warn(warning)
    if paper_compatible:
        warn("validation shares patients and pixels with training; select no model on it")
    write_plan(plan)


@app.command(cls=Command)
def crag(
    root: Annotated[Path, typer.Argument(help="Folder with train and valid.")],
    out: Out,
    classes: Classes = None,
    folds: Folds = 5,
    seed: Seed = 0,
) -> None:
    """Colorectal glands of CRAG: whole images, valid as the test split."""
    from wsi_sampath.data.crag import plan_crag

    write_plan(
        plan_crag(root, out, grouping=_grouping(classes), folds=_at_least_two(folds), seed=seed)
    )


def _plan_of_slides(
    drawn: Sequence[SlideAnnotations],
    out: Path,
    cutting: CutSettings,
    *,
    classes: NamedClasses | None,
    blocks: bool,
    split: tuple[str, float, int, int],
    image_format: str,
) -> PatchPlan:
    from wsi_sampath.data.annotated import plan_slides
    from wsi_sampath.data.slides import cut_slides

    slides, named, warnings = cut_slides(drawn, classes, cutting)
    for warning in warnings:
        warn(warning)
    test_cases, test, folds, seed = split
    return plan_slides(
        slides,
        out,
        classes=named,
        mpp=cutting.mpp,
        options=cutting.deciding(),
        blocks=blocks,
        context=cutting.context,
        test_cases=test_cases,
        test=test,
        folds=folds,
        seed=seed,
        image_format=_known_format(image_format),
    )


def _named(classes: Path | None) -> NamedClasses | None:
    from wsi_sampath.data.annotated import read_named_classes

    return None if classes is None else read_named_classes(classes)


def _warn_of(mpp: float | None, case: str) -> None:
    if mpp is None:
        warn(_NO_MPP)
    if not case:
        warn("without --case every image is a patient of its own, which flatters all scores")


def _grouping(classes: str | None) -> Grouping | None:
    from wsi_sampath.data.grouping import read_grouping

    return None if classes is None else read_grouping(classes)


def _known_format(suffix: str) -> ImageFormat:
    if suffix not in ("png", "jpg"):
        raise UsageError(f"--image-format {suffix!r} is neither png nor jpg")
    return "png" if suffix == "png" else "jpg"


def _at_least_two(folds: int) -> int:
    if folds < 2:
        raise UsageError("--folds must be 2 or more")
    return folds


def main() -> None:
    """Run the command; every known failure is one line and an exit code."""
    run(app, "wsi-prepare")
