"""What a run would do to a slide, told and drawn before it runs: no network, no torch.

The tiles are those of `plan_run`, by which a run takes its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsi_sampath.errors import UsageError, WsiError
from wsi_sampath.explained import explained
from wsi_sampath.inference.opening import open_slide
from wsi_sampath.inference.plan import RunPlan, plan_run
from wsi_sampath.inference.reporting import backdrop_of
from wsi_sampath.inference.settings import SegmentSettings
from wsi_sampath.inference.summary import coverage, level0_box
from wsi_sampath.inference.targets import refuse_foreign_picture
from wsi_sampath.models.spec import ModelSpec
from wsi_sampath.outputs.belonging import PREVIEW
from wsi_sampath.outputs.report.backdrop import Backdrop
from wsi_sampath.outputs.report.preview import PlannedArea, draw_preview
from wsi_sampath.outputs.report.region import shares_of
from wsi_sampath.outputs.report.sheet import save_sheet
from wsi_sampath.shown import plural
from wsi_sampath.slides.mpp import Mpp, differs, format_mpp
from wsi_sampath.slides.slide import Slide
from wsi_sampath.slides.stream import Tile

# Without a scale the slide is shown all the same, by its pixels.
_NO_SCALE = ("no-mpp", "implausible-mpp")
_LONGEST_PAPER_PX = 400
Facts = dict[str, Any]


@dataclass(frozen=True)
class Asked:
    """What a run is asked to do with a slide.

    Attributes
    ----------
    spec, settings
        The model and the settings.
    csv_mpp
        (x, y) um per level-0 pixel from an mpp table.
    """

    spec: ModelSpec
    settings: SegmentSettings
    csv_mpp: tuple[float, float] | None = None


@dataclass(frozen=True)
class Preview:
    """What is known of a slide before it runs.

    Attributes
    ----------
    slide
        The file.
    facts
        All that is known, as JSON values; see `slide_facts` and `plan_facts`. Empty where the
        slide does not open.
    picture
        The PNG that was written; None where there is none.
    error
        Why a run would fail; None where it would not.
    """

    slide: Path
    facts: Facts
    picture: Path | None = None
    error: WsiError | None = None

    def as_json(self) -> Facts:
        """Return the preview as JSON values."""
        failure = None
        if self.error is not None:
            failure = {"reason": self.error.reason, "message": self.error.message}
        picture = None if self.picture is None else str(self.picture)
        return {"slide": str(self.slide), "picture": picture, "error": failure, **self.facts}


def preview_slide(path: Path, target: Path, asked: Asked) -> Preview:
    """Plan a slide as a run would, write a picture of the plan, and return what is known.

    Parameters
    ----------
    path
        The slide file.
    target
        The PNG; its folder is made where it is missing.
    asked
        What the run would be asked.

    Returns
    -------
    Preview
        With the error, where a run would fail.

    Raises
    ------
    UsageError
        Where the settings fit no slide.
    """
    facts: Facts = {}
    try:
        with explained(str(path)):
            slide, error = _opened(path, asked)
            with slide:
                facts = slide_facts(slide, asked, has_scale=error is None)
                plan = None
                if error is None:
                    plan, error = _planned(slide, asked)
                if plan is not None:
                    facts |= plan_facts(slide, plan, asked)
                _write(_drawn(slide, plan, facts), target)
            return Preview(path, facts, target, None if error is None else error.about(str(path)))
    except UsageError:
        raise
    except WsiError as error:
        return Preview(path, facts, None, error)


def _opened(path: Path, asked: Asked) -> tuple[Slide, WsiError | None]:
    """Open a slide; without its scale, which is the error then, where it has none."""
    try:
        return open_slide(path, asked.settings, csv_mpp=asked.csv_mpp), None
    except WsiError as error:
        if error.reason not in _NO_SCALE:
            raise
        unscaled = asked.settings.model_copy(update={"slide_mpp": (1.0, 1.0)})
        return open_slide(path, unscaled), error


def _planned(slide: Slide, asked: Asked) -> tuple[RunPlan | None, WsiError | None]:
    try:
        return plan_run(slide, asked.spec, asked.settings), None
    except UsageError:
        raise
    except WsiError as error:
        return None, error


def slide_facts(slide: Slide, asked: Asked, *, has_scale: bool = True) -> Facts:
    """Return what is known of an open slide.

    Parameters
    ----------
    slide
        The slide.
    asked
        What the run would be asked.
    has_scale
        Whether its mpp is its own; False where one was made up to open it.
    """
    mpp = slide.mpp if has_scale else None
    return {
        "size_px": list(slide.size),
        "size_mm": mpp and [slide.size[0] * mpp.x / 1e3, slide.size[1] * mpp.y / 1e3],
        "reader": slide.reader.name,
        "levels": [
            {"size_px": [one.width, one.height], "downsample": [one.downsample_x, one.downsample_y]}
            for one in slide.levels
        ],
        "mpp": mpp and {"x": mpp.x, "y": mpp.y, "source": mpp.source, "origin": mpp.origin},
        "mpp_sources": [*_sources(slide, asked, mpp)],
        "objective": slide.stated.objective,
        "model": {
            "name": asked.spec.name,
            "architecture": asked.spec.architecture,
            "mpp": asked.spec.mpp,
        },
        "warnings": list(slide.warnings if has_scale else slide.reader.metadata.warnings),
    }


def _sources(slide: Slide, asked: Asked, mpp: Mpp | None) -> Iterator[Facts]:
    """Yield every value that somebody states, the most trusted one, which is taken, first."""
    given = {"--slide-mpp": asked.settings.slide_mpp, "the mpp CSV": asked.csv_mpp}
    stated = [(name, *value) for name, value in given.items() if value is not None]
    # Where one axis is stated, it counts for both.
    stated += [
        (one.source, one.x or one.y or 0.0, one.y or one.x or 0.0)
        for one in slide.stated.statements
    ]
    for number, (name, x, y) in enumerate(stated):
        agrees = mpp is not None and not (differs(x, mpp.x) or differs(y, mpp.y))
        yield {"source": name, "x": x, "y": y, "taken": number == 0, "agrees": agrees}


def plan_facts(slide: Slide, plan: RunPlan, asked: Asked) -> Facts:
    """Return what is known of a planned run, beside `slide_facts`."""
    extent = coverage(slide, plan, 0.0)
    settings = asked.settings
    return {
        "level_read": plan.sampling.level,
        "mpp_of_network": [plan.sampling.mpp_x, plan.sampling.mpp_y],
        "tile": plan.tile_px,
        "overlap": plan.overlap_px,
        "tissue": {
            "method": settings.tissue,
            "threshold": plan.tissue_threshold,
            "is_given": settings.tissue_threshold is not None,
            "mm2": extent["tissue_mm2"],
            "slide_mm2": extent["slide_mm2"],
        },
        "tiles": {"to_analyse": plan.grid.n_tiles, "all": int(plan.grid.selected.size)},
        "region": None if settings.region is None else list(settings.region),
        "warnings": [*slide.warnings, *plan.warnings],
    }


def tile_boxes(plan: RunPlan) -> NDArray[np.float64]:
    """Return the tiles that a run takes, float64 (n, 4): left, top, right, bottom, level-0 px."""
    places = np.argwhere(plan.grid.selected).tolist()
    boxes = np.array([level0_box(plan, Tile(*place)) for place in places], np.float64)
    boxes = boxes.reshape(-1, 4)
    return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)


def _drawn(slide: Slide, plan: RunPlan | None, facts: Facts) -> Any:
    backdrop = backdrop_of(slide) or _paper(slide)
    area = None if plan is None else _area(slide, plan, facts)
    um_per_px = backdrop.um_x if facts["mpp"] else None
    return draw_preview(backdrop.rgb, area, title=_title(slide, facts), um_per_px=um_per_px)


def _paper(slide: Slide) -> Backdrop:
    """Return white paper for a slide without a small level, of which it would take long to read."""
    width, height = slide.size
    px = max(width, height) / _LONGEST_PAPER_PX
    rgb = np.full((max(1, round(height / px)), max(1, round(width / px)), 3), 255, np.uint8)
    return Backdrop(rgb, slide.mpp.x * px, slide.mpp.y * px)


def _area(slide: Slide, plan: RunPlan, facts: Facts) -> PlannedArea:
    width, height = slide.size
    return PlannedArea(
        plan.tissue,
        plan.unknown,
        tile_boxes(plan) / (width, height, width, height),
        shares_of(facts["region"], slide.size),
        facts["tissue"]["mm2"],
        facts["tiles"]["all"],
    )


def _title(slide: Slide, facts: Facts) -> str:
    said = "microns per pixel unknown"
    if facts["mpp"]:
        said = f"{format_mpp(slide.mpp.x, slide.mpp.y)} per pixel ({facts['mpp']['origin']})"
    if "tiles" in facts:
        tiles = facts["tiles"]
        count = f"{tiles['to_analyse']} of {plural(tiles['all'], 'tile')}"
        said += f", {count} for {facts['model']['name']}"
    return f"{slide.path.name}\n{said}"


def _write(sheet: Any, target: Path) -> None:
    refuse_foreign_picture(target, advice="leave out --preview")
    target.parent.mkdir(parents=True, exist_ok=True)
    save_sheet(sheet, target, run_id=PREVIEW, smallest=False)
