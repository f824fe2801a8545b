"""What a training left behind, and what a user may do with it."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wsi_sampath.data.patches import PatchSet
from wsi_sampath.shown import plural, shown
from wsi_sampath.training.base_task import Score
from wsi_sampath.training.configuration import AnySettings
from wsi_sampath.training.prompts.settings import PromptTrainSettings
from wsi_sampath.training.settings import TrainSettings

LAST = "last_"
"""Before the key of the score in ``result.json``: that of the last epoch."""
_LABEL = 10


@dataclass(frozen=True)
class Trained:
    """What a training left behind.

    Attributes
    ----------
    model
        The ``.safetensors`` file.
    result
        What is in ``result.json``: epochs, best validation score, weights' digest, provenance.
    score
        By which the best epoch was chosen.
    patches
        What it was trained on.
    new
        Whether this run finished it, rather than finding it finished.
    """

    model: Path
    result: dict[str, Any]
    score: Score
    patches: PatchSet
    new: bool = True


def closing_lines(trained: Trained, settings: AnySettings) -> Iterator[str]:
    """Return the lines that say what was kept and why, where it lies, and what to do with it."""
    model = shown(trained.model)
    if not trained.new:
        yield (
            f"finished before: {model}; nothing is trained again (another training takes another "
            "out=)"
        )
    yield _line("kept", _kept(trained, settings))
    if trained.new:
        yield _line("model", model)
        yield _line("beside", _beside(trained.model.parent))
    yield _line("try it", _on_a_slide(settings, model))
    yield from _on_patches(trained, settings)


def _beside(folder: Path) -> str:
    """Name what a training left beside the model."""
    kept, checkpoints = (
        [name for name in names if (folder / name).exists()]
        for names in (
            ("result.json", "curve.csv", "pictures/", "tensorboard/"),
            ("best.ckpt", "last.ckpt"),
        )
    )
    spare = f" (and {', '.join(checkpoints)}, which may be deleted)" if checkpoints else ""
    return ", ".join(kept) + spare


def _kept(trained: Trained, settings: AnySettings) -> str:
    """Say which epoch became the model, and why."""
    result, score = trained.result, trained.score
    told = f"epoch {result['epoch']} of {result['epochs']}"
    best, last = result[score.stored], result.get(f"{LAST}{score.stored}")
    if best is not None:
        told = f"{told}: best {score.title} {best:.4f}"
        if result["epoch"] == result["epochs"]:
            told = f"{told}, the last one"
        elif last is not None:
            told = f"{told}; the last one had {last:.4f}"
    elif trained.patches.split("validation"):
        told = f"{told}: the last one, as the settings want"
        told = told if last is None else f"{told}; {score.title} {last:.4f}"
    else:
        told = f"{told}: the last one, since there is no validation split to choose by"
    if result["epochs"] < settings.epochs and settings.patience is not None:
        waited = plural(settings.patience, "validation")
        told = f"{told}; stopped before epoch {settings.epochs}, after {waited} without a better"
    return told


def _on_a_slide(settings: AnySettings, model: str) -> str:
    if isinstance(settings, PromptTrainSettings):
        return _command("wsi-prompt SLIDE --prompts PROMPTS.geojson --out MASKS.geojson", model)
    return _command("wsi-segment SLIDE --out out.zarr", model)


def _on_patches(trained: Trained, settings: AnySettings) -> Iterator[str]:
    """Yield the command that scores the model on patches that taught it nothing."""
    patches, more = trained.patches, []
    if not (patches.split("test") or patches.split("validation")):
        yield _line("score it", "on other patches: the test and the validation split are empty")
        return
    name = "wsi-evaluate"
    if isinstance(settings, PromptTrainSettings):
        name = "wsi-evaluate prompts"
        more = [word for one in settings.objects for word in ("--objects", one)]
    elif isinstance(settings, TrainSettings) and patches.mpp is None:
        # Of patches at an unknown scale only this is sure: how training saw them.
        more = ["--stretch"]
    told = ""
    if not patches.split("test"):
        more += ["--split", "validation"]
        told = " (flatters, if the epoch was chosen by it; the test split is empty)"
    command = _command(f"{name} {shlex.quote(settings.data)}", shown(trained.model), more)
    yield _line("score it", f"{command}{told}")


def _command(words: str, model: str, more: list[str] | None = None) -> str:
    return " ".join([words, "--model", shlex.quote(model), *map(shlex.quote, more or [])])


def _line(name: str, told: str) -> str:
    return f"{name + ':':{_LABEL}}{told}"
