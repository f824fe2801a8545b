"""Train the bundled model, gland-mini: ``python pipelines/train_gland_mini.py DATA --out FILE``.

DATA holds EBHI-Seg, RINGS and a few pictures without glands (see ``gland_mini_data.py``). Training
runs on small canvases of these, then on larger ones; position tables are then widened to the tile
of the model. Killed, it goes on where it was when started again. ``--compare STEPS`` trains
gland-mini, its ablations and a plain U-Net of the same size from scratch, all alike, and
``--json FILE`` stores every figure of the model card (docs/gland-mini.md).
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from gland_mini_data import (
    EBHI_SHARE,
    RINGS_SHARE,
    Glands,
    read_ebhi,
    read_negatives,
    read_rings,
)
from gland_mini_figures import in_small_squares, judge, judge_all, packaged
from torch import nn

from wsi_sampath.models.checkpoints import (
    PROVENANCE_KEY,
    file_sha256,
    load_checkpoint,
    read_tensors,
    save_checkpoint,
)
from wsi_sampath.models.sam_path import SamPath
from wsi_sampath.models.spec import ModelSpec
from wsi_sampath.training.canvas_run import Plan, Stage, train
from wsi_sampath.training.datasets import write_atomically
from wsi_sampath.training.mosaic import Patch, Source
from wsi_sampath.training.rivals import PlainUNet, parameters, without_class_prompts

SIDES, BATCHES = (256, 512), (16, 4)
COMPARE_SIDE, COMPARE_BATCH, COMPARE_PEAK = 256, 8, 1e-3
EARLY_LAYERS = tuple(
    f"{encoder}.{name}."
    for encoder, names in {
        "sam_encoder": ("patch_embed", "blocks.0", "blocks.1"),
        "pathology_encoder.encoder.net": ("stem_0", "stem_1", "stages_0"),
    }.items()
    for name in names
)
"""What a trained model may leave as it is when it goes on: two fifths of the work."""
UNET_WIDTH = 25
"""Makes the U-Net as large as gland-mini, within three per cent."""


def sam_path(spec: ModelSpec, side: int, *, without: str | None = None) -> SamPath:
    """Return gland-mini for another tile, with random weights and maybe `without` an encoder."""
    lacking = {} if without is None else {without: None}
    return SamPath(spec.model_copy(update={"tile": side, **lacking}))


VARIANTS: dict[str, Callable[[ModelSpec, int], nn.Module]] = {
    "gland-mini": sam_path,
    "no-pathology-encoder": lambda spec, side: sam_path(spec, side, without="pathology"),
    "no-sam-encoder": lambda spec, side: sam_path(spec, side, without="sam"),
    "no-class-prompts": lambda spec, side: without_class_prompts(
        spec.model_copy(update={"tile": side})
    ),
    "u-net": lambda spec, side: PlainUNet(spec, UNET_WIDTH),
}


def quick_scores(
    patches: list[Patch], build: Callable[[int], nn.Module], averaged: nn.Module
) -> dict[str, float]:
    """Return Dice and IoU of gland during training."""
    scores = judge(in_small_squares(averaged, build), patches)
    return {"dice": scores["dice"], "iou": scores["iou"]}


def training_sources(glands: Glands, data: Path) -> list[Source]:
    """Return everything that is learned from."""
    rings, _ = read_rings(data)
    both = [Source(glands.train, EBHI_SHARE), Source(rings, RINGS_SHARE)]
    return [*both, *read_negatives(data)]


def train_packaged(options: argparse.Namespace, spec: ModelSpec, glands: Glands) -> None:
    """Train gland-mini and write the packaged file."""
    build = partial(sam_path, spec)
    model = build(spec.tile)
    runs = []
    if options.init:
        model.load_state_dict(load_checkpoint(options.init).state_dict())
        runs = _runs_of(options.init)
    stages = tuple(Stage(*each) for each in zip(SIDES, BATCHES, options.steps, strict=True))
    frozen = EARLY_LAYERS if options.freeze_early else ()
    plan = Plan(stages, peak=options.peak, seed=options.seed, frozen=frozen)
    sources = training_sources(glands, options.data)
    report = partial(quick_scores, glands.validation, build)
    trained = train(model, build, plan, sources, options.out.with_suffix(".state"), report)
    run = {"sides": SIDES, "batches": BATCHES, "steps": options.steps, "peak": options.peak}
    runs.append({**run, "seed": options.seed, "frozen": frozen})
    save_checkpoint(trained, options.out, provenance=json.dumps({"runs": runs}))


def _runs_of(path: Path) -> list[Any]:
    header, _ = read_tensors(path)
    unknown = [{"start": f"{path.name}, sha256 {file_sha256(path)}"}]
    runs: list[Any] = json.loads(header.get(PROVENANCE_KEY) or "{}").get("runs", unknown)
    return runs


def compare(options: argparse.Namespace, spec: ModelSpec, glands: Glands) -> dict[str, Any]:
    """Train variants from scratch, as many steps on the same canvases; return their scores."""
    plan = Plan((Stage(COMPARE_SIDE, COMPARE_BATCH, options.compare),), peak=COMPARE_PEAK)
    sources = training_sources(glands, options.data)
    _, rings = read_rings(options.data)
    scores = {}
    for name in options.variants:
        build = partial(VARIANTS[name], spec)
        torch.manual_seed(options.seed)
        model = build(COMPARE_SIDE)
        state = options.out.with_suffix(f".{name}-{options.compare}.state")
        report = partial(quick_scores, glands.validation, build)
        began = time.process_time()
        trained = train(model, build, plan, sources, state, report)
        seconds = round(time.process_time() - began)
        figures = judge_all(in_small_squares(trained, build), glands, rings)
        scores[name] = {"parameters": parameters(model), "cpu_seconds": seconds, **figures}
        print(json.dumps({name: scores[name]}), flush=True)
    how = {"side": COMPARE_SIDE, "batch": COMPARE_BATCH, "steps": options.compare}
    return {"trained": "from scratch", **how, "peak": COMPARE_PEAK, "models": scores}


def figures_of(options: argparse.Namespace, glands: Glands) -> dict[str, Any]:
    """Return what the model card tells about the packaged file."""
    header, _ = read_tensors(options.out)
    counts = {
        part: {"patches": len(patches), "patients": len({patch.patient for patch in patches})}
        for part, patches in vars(glands).items()
    }
    return {
        "weights_sha256": file_sha256(options.out),
        "bytes": options.out.stat().st_size,
        "parameters": parameters(load_checkpoint(options.out)),
        "training": json.loads(header[PROVENANCE_KEY]),
        "ebhi": counts,
        "scores": scores_of(options.out, options, glands),
        "by_wsi_evaluate": judge(packaged(options.out), glands.test),
    }


def scores_of(path: Path, options: argparse.Namespace, glands: Glands) -> dict[str, Any]:
    """Return the scores of a packaged file on everything that is held out."""
    model = load_checkpoint(path)
    _, rings = read_rings(options.data)
    return judge_all(in_small_squares(model, partial(sam_path, model.spec)), glands, rings)


def save_figures(path: Path, figures: dict[str, Any]) -> None:
    """Add figures to those that the file holds already."""
    known = json.loads(path.read_text()) if path.is_file() else {}
    write_atomically(path, f"{json.dumps({**known, **figures}, indent=2)}\n".encode())


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, required=True, help="the packaged model")
    parser.add_argument("--spec", type=Path, default=Path("configs/models/gland-mini.yaml"))
    parser.add_argument("--init", type=Path, help="a checkpoint to go on from")
    parser.add_argument("--steps", type=int, nargs=2, default=(2000, 500), help="per canvas size")
    parser.add_argument("--peak", type=float, default=8e-4, help="learning rate")
    parser.add_argument("--freeze-early", action="store_true", help="leave the first layers alone")
    parser.add_argument("--compare", type=int, default=0, metavar="STEPS", help="of each variant")
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=[*VARIANTS])
    parser.add_argument("--json", type=Path, help="file for the figures")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def main() -> None:
    """Train, write the checkpoint, and measure it."""
    options = arguments()
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    glands = read_ebhi(options.data)
    spec = ModelSpec.from_yaml(options.spec)
    train_packaged(options, spec, glands)
    if options.json:
        save_figures(options.json, {"packaged": figures_of(options, glands)})
    if options.json and options.init:
        started = {"sha256": file_sha256(options.init)}
        scores = scores_of(options.init, options, glands)
        save_figures(options.json, {"start": {**started, "scores": scores}})
    if options.json and options.compare:
        compared = compare(options, spec, glands)
        save_figures(options.json, {f"compare_{options.compare}": compared})


if __name__ == "__main__":
    main()
