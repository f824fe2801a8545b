"""A file of prompts on a slide, and the file of masks that answers it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import shapely

from wsi_sampath.errors import WsiError
from wsi_sampath.fingerprint import whole_digest
from wsi_sampath.inference.durable.claim import Claim
from wsi_sampath.inference.prompting.prompter import Prompter
from wsi_sampath.inference.prompting.questions import Unanswerable
from wsi_sampath.inference.prompting.segmented import Segmented
from wsi_sampath.inference.targets import refuse_foreign_masks
from wsi_sampath.outputs.qupath.packing import (
    is_whole,
    is_without_features,
    run_of,
)
from wsi_sampath.progress import counted
from wsi_sampath.prompt_files.answer import Answer, Mask, Unanswered
from wsi_sampath.prompt_files.mask_features import MaskRun
from wsi_sampath.prompt_files.mask_file import MaskFile, WrittenMasks
from wsi_sampath.prompt_files.prompt import Prompt, PromptFile
from wsi_sampath.prompt_files.reading import read_prompts
from wsi_sampath.settings import deciding
from wsi_sampath.version import __version__


@dataclass(frozen=True)
class Answered:
    """What became of a file of prompts.

    Attributes
    ----------
    path
        The file of masks.
    written
        What is in it; None where an earlier run of the same prompts had finished it.
    notes
        Further sentences for the user.
    """

    path: Path
    written: WrittenMasks | None
    notes: tuple[str, ...] = ()


def answer_file(
    prompter: Prompter, prompts: Path, out: Path, *, refine: bool = False, each_point: bool = False
) -> Answered:
    """Answer every prompt of a file, and write the masks for QuPath.

    Stopped and started again, it goes on with what has no answer yet. What cannot be answered is
    named in the result and in the file, and the rest is written.

    Parameters
    ----------
    prompter
        The slide, and the network.
    prompts
        See `read_prompts`.
    out
        ``.geojson`` or ``.json``, either with ``.gz``, or ``.geojson.zip``.
    refine
        Whether to take areas alone, each as a rough outline, rectangles as well.
    each_point
        Whether each point of several asks for an object of its own.

    Raises
    ------
    WsiError
        ``bad-input`` for prompts that cannot be read, or a file at `out` that is not ours;
        ``busy``, ``disk-full``, ``out-of-memory``.
    """
    refuse_foreign_masks(out, prompts)
    read = _read(prompter, prompts, refine=refine, each_point=each_point)
    run = _run(prompter, prompts, refine=refine, each_point=each_point)
    # Without a single mask it was a failure, which is tried again.
    if run_of(out) == run.run and is_whole(out) and not is_without_features(out):
        return Answered(out, None, read.notes)
    out.parent.mkdir(parents=True, exist_ok=True)
    with Claim(out.with_name(out.name + ".claim")), MaskFile(out, read, run) as file:
        left = file.remaining()
        for answer in counted(_answers(prompter, read, left), "prompts", len(left)):
            file.add(_kept(*answer))
        written = file.close()
    return Answered(out, written, read.notes)


def as_outlines(read: PromptFile) -> PromptFile:
    """Return areas alone, each as a rough outline of one object.

    Raises
    ------
    WsiError
        ``bad-input`` where there is none.
    """
    areas = [_as_outline(one) for one in read.prompts if one.box is not None]
    if not areas:
        raise WsiError("bad-input", "there is no area to refine, only points")
    left = len(read.prompts) - len(areas)
    notes = (f"{left} prompts without an area are not refined",) if left else ()
    return replace(read, prompts=tuple(areas), notes=read.notes + notes)


def _as_outline(prompt: Prompt) -> Prompt:
    if prompt.outline is not None or prompt.box is None:
        return prompt
    return replace(prompt, outline=shapely.box(*prompt.box))


def _kept(number: int, answer: Segmented | Unanswerable) -> Answer | Unanswered:
    """Return what the file keeps of an answer."""
    if isinstance(answer, Unanswerable):
        return Unanswered(number, str(answer))
    masks = (Mask(answer.outline(), answer.quality),)
    is_coarser = answer.square.factor > 1
    return Answer(number, masks, float(np.mean(answer.mpp)), is_coarser, answer.is_cut)


def _answers(
    prompter: Prompter, read: PromptFile, left: list[int]
) -> Iterator[tuple[int, Segmented | Unanswerable]]:
    for index, answer in prompter.answers([read.prompts[number] for number in left]):
        yield left[index], answer


def _read(prompter: Prompter, path: Path, *, refine: bool, each_point: bool) -> PromptFile:
    slide, finest = prompter.slide, prompter.lattices[0]
    read = read_prompts(
        path,
        slide_size=slide.size,
        reach_px=finest.side / 2 * min(finest.plane.zoom_x, finest.plane.zoom_y),
        bounds_offset=slide.bounds_offset,
        mpp=(slide.mpp.x, slide.mpp.y),
        each_point=each_point,
    )
    if not refine:
        return read
    try:
        return as_outlines(read)
    except WsiError as error:
        raise error.about(str(path)) from None


def _run(prompter: Prompter, prompts: Path, *, refine: bool, each_point: bool) -> MaskRun:
    """Return what the masks have in common, with an id for all that decides them."""
    slide, model = prompter.slide, prompter.model
    who: dict[str, Any] = {
        "version": __version__,
        "prompts": whole_digest(prompts),
        "refine": refine,
        "each_point": each_point,
        "settings": deciding(prompter.settings),
        "seen": list(prompter.seen.parts),
    }
    digest = hashlib.sha256(json.dumps(who, sort_keys=True).encode()).hexdigest()
    return MaskRun(
        run=digest[:32],
        model=model.spec.name,
        weights_sha256=model.weights_sha256,
        slide_size=slide.size,
        mpp=(slide.mpp.x, slide.mpp.y),
        bounds_offset=slide.bounds_offset,
    )
