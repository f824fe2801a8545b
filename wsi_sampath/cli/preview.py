"""``wsi-segment --preview``: what a run would look at, on the screen, as pictures and as JSON."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Iterator, Sequence
from typing import Any

from wsi_sampath.batch.job import Job
from wsi_sampath.cli.ended import print_json, put
from wsi_sampath.cli.progress import say
from wsi_sampath.errors import EXIT_FAILED, EXIT_OK, WsiError
from wsi_sampath.inference.plan import plan_tiling
from wsi_sampath.inference.preview import Asked, Facts, Preview, preview_slide
from wsi_sampath.inference.settings import SegmentSettings
from wsi_sampath.models.described import model_spec, provenance_of
from wsi_sampath.models.origin import warnings_of
from wsi_sampath.shown import plural, shown
from wsi_sampath.slides.mpp import format_mpp

_LABEL = 11
_NARROWEST = 40


def preview(
    jobs: Sequence[Job], settings: SegmentSettings, *, as_json: bool, quiet: bool = False
) -> int:
    """Tell and draw what a run would look at; returns the exit code.

    Parameters
    ----------
    jobs
        The slides; each gets ``NAME.preview.png`` where its ``NAME.zarr`` would lie.
    settings
        Of the run.
    as_json
        Whether stdout is for one line of JSON alone.
    quiet
        Whether nothing but errors is told.

    Raises
    ------
    UsageError
        Where the settings fit no slide.
    WsiError
        ``bad-model`` for an unknown model, ``interrupted``.
    """
    spec = model_spec(settings.model)
    plan_tiling(spec, settings)
    for warning in warnings_of(spec, provenance_of(settings.model)):
        if not quiet:
            say(f"warning: {warning}")
    made: list[Preview] = []
    for job in jobs:
        one = _previewed(job, Asked(spec, settings, job.mpp))
        if one.error is not None and one.error.reason == "interrupted":
            if as_json:
                print_json([each.as_json() for each in made])
            raise one.error
        made.append(one)
        if one.facts and not quiet:
            put("\n".join(lines_of(one, _width())), instead=as_json)
        if one.error is not None:
            say(one.error.line())
    if as_json:
        print_json([one.as_json() for one in made])
    return EXIT_FAILED if any(one.error for one in made) else EXIT_OK


def _previewed(job: Job, asked: Asked) -> Preview:
    if job.fault:
        error = WsiError("unreadable", job.fault, subject=str(job.slide))
        return Preview(job.slide, {}, None, error)
    return preview_slide(job.slide, job.zarr.with_suffix(".preview.png"), asked)


def _width() -> int | None:
    """Columns of the terminal; None where nobody looks at one."""
    if sys.stdout is None or not sys.stdout.isatty():
        return None
    return max(_NARROWEST, shutil.get_terminal_size().columns)


def lines_of(one: Preview, width: int | None = None) -> list[str]:
    """Return what a preview says, as lines of at most `width` columns if that is possible."""
    lines = [shown(one.slide.name)]
    for label, text in _rows(one.facts):
        lines += _wrapped(f"  {label:<{_LABEL}}", shown(text), width)
    for warning in one.facts["warnings"]:
        lines += _wrapped("  ! ", shown(warning), width)
    if one.picture is not None:
        lines.append(f"  {shown(one.picture)}")
    return lines


def _wrapped(label: str, text: str, width: int | None) -> list[str]:
    if width is None:
        return [label + text]
    return textwrap.wrap(
        text,
        width,
        initial_indent=label,
        subsequent_indent=" " * len(label),
        break_long_words=False,
        break_on_hyphens=False,
    )


def _rows(facts: Facts) -> Iterator[tuple[str, str]]:
    millimetres = ", {:.3g} x {:.3g} mm".format(*facts["size_mm"]) if facts["size_mm"] else ""
    yield "size", f"{_px(facts['size_px'])}{millimetres}, read by {facts['reader']}"
    for number, level in enumerate(facts["levels"]):
        read = ", which the run reads" if facts.get("level_read") == number else ""
        yield "" if number else "levels", f"{number}: {_level(level)}{read}"
    yield from _mpp_rows(facts)
    if facts["objective"] is not None:
        yield "objective", f"{facts['objective']:g}x"
    yield "model", _model(facts)
    if "tiles" in facts:
        yield from _plan_rows(facts)


def _px(size: Sequence[int]) -> str:
    return f"{size[0]} x {size[1]} px"


def _level(level: Facts) -> str:
    x, y = (f"{value:.5g}" for value in level["downsample"])
    return f"{_px(level['size_px'])}, downsample {x if x == y else f'{x} x {y}'}"


def _mpp_rows(facts: Facts) -> Iterator[tuple[str, str]]:
    mpp = facts["mpp"]
    if mpp is None:
        yield "mpp", "unknown"
    else:
        yield "mpp", f"{format_mpp(mpp['x'], mpp['y'])} ({mpp['origin']})"
    for source in facts["mpp_sources"]:
        if source["taken"] and mpp is not None:
            continue
        verdict = "" if mpp is None else ", agrees" if source["agrees"] else ", differs"
        yield "", f"{source['source']}: {format_mpp(source['x'], source['y'])}{verdict}"


def _model(facts: Facts) -> str:
    model = facts["model"]
    said = f"{model['name']} ({model['architecture']}), made for {model['mpp']:g} um per pixel"
    if "tile" not in facts:
        return said
    seen = format_mpp(*facts["mpp_of_network"])
    return f"{said}, sees {seen}; tiles of {facts['tile']} px that overlap by {facts['overlap']} px"


def _plan_rows(facts: Facts) -> Iterator[tuple[str, str]]:
    tissue, tiles = facts["tissue"], facts["tiles"]
    share = 100 * tissue["mm2"] / tissue["slide_mm2"]
    area = f"{tissue['mm2']:.3g} of {tissue['slide_mm2']:.3g} mm2 ({share:.3g} %)"
    yield "tissue", f"{area}, {_method(tissue)}"
    yield "tiles", f"{tiles['to_analyse']} of {plural(tiles['all'], 'tile')} to analyse"
    region = facts["region"]
    box = "the whole slide" if region is None else _region(region)
    yield "region", box


def _method(tissue: dict[str, Any]) -> str:
    if tissue["method"] == "none":
        return "not looked for: --tissue none"
    if tissue["method"] != "otsu":
        return f"from {tissue['method']}"
    if tissue["threshold"] is None:
        return "found: all of it is stained"
    how = "by --tissue-threshold" if tissue["is_given"] else "found on the slide"
    return f"above an optical density of {tissue['threshold']:.3g} ({how})"


def _region(box: Sequence[float]) -> str:
    x, y, width, height = (f"{value:g}" for value in box)
    return f"{width} x {height} px at {x}, {y}"
