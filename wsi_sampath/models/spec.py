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
from wsi_sampath.settings import Frozen

IMAGENET_MEAN: Triple = (0.485, 0.456, 0.406)
IMAGENET_STD: Triple = (0.229, 0.224, 0.225)

Classes = Annotated[tuple[ClassSpec, ...], Field(min_length=1, max_length=254)]


class ModelSpec(Frozen):
    """What the stages need to know of a network to feed it and to read its maps.

    Each architecture adds what it is built from; `parse_spec` reads any of them.

    Attributes
    ----------
    name
        Name in reports and in the zoo.
    architecture
        Which kind of network; decides what else a specification holds.
    classes
        The k real classes; label value i + 1 is ``classes[i]``, 0 means "not analysed".
    mpp
        Microns per pixel of the network's input, 0.05 to 20.
    tile
        Side of the square network input, px: a multiple of the patch, 32 to 8192.
    output_stride
        Input pixels per output pixel, along each axis.
    mean, std
        Normalisation of RGB in 0..1 before the network.
    description, licence, training_data
        What is claimed of the weights, for people; empty where nothing is.
    """

    views: ClassVar[tuple[float, ...]] = (1.0,)
    """The sizes at which the network sees one place, in multiples of `mpp`."""

    labels_pixels: ClassVar[bool] = True
    """Whether the maps are probabilities of the classes, of which every pixel has one."""

    makes_maps: ClassVar[bool] = True
    """Whether the network makes maps of tiles; without, it answers prompts alone."""

    name: Name
    architecture: Name
    classes: Classes
    mpp: Mpp
    tile: Side = 1024
    output_stride: PatchSide = 4
    mean: Triple = IMAGENET_MEAN
    std: Std = IMAGENET_STD
    description: Text = ""
    licence: Text = ""
    training_data: Text = ""

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
