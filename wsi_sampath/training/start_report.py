"""What a training says before its first step: data, device, weights, doubts about scale."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from wsi_sampath.data.patches import SPLITS, PatchSet
from wsi_sampath.models.spec import ModelSpec
from wsi_sampath.training.initial_weights import AnyStart
from wsi_sampath.training.settings import RunSettings, StartWeights

_TOLERANCE = 0.1


@dataclass(frozen=True)
class Doubt:
    """A doubt about the scale: a line for the user, and a remark for the model's credits."""

    line: str
    credit: str


def scale_doubt(settings: RunSettings, patches: PatchSet, spec: ModelSpec) -> Doubt | None:
    """Return a doubt where the model may see slides at another scale than its patches.

    Patches are stretched to the tile, so one of 512 px shows a tile of 256 px at twice its um per
    pixel. `mpp` of the settings is taken on trust where the patches state none.
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


def opening_lines(
    settings: RunSettings, patches: PatchSet, start: AnyStart, steps: int, device: str
) -> Iterator[str]:
    """Return the lines that say what is about to be trained.

    Parameters
    ----------
    settings, patches, start
        Settings, data and initial network of the training.
    steps
        Steps of the optimiser per epoch.
    device
        The device; `settings.devices` of its kind are used.
    """
    counts = ", ".join(f"{len(patches.split(split))} {split}" for split in SPLITS if split != "all")
    names = ", ".join(spec.name for spec in patches.classes)
    size = "unknown pixel size" if patches.mpp is None else f"{patches.mpp:g} um per pixel"
    yield f"data: {patches.root}: {counts} patches, {size}; classes: {names}"
    where = device if settings.devices == 1 else f"{settings.devices} x {device.partition(':')[0]}"
    per_epoch = "1 step" if steps == 1 else f"{steps} steps"
    epochs = "1 epoch" if settings.epochs == 1 else f"{settings.epochs} epochs"
    yield f"training: {epochs} of {per_epoch} on {where}, from {initial_weights(settings, start)}"
    if not patches.split("validation"):
        yield (
            "warning: the validation split is empty, so there are no scores and the last epoch is "
            "kept, however it may have turned out"
        )


def initial_weights(settings: RunSettings, start: AnyStart) -> str:
    """Name the weights that a training starts from."""
    if not start.digests:
        return "random weights"
    weights = settings.weights
    if isinstance(weights, StartWeights):
        return " and ".join(weights.given.values())
    return weights or settings.model
