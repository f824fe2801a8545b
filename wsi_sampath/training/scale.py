"""At which scale a training shows tissue to the network, and whether the model will say so."""

from __future__ import annotations

from dataclasses import dataclass

from wsi_sampath.data.patches import PatchSet
from wsi_sampath.models.spec import ModelSpec
from wsi_sampath.training.settings import TrainSettings

_TOLERANCE = 0.1


@dataclass(frozen=True)
class Doubt:
    """What is doubtful about the scale: a line for the user, and words for the model's credits."""

    line: str
    credit: str


def scale_doubt(settings: TrainSettings, patches: PatchSet, spec: ModelSpec) -> Doubt | None:
    """Say so where slides may be shown to the model at another scale than its patches were.

    Patches are stretched to the tile, so one of 512 px shows a tile of 256 px at twice its um per
    pixel. What `mpp` of the settings says is taken on the user's word where the patches say
    nothing.
    """
    patch = patches.split("train")[0]
    height, width = patches.read(patch)[1].shape
    zoom = (height * width) ** 0.5 / spec.tile
    size = f"{width} x {height} px"
    if patches.mpp is None:
        return None if settings.mpp is not None else _unknown(spec, size, zoom)
    seen = patches.mpp * zoom
    if abs(seen / spec.mpp - 1) <= _TOLERANCE:
        return None
    return Doubt(
        f"warning: patches of {size} at {patches.mpp:g} um fill the tile of {spec.tile} px at "
        f"{seen:.3g} um per pixel, but slides would be read at the model's {spec.mpp:g}; "
        f"mpp={seen:.3g} mends that",
        f"trained at {seen:.3g} um per pixel, not the {spec.mpp:g} of the model",
    )


def _unknown(spec: ModelSpec, size: str, zoom: float) -> Doubt:
    resized = abs(zoom - 1) > _TOLERANCE
    how = "um per pixel of the patches"
    stretch = ""
    if resized:
        how = f"{zoom:.3g} times the um per pixel of the patches"
        verb = "squeezed" if zoom > 1 else "enlarged"
        stretch = f", and patches of {size} are {verb} into {spec.tile} px"
    return Doubt(
        f"warning: the pixel size of the patches is unknown{stretch}; slides would be read at the "
        f"{spec.mpp:g} um per pixel of the model, right or not: give mpp={how}, or prepare them "
        "with --mpp",
        f"pixel size unknown, {spec.mpp:g} um per pixel assumed",
    )
