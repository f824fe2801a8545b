"""CAMELYON16 and 17 as downloaded: slides, and the tumours that ASAP's files outline."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from wsi_sampath.data.annotated import NamedClass, NamedClasses
from wsi_sampath.data.folds import find_case
from wsi_sampath.data.patches import several
from wsi_sampath.data.slides import SlideAnnotations
from wsi_sampath.errors import UsageError
from wsi_sampath.slides.regions.asap import SUFFIX

CASE = r"^(patient_\d+|.+)"
"""The patient of CAMELYON17, of whom there are five slides; every slide of CAMELYON16."""

TUMOR = NamedClasses(
    classes=(NamedClass(name="tumor", color="#c83232", values=("tumor", "_0", "_1", "metastases")),)
)
"""The groups that outline a tumour; those that outline what is none are `asap.EXCLUSIONS`."""

_NO_SLIDES = frozenset(
    {SUFFIX, ".txt", ".csv", ".json", ".geojson", ".yaml", ".md5", ".png", ".jpg", ".jpeg"}
)


def annotated_slides(
    slides: Path, drawn: Path, case: str = CASE
) -> tuple[list[SlideAnnotations], list[str]]:
    """Find the slide of every file of annotations, by its name, anywhere below the folders.

    Parameters
    ----------
    slides, drawn
        Folders of slides, and of ASAP's ``.xml``. Slides without one are left out: nothing is
        known of tumours in them.
    case
        Regular expression that finds the patient in a name, see `find_case`.

    Returns
    -------
    pairs, notes
        In the order of the names; what the user should know.

    Raises
    ------
    UsageError
        For folders that are missing, annotations without a slide, or two files of one name.
    """
    for folder in (slides, drawn):
        if not folder.is_dir():
            raise UsageError("there is no such folder", subject=str(folder))
    files = _by_stem(path for path in slides.rglob("*") if path.suffix.lower() not in _NO_SLIDES)
    outlines = _by_stem(path for path in drawn.rglob("*") if path.suffix.lower() == SUFFIX)
    if not outlines:
        raise UsageError(f"holds no annotations of ASAP ({SUFFIX})", subject=str(drawn))
    alone = [path.name for stem, path in outlines.items() if stem not in files]
    if alone:
        raise UsageError(f"holds no slide for {several(alone)}", subject=str(slides))
    spare = [path.name for stem, path in files.items() if stem not in outlines]
    notes = [f"without annotations, left out: {several(spare)}"] if spare else []
    pairs = [
        SlideAnnotations(files[stem], path, find_case(case, stem))
        for stem, path in outlines.items()
    ]
    return pairs, notes


def _by_stem(paths: Iterator[Path]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in sorted(paths):
        if not path.is_file() or path.name.startswith("."):
            continue
        if path.stem in found:
            message = f"has the name of {found[path.stem]}; keep one of them"
            raise UsageError(message, subject=str(path))
        found[path.stem] = path
    return found
