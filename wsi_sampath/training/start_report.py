"""What a training says before its first step: data, device, weights, doubts about scale."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from wsi_sampath.data.patches import SPLITS, PatchSet, Split
from wsi_sampath.models.published.catalogue import FILES
from wsi_sampath.models.shipped import bundled_models
from wsi_sampath.models.spec import ModelSpec
from wsi_sampath.shown import plural, shown
from wsi_sampath.training.initial_weights import AnyStart
from wsi_sampath.training.settings import RunSettings, StartWeights

_TOLERANCE = 0.1
_LABEL = 10


@dataclass(frozen=True)
class Doubt:
    """A doubt about the scale: a line for the user, and a remark for the model's credits."""

    line: str
    credit: str


def stretched_scale(patches: PatchSet, spec: ModelSpec) -> str:
    """Say at which scale a network sees patches that are stretched to its tile."""
    width, height = patches.size(patches.split("train")[0].img_id)
    zoom = (height * width) ** 0.5 / spec.tile
    own = "unknown um" if patches.mpp is None else f"{patches.mpp:g} um"
    told = f"patches of {width} x {height} px at {own} per pixel"
    if (width, height) != (spec.tile, spec.tile):
        verb = "squeezed" if zoom > 1 else "stretched"
        seen = "" if patches.mpp is None else f", {patches.mpp * zoom:.3g} um per pixel"
        told = f"{told}, {verb} to {spec.tile} x {spec.tile} px{seen}"
    return f"{told}; slides are read at {spec.mpp:g} um per pixel"


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
    settings: RunSettings, patches: PatchSet, start: AnyStart, work: Work, scale: str
) -> Iterator[str]:
    """Return the lines that say what is about to be trained.

    Parameters
    ----------
    settings, patches, start
        Settings, data and initial network of the training.
    work
        What there is to do, and where.
    scale
        At which scale the network sees the patches.
    """
    counts = ", ".join(_counted(patches, split) for split in SPLITS if split != "all")
    yield _line("data", f"{shown(patches.root)}: {counts}")
    yield _line("classes", ", ".join(spec.name for spec in start.model.spec.classes))
    yield _line("scale", scale)
    origin = f"{start.model.spec.name}, from {initial_weights(settings, start)}"
    yield _line("network", f"{origin}; {work.learning}")
    yield _line("training", work.plan(settings))
    yield _line("writes", shown(settings.out))


def empty_validation(settings: RunSettings, patches: PatchSet) -> Iterator[str]:
    """Return what is to be said where no patch is left to choose the best epoch by."""
    if patches.split("validation"):
        return
    asked = "" if settings.keeps_last else ", however it may have turned out"
    yield (
        f"warning: the validation split is empty, so there are no scores and the last epoch is "
        f"kept{asked}; wsi-prepare makes one (--folds, --case), and in patches.csv fold 0 is "
        "validation"
    )


@dataclass(frozen=True)
class Work:
    """What a training has to do.

    Attributes
    ----------
    steps
        Of the optimiser per epoch.
    device
        The device; `devices` of the settings, of its kind, are used.
    trained, weights
        Numbers of the weights that change, and of all.
    """

    steps: int
    device: str
    trained: int
    weights: int

    @property
    def learning(self) -> str:
        """How much of the network changes."""
        every = f"{_millions(self.weights)} weights"
        if self.trained == self.weights:
            return f"all {every} learn"
        return f"{_millions(self.trained)} of {every} learn, the others are frozen"

    def plan(self, settings: RunSettings) -> str:
        """Epochs, batches, rate, precision and device."""
        devices, batch = settings.devices, settings.batch_size * settings.accumulate
        where = self.device if devices == 1 else f"{devices} x {self.device.partition(':')[0]}"
        return (
            f"{plural(settings.epochs, 'epoch')} of {plural(self.steps, 'step')}, "
            f"{plural(batch * devices, 'patch', 'patches')} a step, "
            f"learning rate {settings.optimiser.learning_rate:g}, {settings.precision} on {where}"
        )


def initial_weights(settings: RunSettings, start: AnyStart) -> str:
    """Name the weights that a training starts from, and whose they are."""
    if not start.digests:
        return "random weights"
    weights = settings.weights
    if isinstance(weights, StartWeights):
        named = " and ".join(map(_whose, weights.given.values()))
    else:
        named = _whose(weights or settings.model)
    return f"{named}; what they lack begins at random" if start.steps == 0 else named


def _whose(weights: str) -> str:
    if weights in bundled_models():
        return f"{weights} (bundled)"
    if any(weights == file.name for file in FILES):
        return f"{weights} (published)"
    return f"{shown(weights)} (a file)"


def _counted(patches: PatchSet, split: Split) -> str:
    found = patches.split(split)
    if not found:
        return f"0 {split}"
    cases = plural(len({patch.case for patch in found}), "case")
    folds = sorted({patch.fold for patch in found})
    named = f"fold{'s' if len(folds) > 1 else ''} {', '.join(map(str, folds))}"
    return f"{len(found)} {split} ({cases}, {named})"


def _millions(weights: int) -> str:
    return f"{weights / 1e6:.3g} million" if weights >= 1e6 else f"{weights:,}"


def _line(name: str, told: str) -> str:
    return f"{name + ':':{_LABEL}}{told}"
