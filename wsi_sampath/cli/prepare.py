"""``wsi-prepare``: public data sets and a lab's own masks to labelled patches."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wsi_sampath.cli.entry import new_app, run
from wsi_sampath.cli.help import Command
from wsi_sampath.errors import UsageError

if TYPE_CHECKING:
    from wsi_sampath.data.grouping import Grouping
    from wsi_sampath.data.patch_plan import ImageFormat, PatchPlan

app = new_app("Turn data sets into labelled patches: patches, nuclei, slide, bcss, crag.")

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
        case=case,
        test_cases=test_cases,
        test=test,
        folds=folds,
        seed=seed,
        mpp=mpp,
    )
    for note in plan.notes:
        _note(note)
    _warn_of(mpp, case)
    _write(plan, test_cases=test_cases)


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
    case: Case = "",
    test_cases: TestCases = "",
    test: Test = 0.2,
    folds: Folds = 5,
    seed: Seed = 0,
    mpp: Mpp = None,
) -> None:
    """Images with labelled nuclei: folders of files, or PanNuke's images.npy and masks.npy."""
    from wsi_sampath.data.nuclei import Split, plan_nuclei

    plan = plan_nuclei(
        images,
        instances,
        out,
        types=types or [],
        grouping=_grouping(classes),
        mask_suffix=mask_suffix,
        split=Split(case, test_cases, test, folds, seed),
        mpp=mpp,
    )
    _warn_of(mpp, case)
    _write(plan, test_cases=test_cases)


@app.command(cls=Command)
def slide(
    out: Out,
    files: Annotated[
        list[Path] | None,
        typer.Argument(metavar="SLIDE FILE.geojson ...", help="Slides, each with annotations."),
    ] = None,
    pairs: Annotated[
        Path | None, typer.Option("--list", help="CSV with slide,annotations and maybe case.")
    ] = None,
    classes: Annotated[
        Path | None, typer.Option(help="YAML: classes and annotation names [all, as they come].")
    ] = None,
    mpp: Annotated[float, typer.Option(help="um per pixel of the patches.")] = 0.5,
    tile: Annotated[int, typer.Option(help="Side of the patches, px.")] = 1024,
    min_labelled: Annotated[
        float, typer.Option(help="Leave out tiles with a smaller share of annotated pixels.")
    ] = 0.05,
    case: Case = "",
    test_cases: TestCases = "",
    test: Test = 0.2,
    blocks: Annotated[
        bool, typer.Option("--blocks", help="Split by blocks of a slide, not by patient.")
    ] = False,
    folds: Folds = 5,
    seed: Seed = 0,
    slide_mpp: Annotated[
        float | None, typer.Option(help="um per level-0 pixel, over what the files say.")
    ] = None,
    image_format: ImageSuffix = "png",
) -> None:
    """Slides annotated in QuPath; what nobody annotated is ignored."""
    from wsi_sampath.data.annotated import plan_slides
    from wsi_sampath.data.slides import CutSettings, cut_slides, listed, paired

    if bool(files) == bool(pairs):
        raise UsageError("give either SLIDE FILE.geojson ... or --list CSV")
    drawn = listed(pairs, case) if pairs else paired(files or [], case)
    cutting = CutSettings(mpp, tile, min_labelled, slide_mpp)
    slides, named, warnings = cut_slides(drawn, classes, cutting)
    for warning in warnings:
        _warn(warning)
    plan = plan_slides(
        slides,
        out,
        classes=named,
        mpp=mpp,
        options={"tile": tile, "min_labelled": min_labelled, "slide_mpp": slide_mpp},
        blocks=blocks,
        test_cases=test_cases,
        test=test,
        folds=folds,
        seed=seed,
        image_format=_known_format(image_format),
    )
    if blocks:
        _warn("all splits show the same patients, which flatters all scores")
    hint = "" if blocks else "; --blocks splits within slides instead"
    _write(plan, hint, test_cases)


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
        _warn(warning)
    if paper_compatible:
        _warn("validation shares patients and pixels with training; select no model on it")
    _write(plan)


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

    _write(plan_crag(root, out, grouping=_grouping(classes), folds=_at_least_two(folds), seed=seed))


def _warn_of(mpp: float | None, case: str) -> None:
    if mpp is None:
        _warn(_NO_MPP)
    if not case:
        _warn("without --case every image is a patient of its own, which flatters all scores")


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


def _write(plan: PatchPlan, hint: str = "", test_cases: str = "") -> None:
    from wsi_sampath.data.prepare import prepare, unseen_classes
    from wsi_sampath.progress import counted

    told: dict[str, list[str]] = {}

    def tell(image: Path, note: str) -> None:
        if image.name not in told.setdefault(note, []):
            told[note].append(image.name)

    for _ in counted(prepare(plan, tell), plan.out.name, len(plan.sources)):
        pass
    for note, images in told.items():
        _warn(f"{_few(images)}: {note}")
    unseen = unseen_classes(plan)
    if unseen:
        _warn(
            f"no pixel of any mask is {' or '.join(unseen)}: do the masks hold what --classes says?"
        )
    _tell_splits(plan, hint, test_cases)


def _few(names: list[str]) -> str:
    """Return the first of some images, and how many more there are."""
    from wsi_sampath.shown import plural

    more = len(names) - 1
    return names[0] if not more else f"{names[0]} and {plural(more, 'more image')}"


def _tell_splits(plan: PatchPlan, hint: str, test_cases: str) -> None:
    from wsi_sampath.shown import plural

    found = Counter(patch.split for patch in plan.patches)
    cases = len({patch.case for patch in plan.patches})
    left = len({patch.case for patch in plan.patches if patch.split != "test"})
    all_cases = plural(cases, "case")
    why = f"there {'is' if cases == 1 else 'are'} only {all_cases}{hint}"
    if test_cases or not left:
        why = f"the test split has {cases - left} of {all_cases}"
    for name in ("train", "validation", "test"):
        if not found[name]:
            _warn(f"the {name} split is empty: {why}")
    counts = ", ".join(f"{found[name]} {name}" for name in ("train", "validation", "test"))
    names = ", ".join(one.name for one in plan.grouping.plain_classes)
    patches = plural(len(plan.patches), "patch", "patches")
    print(f"{plan.out}: {patches} of {all_cases}: {counts}; classes: {names}")


def _note(message: str) -> None:
    print(f"note: {message}", file=sys.stderr, flush=True)


def _warn(message: str) -> None:
    print(f"warning: {message}", file=sys.stderr, flush=True)


def main() -> None:
    """Run the command; every known failure is one line and an exit code."""
    run(app, "wsi-prepare")
