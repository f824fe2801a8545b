"""Everything that decides the scores of a model on labelled patches, in one frozen object."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from wsi_sampath.inference.settings import NetworkSettings
from wsi_sampath.plausible import PLAUSIBLE_MPP
from wsi_sampath.settings import Flags, Help, Neutral, Panel


class Scoring(NetworkSettings):
    """Settings of all scores on labelled patches; each field says by its `Help` what it is."""

    split: Annotated[
        str, Panel.PATCHES, Help("Patches to score: test, validation, train or all.")
    ] = "test"
    mpp: Annotated[
        Annotated[float, Field(ge=PLAUSIBLE_MPP[0], le=PLAUSIBLE_MPP[1])] | None,
        Panel.PATCHES,
        Help("Microns per pixel of the patches [as in their classes.yaml]."),
    ] = None
    bootstrap: Annotated[
        int,
        Field(ge=0),
        Panel.PATCHES,
        Help("Draws of cases for the 95 % intervals; 0 for none."),
    ] = 1000
    seed: Annotated[int, Field(ge=0), Panel.PATCHES, Help("Seed for those draws of cases.")] = 0


class PatchScoring(Scoring):
    """Settings of a model's scores on labelled patches."""

    stretch: Annotated[
        bool,
        Panel.PATCHES,
        Help("Stretch every patch to the tile, as the paper does."),
    ] = False
    pictures: Annotated[
        Path | None,
        *(Neutral, Panel.SCORES, Flags("--pictures", metavar="FOLDER")),
        Help("Draw the worst patches into a folder: image, truth and prediction."),
    ] = None
    worst: Annotated[
        Annotated[int, Field(ge=1)],
        *(Neutral, Panel.SCORES, Flags("--worst", metavar="N")),
        Help("How many of them."),
    ] = 10


class PromptScoring(Scoring):
    """Settings of the scores of answers to prompts."""

    model: Annotated[
        str,
        *(Neutral, Panel.NETWORK, Flags("--model", "-m")),
        Help("Model to ask: a name from wsi-models list, a .safetensors or a .yaml file."),
    ] = "nuclei-mini"
    # Not offered: prompts are drawn for so many objects at once, whatever fits.
    batch_size: Literal["auto"] = "auto"
    protocol: Annotated[
        Literal["auto", "zero-shot", "clicks"],
        Panel.PATCHES,
        Help("zero-shot: a shaken box; 3, 5, 10 points. clicks: 1 to 8, each a correction [auto]."),
    ] = "auto"
    paper_compatible: Annotated[
        bool,
        *(Panel.PATCHES, Flags("--paper-compatible")),
        Help("One prompt for all objects of a patch together, as in WSI-SAM's paper."),
    ] = False
    min_size_px: Annotated[
        Annotated[int, Field(ge=1)],
        Panel.PATCHES,
        Help("Objects of fewer pixels are not asked for."),
    ] = 16
