"""Train the bundled model, gland-mini: ``python -m pipelines.gland_mini.train DATA --out FILE``.

DATA holds EBHI-Seg, RINGS and a few pictures without glands (see ``data.py``). Training
runs on small canvases of these, then on larger ones; position tables are then widened to the tile
of the model. Killed and started again, it resumes. ``--compare STEPS`` instead trains
gland-mini, its ablations and a plain U-Net of the same size, all alike, and leaves FILE alone.
``--json FILE`` stores every figure of the model card (docs/gland-mini.md).
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from pipelines.gland_mini.baselines import ClassUNet, parameters, without_class_prompts
from pipelines.gland_mini.canvas_run import Curriculum, Stage, train_on_canvases
from pipelines.gland_mini.data import (
    EBHI_SHARE,
    RINGS_SHARE,
    Glands,
    read_ebhi,
    read_negatives,
    read_rings,
)
from pipelines.gland_mini.figures import in_small_squares, judge, judge_all, lead, packaged
from pipelines.gland_mini.mosaic import Collection, LabelledPicture
from wsi_sampath.data.patches import write_atomically
from wsi_sampath.models.checkpoints import (
    file_sha256,
    load_checkpoint,
    read_tensors,
    save_checkpoint,
)
from wsi_sampath.models.described import PROVENANCE_KEY
from wsi_sampath.models.parse import spec_from_yaml
from wsi_sampath.models.sam_path.network import SamPath
from wsi_sampath.models.sam_path.spec import SamPathSpec

Figures = dict[str, Any]

SIDES, BATCHES = (256, 512), (16, 4)
COMPARE_SIDE, COMPARE_BATCH, COMPARE_PEAK = 256, 8, 1e-3
OURS, RIVAL = "gland-mini", "u-net"
UNET_WIDTH = 25
"""Makes the U-Net as large as gland-mini, within three per cent."""


def sam_path(spec: SamPathSpec, side: int, *, without: str | None = None) -> SamPath:
    """Return gland-mini for another tile, with random weights and maybe `without` an encoder."""
    lacking = {} if without is None else {without: None}
    return SamPath(spec.model_copy(update={"tile": side, **lacking}))


VARIANTS: dict[str, Callable[[SamPathSpec, int], nn.Module]] = {
    OURS: sam_path,
    "no-pathology-encoder": lambda spec, side: sam_path(spec, side, without="pathology"),
    "no-sam-encoder": lambda spec, side: sam_path(spec, side, without="sam"),
    "no-class-prompts": lambda spec, side: without_class_prompts(
        spec.model_copy(update={"tile": side})
    ),
    RIVAL: lambda spec, side: ClassUNet(spec, UNET_WIDTH),
}


def quick_scores(
    patches: list[LabelledPicture], build: Callable[[int], nn.Module], averaged: nn.Module
) -> dict[str, float]:
    """Return Dice and IoU of gland during training."""
    scores = judge(in_small_squares(averaged, build), patches)
    return {"dice": scores["dice"], "iou": scores["iou"]}


def training_sources(glands: Glands, data: Path) -> list[Collection]:
    """Return everything that is learned from."""
    rings, _ = read_rings(data)
    both = [Collection(glands.train, EBHI_SHARE), Collection(rings, RINGS_SHARE)]
    return [*both, *read_negatives(data)]


def train_packaged(options: argparse.Namespace, spec: SamPathSpec, glands: Glands) -> None:
    """Train gland-mini and write the packaged file."""
    build = partial(sam_path, spec)
    stages = tuple(Stage(*each) for each in zip(SIDES, BATCHES, options.steps, strict=True))
    curriculum = Curriculum(stages, peak=options.peak, seed=options.seed)
    sources = training_sources(glands, options.data)
    report = partial(quick_scores, glands.validation, build)
    state = options.out.with_suffix(".state")
    trained = train_on_canvases(build(spec.tile), build, curriculum, sources, state, report)
    run = {"sides": SIDES, "batches": BATCHES, "steps": options.steps, "peak": options.peak}
    save_checkpoint(trained, options.out, provenance=json.dumps({**run, "seed": options.seed}))


def compare(options: argparse.Namespace, spec: SamPathSpec, glands: Glands) -> Iterator[Figures]:
    """Train variants as many steps on the same canvases; yield the scores of each by its name."""
    _, rings = read_rings(options.data)
    for name in options.variants:
        whole, began = not variant_state(options, name).exists(), time.process_time()
        trained = train_variant(name, options, spec, glands)
        seconds = round(time.process_time() - began) if whole else None
        labels = in_small_squares(trained, partial(VARIANTS[name], spec))
        figures = judge_all(labels, glands, rings)
        yield {name: {"parameters": parameters(trained), "cpu_seconds": seconds, **figures}}


def train_variant(
    name: str, options: argparse.Namespace, spec: SamPathSpec, glands: Glands
) -> nn.Module:
    """Train a network of the comparison; one that is trained already comes from its state."""
    build = partial(VARIANTS[name], spec)
    torch.manual_seed(options.seed)
    model = build(COMPARE_SIDE)
    sources = training_sources(glands, options.data)
    report = partial(quick_scores, glands.validation, build)
    curriculum = comparison_curriculum(options.compare)
    return train_on_canvases(
        model, build, curriculum, sources, variant_state(options, name), report
    )


def variant_state(options: argparse.Namespace, name: str) -> Path:
    """Return the file that a training of the comparison resumes from."""
    path: Path = options.out.with_suffix(f".{name}-{options.compare}.state")
    return path


def leads(options: argparse.Namespace, spec: SamPathSpec, glands: Glands) -> Figures:
    """Return how far gland-mini is ahead of the U-Net on held-out patients, both trained."""
    ours, rival = (
        in_small_squares(train_variant(name, options, spec, glands), partial(VARIANTS[name], spec))
        for name in (OURS, RIVAL)
    )
    return lead(ours, rival, glands.test)


def comparison_curriculum(steps: int) -> Curriculum:
    """Return how every network of the comparison is trained."""
    return Curriculum((Stage(COMPARE_SIDE, COMPARE_BATCH, steps),), peak=COMPARE_PEAK)


def save_compared(path: Path, steps: int, found: Figures) -> None:
    """Add scores, or the lead, to what the file holds of the comparison."""
    how = {"side": COMPARE_SIDE, "batch": COMPARE_BATCH, "steps": steps, "peak": COMPARE_PEAK}
    known = read_figures(path).get(f"compare_{steps}", {})
    models = {**known.get("models", {}), **found.get("models", {})}
    save_figures(path, {f"compare_{steps}": {**known, **how, **found, "models": models}})


def figures_of(options: argparse.Namespace, glands: Glands) -> Figures:
    """Return what the model card says about the packaged file."""
    header, _ = read_tensors(options.out)
    model = load_checkpoint(options.out)
    _, rings = read_rings(options.data)
    labels = in_small_squares(model, partial(sam_path, cast(SamPathSpec, model.spec)))
    counts = {
        part: {"patches": len(patches), "patients": len({patch.patient for patch in patches})}
        for part, patches in vars(glands).items()
    }
    return {
        "weights_sha256": file_sha256(options.out),
        "bytes": options.out.stat().st_size,
        "parameters": parameters(model),
        "training": json.loads(header[PROVENANCE_KEY]),
        "ebhi": counts,
        "scores": judge_all(labels, glands, rings),
        "by_wsi_evaluate": judge(packaged(options.out), glands.test),
    }


def read_figures(path: Path) -> Figures:
    """Return the figures that the file holds already."""
    known: Figures = json.loads(path.read_text()) if path.is_file() else {}
    return known


def save_figures(path: Path, figures: Figures) -> None:
    """Add figures to those that the file holds already."""
    content = json.dumps({**read_figures(path), **figures}, indent=2)
    write_atomically(path, f"{content}\n".encode())


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, required=True, help="the packaged model")
    parser.add_argument("--spec", type=Path, default=Path("configs/models/gland-mini.yaml"))
    parser.add_argument("--steps", type=int, nargs=2, default=(2000, 400), help="per canvas size")
    parser.add_argument("--peak", type=float, default=8e-4, help="learning rate")
    parser.add_argument("--compare", type=int, default=0, metavar="STEPS", help="of each variant")
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=[*VARIANTS])
    parser.add_argument("--json", type=Path, help="file for the figures")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def main() -> None:
    """Train, write the checkpoint and measure it, or compare."""
    options = arguments()
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    glands = read_ebhi(options.data)
    spec = cast(SamPathSpec, spec_from_yaml(options.spec))
    if not options.compare:
        train_packaged(options, spec, glands)
        if options.json:
            save_figures(options.json, {"packaged": figures_of(options, glands)})
        return
    for scores in compare(options, spec, glands):
        print(json.dumps(scores), flush=True)
        if options.json:
            save_compared(options.json, options.compare, {"models": scores})
    if options.json and all(variant_state(options, name).exists() for name in (OURS, RIVAL)):
        save_compared(options.json, options.compare, {"lead": leads(options, spec, glands)})


if __name__ == "__main__":
    main()
