"""Everything that decides the scores of a model on labelled patches, in one frozen object."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from wsi_sampath.inference.settings import NetworkSettings
from wsi_sampath.plausible import PLAUSIBLE_MPP
from wsi_sampath.settings import Help, Panel


class PatchScoring(NetworkSettings):
    """Settings of a model's scores on labelled patches; each field says by its `Help` what."""

    split: Annotated[
        str, Panel.PATCHES, Help("Patches to score: test, validation, train or all.")
    ] = "test"
    mpp: Annotated[
        Annotated[float, Field(ge=PLAUSIBLE_MPP[0], le=PLAUSIBLE_MPP[1])] | None,
        Panel.PATCHES,
        Help("Microns per pixel of the patches [as in their classes.yaml]."),
    ] = None
    stretch: Annotated[
        bool,
        Panel.PATCHES,
        Help("Stretch every patch to the tile, as the paper does."),
    ] = False
    bootstrap: Annotated[
        int,
        Field(ge=0),
        Panel.PATCHES,
        Help("Draws of cases for the 95 % intervals; 0 for none."),
    ] = 1000
    seed: Annotated[int, Field(ge=0), Panel.PATCHES, Help("Seed for those draws of cases.")] = 0
