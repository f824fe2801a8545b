"""``wsi-evaluate``: how good a model is on labelled patches."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from wsi_sampath.errors import EXIT_FAILED, EXIT_USAGE, UsageError, WsiError

if TYPE_CHECKING:
    from wsi_sampath.inference.patches import PatchPredictor
    from wsi_sampath.inference.settings import Precision
    from wsi_sampath.models.zoo import LoadedModel
    from wsi_sampath.training.datasets import Patch, PatchSet
    from wsi_sampath.training.metrics import Counts

_WRONG_USE = {"bad-model", "bad-input"}

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)


@app.command()
def evaluate(
    data: Annotated[Path, typer.Argument(metavar="DATA", help="Folder made by wsi-prepare.")],
    model: Annotated[
        str, typer.Option("--model", "-m", help="Name of a model, .safetensors, or .yaml.")
    ] = "gland-mini",
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="OUT.json", help="File for all scores.")
    ] = None,
    split: Annotated[str, typer.Option(help="test, validation, train or all.")] = "test",
    weights: Annotated[Path | None, typer.Option(help="Weights for a .yaml model.")] = None,
    allow_random_weights: Annotated[
        bool, typer.Option("--allow-random-weights", help="Take a .yaml model untrained.")
    ] = False,
    mpp: Annotated[
        float | None, typer.Option(help="um per pixel of the patches [as in classes.yaml].")
    ] = None,
    stretch: Annotated[
        bool, typer.Option("--stretch", help="Stretch all patches to the tile, as the paper.")
    ] = False,
    same: Annotated[
        list[str] | None,
        typer.Option(metavar="MODEL=DATA", help="A class of the model that DATA names otherwise."),
    ] = None,
    bootstrap: Annotated[
        int, typer.Option(help="Draws for the 95 % intervals; 0 for none.")
    ] = 1000,
    seed: Annotated[int, typer.Option(help="Of the draws.")] = 0,
    batch_size: Annotated[str, typer.Option("--batch-size", "-b", help="auto or N.")] = "auto",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    precision: Annotated[str, typer.Option(help="auto, fp16, bf16 or fp32.")] = "auto",
) -> None:
    """Score a model on labelled patches: one confusion matrix, Dice, IoU, intervals by case."""
    from wsi_sampath.inference.patches import PatchPredictor
    from wsi_sampath.models.zoo import load_model
    from wsi_sampath.training.datasets import open_patches

    _check(json_file, mpp, bootstrap, batch_size, precision)
    opened = open_patches(data)
    chosen = _chosen(opened, split)
    loaded = load_model(model, weights=weights, allow_random_weights=allow_random_weights)
    table = _class_table(loaded, opened, same or [])
    predictor = PatchPredictor(
        loaded,
        mpp=mpp or opened.mpp,
        stretch=stretch,
        device=device,
        precision=cast("Precision", precision),
        batch_size=batch_size,
    )
    scores = {
        "data": data.resolve().name,
        "split": split,
        "model": loaded.source,
        "weights_sha256": loaded.weights_sha256,
        **_scores(opened, chosen, predictor, table, draws=bootstrap, seed=seed),
    }
    if json_file is not None:
        _save(json_file, scores)
    _print(scores)


def _check(
    json_file: Path | None, mpp: float | None, bootstrap: int, batch_size: str, precision: str
) -> None:
    if json_file is not None and not json_file.absolute().parent.is_dir():
        raise UsageError("its folder does not exist", subject=str(json_file))
    if mpp is not None and mpp <= 0:
        raise UsageError(f"--mpp {mpp} must be above 0")
    if bootstrap < 0:
        raise UsageError(f"--bootstrap {bootstrap} must be 0 or more")
    if batch_size != "auto" and not (batch_size.isdecimal() and int(batch_size)):
        raise UsageError(f"--batch-size {batch_size!r} is neither auto nor a whole number above 0")
    if precision not in ("auto", "fp16", "bf16", "fp32"):
        raise UsageError(f"--precision {precision!r} is not auto, fp16, bf16 or fp32")


def _chosen(opened: PatchSet, split: str) -> tuple[Patch, ...]:
    from wsi_sampath.training.datasets import SPLITS

    known = {name: name for name in SPLITS}
    if split not in known:
        raise UsageError(f"--split {split!r} is not one of {', '.join(SPLITS)}")
    chosen = opened.split(known[split])
    if not chosen:
        sizes = ", ".join(f"{len(opened.split(name))} {name}" for name in SPLITS)
        raise UsageError(f"the {split} split is empty ({sizes})", subject=str(opened.root))
    return chosen


def _class_table(model: LoadedModel, opened: PatchSet, same: Sequence[str]) -> list[int]:
    """Return the label in the data of every label of the model."""
    theirs = {one.name.casefold(): i for i, one in enumerate(opened.classes, start=1)}
    ours = [one.name for one in model.spec.classes]
    renamed = dict(_renaming(one) for one in same)
    unknown = sorted(set(renamed) - set(ours))
    lacking = [name for name in ours if renamed.get(name, name).casefold() not in theirs]
    if unknown or lacking:
        names = ", ".join(one.name for one in opened.classes)
        raise UsageError(
            f"the model has {', '.join(ours)}, the data {names}: "
            f"say what {(unknown or lacking)[0]!r} is by --same MODEL=DATA",
            subject=str(opened.root),
        )
    return [0, *(theirs[renamed.get(name, name).casefold()] for name in ours)]


def _renaming(pair: str) -> tuple[str, str]:
    name, equals, other = pair.partition("=")
    if not (name and equals and other):
        raise UsageError(f"--same {pair!r} is not of the form MODEL=DATA")
    return name, other


def _scores(
    opened: PatchSet,
    chosen: Sequence[Patch],
    predictor: PatchPredictor,
    table: list[int],
    *,
    draws: int,
    seed: int,
) -> dict[str, Any]:
    from wsi_sampath.training.evaluation import summarise

    hows: set[str] = set()
    counts = list(_count(opened, chosen, predictor, table, hows))
    cases = [patch.case for patch in chosen]
    names = [one.name for one in opened.classes]
    return {
        "patches": len(chosen),
        "cases": len(set(cases)),
        "scale": sorted(hows),
        **summarise(counts, cases, names, draws=draws, seed=seed),
    }


def _count(
    opened: PatchSet,
    chosen: Sequence[Patch],
    predictor: PatchPredictor,
    table: list[int],
    hows: set[str],
) -> Iterator[Counts]:
    import numpy as np

    from wsi_sampath.cli.counting import counted
    from wsi_sampath.training.metrics import confusion

    to_data = np.array(table, np.uint8)
    step = predictor.batch_size
    batches = (chosen[start : start + step] for start in range(0, len(chosen), step))

    def score(batch: Sequence[Patch]) -> Iterator[Counts]:
        pairs = [opened.read(patch) for patch in batch]
        hows.update(predictor.how(mask.shape) for _, mask in pairs)
        found = predictor([image for image, _ in pairs])
        for (_, mask), labels in zip(pairs, found, strict=True):
            yield confusion(mask, to_data[labels], len(opened.classes))

    scored = chain.from_iterable(score(batch) for batch in batches)
    yield from counted(scored, "patches", len(chosen))


def _save(path: Path, scores: dict[str, Any]) -> None:
    from wsi_sampath.training.datasets import write_atomically

    text = json.dumps(scores, ensure_ascii=False, indent=2, allow_nan=False)
    try:
        write_atomically(path, f"{text}\n".encode())
    except OSError as error:
        raise UsageError(f"cannot be written: {error}", subject=str(path)) from error


def _print(scores: dict[str, Any]) -> None:
    print(
        f"{scores['model']} on {scores['data']} ({scores['split']}): {scores['patches']} patches "
        f"of {scores['cases']} cases; {', '.join(scores['scale'])}"
    )
    for name, score in scores["per_class"].items():
        dice, iou = _with_ci(score, "dice"), _with_ci(score, "iou")
        print(f"  {name:16} Dice {dice}  IoU {iou}")
    macro, micro = scores["macro"], scores["micro"]
    print(f"  {'macro':16} Dice {_with_ci(macro, 'dice')}  IoU {_with_ci(macro, 'iou')}")
    print(f"  {'pixel accuracy':16}      {_with_ci(micro, 'pixel_accuracy')}", flush=True)


def _with_ci(score: dict[str, Any], name: str) -> str:
    value, interval = score[name], score[f"{name}_ci"]
    if value is None:
        return "   -"
    return f"{value:.4f}" + (f" [{interval[0]:.4f}, {interval[1]:.4f}]" if interval else "")


def _terminate(_signal: int, _frame: object) -> None:
    raise KeyboardInterrupt


def main() -> None:
    """Run the command; every known failure is one line and an exit code."""
    signal.signal(signal.SIGTERM, _terminate)
    try:
        code = app(standalone_mode=False)
    except typer.TyperException as error:
        print(f"error: {error.format_message()} (see wsi-evaluate --help)", file=sys.stderr)
        sys.exit(EXIT_USAGE)
    except WsiError as error:
        print(error.line(), file=sys.stderr)
        sys.exit(EXIT_USAGE if error.reason in _WRONG_USE else EXIT_FAILED)
    except KeyboardInterrupt:
        print("error: interrupted: stopped by the user", file=sys.stderr)
        sys.exit(EXIT_FAILED)
    sys.exit(code)
