"""``wsi-prompt``: point at things on slides, and get their outlines back for QuPath."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wsi_sampath.cli.entry import BEFORE_ANY_SLIDE, new_app, run
from wsi_sampath.cli.help import Command
from wsi_sampath.cli.options import with_options
from wsi_sampath.cli.settings_files import Repeating, earlier_values
from wsi_sampath.errors import EXIT_FAILED, EXIT_OK, UsageError, WsiError
from wsi_sampath.inference.prompting.settings import PromptSettings
from wsi_sampath.inference.settings import Extent, Level0Px
from wsi_sampath.settings import Flags, Frozen, Help, Panel
from wsi_sampath.shown import plural
from wsi_sampath.slides.remote.place import located

if TYPE_CHECKING:
    from wsi_sampath.batch.prompt_jobs import PromptJob
    from wsi_sampath.inference.prompting.answering import Answered
    from wsi_sampath.models.network import LoadedModel

PRECOMPUTE = "precompute"
app = new_app()
precompute_app = new_app()
_MOST_NAMED = 20


class Request(Repeating):
    """How the file of prompts is read."""

    refine: Annotated[
        bool,
        *(Panel.PROMPTS, Flags("--refine/--no-refine")),
        Help("Take each area, rectangles as well, as a rough outline to be refined; no points."),
    ] = False
    each_point: Annotated[
        bool,
        *(Panel.PROMPTS, Flags("--each-point/--no-each-point")),
        Help("Let each point of a points annotation ask for an object of its own."),
    ] = False


class RegionRequest(Frozen):
    """Which part of a slide."""

    region: Annotated[
        tuple[Level0Px, Level0Px, Extent, Extent] | None,
        *(Panel.TISSUE, Flags(metavar="X Y W H")),
        Help("Look at this box only, in level-0 pixels [the whole slide]."),
    ] = None


@app.command(cls=Command)
@with_options(earlier_values, settings=PromptSettings, request=Request)
def prompt(
    slides: Annotated[
        list[Path],
        typer.Argument(
            metavar="SLIDE",
            parser=located,
            help="A slide or its URL, or several: folders or .txt/.csv lists.",
        ),
    ],
    prompts: Annotated[
        Path,
        typer.Option(
            *("--prompts", "-p"),
            metavar="PATH",
            help="QuPath's GeoJSON or a .csv of points; for several slides a folder of them.",
            rich_help_panel=Panel.INPUT.value,
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            *("--out", "-o"),
            metavar="PATH",
            help="MASKS.geojson (or .gz, .zip), for several slides a folder.",
            rich_help_panel=Panel.OUTPUT.value,
        ),
    ],
    settings: PromptSettings,
    request: Request,
) -> None:
    """Segment what points, boxes and rough outlines of a GeoJSON point at.

    'wsi-prompt precompute SLIDE' looks at a slide beforehand, so that answers come at once.
    """
    from wsi_sampath.batch.prompt_jobs import plan_prompts
    from wsi_sampath.cli.progress import say
    from wsi_sampath.files import require_file
    from wsi_sampath.inference.targets import refuse_foreign_masks

    plan = plan_prompts(slides, prompts, out)
    for note in plan.notes:
        say(f"note: {note}")
    if len(plan.jobs) == 1:
        # Before the model is loaded; of several slides one must not stop the others.
        refuse_foreign_masks(plan.jobs[0].out, plan.jobs[0].prompts)
        require_file(plan.jobs[0].prompts, "bad-input")
        if not _opens(plan.jobs[0], settings):
            raise typer.Exit(EXIT_FAILED)
    from wsi_sampath.inference.segmenter import load_from_settings

    model = load_from_settings(settings)
    request.save("wsi-prompt", settings=settings, request=request)
    failed = [not _answer(job, model, settings, request) for job in plan.jobs]
    raise typer.Exit(EXIT_FAILED if any(failed) else EXIT_OK)


def _opens(job: PromptJob, settings: PromptSettings) -> bool:
    """Return whether a slide can be opened, and say so where it cannot."""
    from wsi_sampath.explained import explained
    from wsi_sampath.slides.slide import Slide

    mpp = settings.slide_mpp or job.mpp
    try:
        with (
            explained(str(job.slide)),
            Slide.open(job.slide, slide_mpp=mpp, reader=settings.reader),
        ):
            return True
    except UsageError:
        raise
    except WsiError as error:
        _tell_failure(job, error)
        return False


def _tell_failure(job: PromptJob, error: WsiError) -> None:
    print(error.about(str(job.slide)).line(), file=sys.stderr, flush=True)


def _answer(job: PromptJob, model: LoadedModel, settings: PromptSettings, request: Request) -> bool:
    """Answer one slide's prompts, and tell of it; return whether there was any answer."""
    from wsi_sampath.explained import explained
    from wsi_sampath.inference.prompting.answering import answer_file
    from wsi_sampath.inference.prompting.prompter import Prompter

    if job.mpp is not None and settings.slide_mpp is None:
        settings = settings.model_copy(update={"slide_mpp": job.mpp})
    try:
        if job.fault:
            raise WsiError("unreadable", job.fault)
        with explained(str(job.slide)), Prompter(job.slide, model, settings=settings) as prompter:
            _warn(prompter.slide.warnings)
            answered = answer_file(
                *(prompter, job.prompts, job.out),
                refine=request.refine,
                each_point=request.each_point,
            )
            _warn_of_cache(prompter.cache.trouble)
    except WsiError as error:
        _tell_failure(job, error)
        return False
    return _tell(answered)


def _tell(answered: Answered) -> bool:
    from wsi_sampath.cli.progress import say

    for note in answered.notes:
        say(f"note: {note}")
    written = answered.written
    if written is None:
        print(f"{answered.path}: finished before", flush=True)
        return True
    for problem in written.problems[:_MOST_NAMED]:
        say(f"warning: {problem.line()}")
    if len(written.problems) > _MOST_NAMED:
        say(f"warning: and {len(written.problems) - _MOST_NAMED:,} more; the file names them all")
    parts = [
        f"{written.coarser:,} seen at a coarser mpp" if written.coarser else "",
        f"{written.cut:,} cut by the edge of what was seen" if written.cut else "",
        f"{len(written.problems):,} without a mask" if written.problems else "",
    ]
    masks = plural(written.masks, "mask")
    print(f"{answered.path}: {', '.join([masks, *filter(None, parts)])}", flush=True)
    return written.masks > 0


@precompute_app.command(cls=Command)
@with_options(settings=PromptSettings, request=RegionRequest)
def precompute(
    slide: Annotated[Path, typer.Argument(metavar="SLIDE", parser=located)],
    settings: PromptSettings,
    request: RegionRequest,
) -> None:
    """Look at a slide, or a part of it, beforehand: prompts there are then answered at once."""
    from wsi_sampath.explained import explained
    from wsi_sampath.inference.prompting.prompter import Prompter
    from wsi_sampath.inference.segmenter import load_from_settings
    from wsi_sampath.progress import counted

    if not settings.cache_gib:
        raise UsageError("--cache-gib 0 keeps nothing; give it the GiB that may be kept")
    model = load_from_settings(settings)
    with explained(str(slide)), Prompter(slide, model, settings=settings) as prompter:
        _warn(prompter.slide.warnings)
        squares = prompter.squares_of(request.region)
        if not squares:
            raise UsageError("--region lies outside of the slide", subject=str(slide))
        new = [square for square in squares if not prompter.cache.holds(prompter.key(square))]
        seen = sum(counted(prompter.precompute(new), "squares", len(new)))
        if prompter.cache.trouble is not None:
            raise prompter.cache.trouble
        known = len(squares) - len(new)
        bad = len(new) - seen
        parts = [f"{known:,} seen before"] if known else []
        parts += [f"{bad:,} cannot be decoded"] if bad else []
        told = ", ".join([plural(seen, "square"), *parts])
        print(f"{settings.folder}: {told}", flush=True)
        kept = sum(prompter.cache.holds(prompter.key(square)) for square in squares)
        if kept < len(squares) - bad:
            _warn([f"--cache-gib {settings.cache_gib:g} keeps {kept} of them; give it more"])


def _warn(warnings: tuple[str, ...] | list[str]) -> None:
    from wsi_sampath.cli.progress import say

    for warning in warnings:
        say(f"warning: {warning}")


def _warn_of_cache(trouble: OSError | None) -> None:
    if trouble is not None:
        _warn([f"what was seen cannot be kept: {trouble}; --cache names another folder"])


def main() -> None:
    """Run the command; every known failure is one line and an exit code."""
    if sys.argv[1:2] == [PRECOMPUTE]:
        words = sys.argv[2:]
        run(precompute_app, f"wsi-prompt {PRECOMPUTE}", wrong_use=BEFORE_ANY_SLIDE, words=words)
    run(app, "wsi-prompt", wrong_use=BEFORE_ANY_SLIDE)
