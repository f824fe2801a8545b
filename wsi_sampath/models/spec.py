"""What all networks have in common, in data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, Self

import yaml
from pydantic import Field, model_validator

from wsi_sampath.classes import ClassSpec, check_class_names
from wsi_sampath.errors import UsageError
from wsi_sampath.models.limits import (
    MAX_NAME,
    Mpp,
    Name,
    PatchSide,
    Side,
    Std,
    Text,
    Triple,
)
from wsi_sampath.settings import Frozen, Help

IMAGENET_MEAN: Triple = (0.485, 0.456, 0.406)
IMAGENET_STD: Triple = (0.229, 0.224, 0.225)

Classes = Annotated[tuple[ClassSpec, ...], Field(min_length=1, max_length=254)]


class ModelSpec(Frozen):
    """What the stages need to know of a network to feed it and to read its maps.

    Each architecture adds what it is built from; `parse_spec` reads any of them. Each field says by
    its `Help` what it is.
    """

    views: ClassVar[tuple[float, ...]] = (1.0,)
    """The sizes at which the network sees one place, in multiples of `mpp`."""

    labels_pixels: ClassVar[bool] = True
    """Whether the maps are probabilities of the classes, of which every pixel has one."""

    makes_maps: ClassVar[bool] = True
    """Whether the network makes maps of tiles; without, it answers prompts alone."""

    name: Annotated[Name, Help("Name in results and reports, one line.")]
    architecture: Annotated[Name, Help("Kind of network, which decides what other keys there are.")]
    classes: Annotated[
        Classes, Help("1 to 254 classes, in the order of the label values 1, 2, ...")
    ]
    mpp: Annotated[
        Mpp,
        Help(
            "Microns per pixel of the network's input, 0.05 to 20 (20x is about 0.5, 40x about "
            "0.25)."
        ),
    ]
    tile: Annotated[
        Side, Help("Side of the square input, px: a multiple of the patch, at most 512 patches.")
    ] = 1024
    output_stride: Annotated[PatchSide, Help("Input px per output px, along each axis.")] = 4
    mean: Annotated[
        Triple, Help("Mean of RGB in 0..1 that is subtracted before the network [ImageNet's].")
    ] = IMAGENET_MEAN
    std: Annotated[Std, Help("Deviation of RGB in 0..1 that it is divided by [ImageNet's].")] = (
        IMAGENET_STD
    )
    description: Annotated[Text, Help("What is claimed of the weights, for people.")] = ""
    licence: Annotated[Text, Help("Licence of the weights.")] = ""
    training_data: Annotated[Text, Help("What the weights were trained on.")] = ""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.tile % self.patch:
            raise ValueError(f"tile must be a multiple of {self.patch} px")
        names = [one.name for one in self.classes]
        check_class_names(names)
        if max(map(len, names)) > MAX_NAME:
            raise ValueError(f"classes must have names of at most {MAX_NAME} characters")
        return self

    @property
    def patch(self) -> int:
        """Input pixels per cell of the network's coarsest grid; the tile is a multiple of it."""
        return self.output_stride

    @property
    def grid(self) -> int:
        """Cells per side of this grid."""
        return self.tile // self.patch

    @property
    def frame(self) -> int:
        """Side of the square, px, in which the network takes prompts."""
        return self.tile

    @property
    def mask_side(self) -> int:
        """Side of the masks of prompts, asked and answered, px: four for each cell of the grid."""
        return 4 * self.grid

    @property
    def means(self) -> dict[str, Triple]:
        """Every mean of the colours that the network subtracts, by its key."""
        return {"mean": self.mean}

    def to_json(self) -> str:
        """Return the specification as one line of JSON, as kept in a checkpoint header."""
        return self.model_dump_json()

    def to_yaml(self, path: str | Path) -> None:
        """Write the specification so that `spec_from_yaml` returns an equal one."""
        values = self.model_dump(mode="json")
        Path(path).write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")


def refuse_mapless(spec: ModelSpec) -> None:
    """Make sure that a network makes maps of tiles.

    Raises
    ------
    UsageError
        With the command for those that answer prompts only.
    """
    if not spec.makes_maps:
        raise UsageError(
            f"{spec.name} ({spec.architecture}) makes no maps, it answers prompts only; use "
            "wsi-prompt SLIDE --prompts FILE --out MASKS.geojson --model FILE"
        )
