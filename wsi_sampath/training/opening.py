"""What a training says before its first step: data, classes, device, initial weights."""

from __future__ import annotations

from collections.abc import Iterator

from wsi_sampath.data.patches import SPLITS, PatchSet
from wsi_sampath.training.initial_weights import Start
from wsi_sampath.training.settings import PublishedWeights, TrainSettings


def opening_lines(
    settings: TrainSettings, patches: PatchSet, start: Start, steps: int, device: str
) -> Iterator[str]:
    """Return the lines that say what is about to be trained.

    Parameters
    ----------
    settings, patches, start
        Of the training.
    steps
        Steps of the optimiser per epoch.
    device
        Where it computes; `settings.devices` of its kind.
    """
    counts = ", ".join(f"{len(patches.split(one))} {one}" for one in SPLITS if one != "all")
    names = ", ".join(one.name for one in patches.classes)
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


def initial_weights(settings: TrainSettings, start: Start) -> str:
    """Name the weights that a training starts from."""
    if not start.digests:
        return "random weights"
    given = settings.weights
    if isinstance(given, PublishedWeights):
        return " and ".join(one for one in (given.sam, given.pathology) if one)
    return given or settings.model
