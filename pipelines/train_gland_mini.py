"""Train the bundled model, gland-mini: ``python pipelines/train_gland_mini.py DATA --out FILE``.

DATA holds EBHI-Seg (``ebhi_seg``, ``ebhi_seg_more``: patches of 224 px with gland masks) and a few
images without glands. Patches of random scale are pasted onto glass and onto each other; one in
eight patients is held out. Training runs on small canvases, whose position tables are then widened
to the tile of the model, and ends on a few canvases of full size.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader

from wsi_sampath.models.checkpoints import load_checkpoint, save_checkpoint
from wsi_sampath.models.sam_path import SamPath
from wsi_sampath.models.spec import ModelSpec
from wsi_sampath.training.augment import Mask, Rgb, rescaled
from wsi_sampath.training.losses import segmentation_loss
from wsi_sampath.training.metrics import class_scores, confusion
from wsi_sampath.training.mosaic import Mosaics, Patch
from wsi_sampath.training.retile import with_tile

OTHER, GLAND = 1, 2
EBHI_UM = 1.3
"""Microns per pixel of EBHI-Seg's 224 px patches, judged from the size of normal crypts."""
HELD_OUT_ONE_IN = 8
AVERAGED_STEPS = 100
MOST_FOREGROUND = 0.95
"""Masks fuller than this are mostly annotations of a whole picture."""
NO_GLANDS = {
    "nct_crc/ADI*": 0.5,
    "nct_crc/BACK*": 0.5,
    "nct_crc/DEB*": 0.5,
    "nct_crc/LYM*": 0.5,
    "nct_crc/MUC*": 0.5,
    "nct_crc/MUS*": 0.5,
    "nct_crc/STR*": 0.5,
    "he_tiles/histoqc_template[23].png": 0.5,
    "ocdc/images/*.jpg": 0.5,
    "oscc/*.jpg": 0.3,
}
"""Files without glands, and their microns per pixel, roughly."""
MOST_OF_A_KIND = 3


def held_out(patient: str) -> bool:
    """Return whether a patient is never trained on: by the name, so that it never changes."""
    return zlib.crc32(patient.encode()) % HELD_OUT_ONE_IN == 0


def read_ebhi(data: Path) -> tuple[list[Patch], list[Patch]]:
    """Return the patches for training and those of the held-out patients."""
    split: tuple[list[Patch], list[Patch]] = ([], [])
    for folder in (data / "ebhi_seg", data / "ebhi_seg_more"):
        with (folder / "index.csv").open(newline="") as file:
            for row in csv.DictReader(file):
                patch = _read_patch(folder / row["image"], folder / row["label"])
                if (patch.mask == GLAND).mean() <= MOST_FOREGROUND:
                    split[held_out(row["patient"])].append(patch)
    return split


def _read_patch(image: Path, label: Path) -> Patch:
    glands = np.asarray(Image.open(label).convert("L")) >= 128
    mask = np.where(glands, GLAND, OTHER).astype(np.uint8)
    return Patch(np.asarray(Image.open(image).convert("RGB")), mask, EBHI_UM)


def read_negatives(data: Path) -> list[Patch]:
    """Return pictures of everything else."""
    found = [
        (path, um)
        for name, um in NO_GLANDS.items()
        for path in sorted(data.glob(name))[:MOST_OF_A_KIND]
    ]
    images = [(np.asarray(Image.open(path).convert("RGB")), um) for path, um in found]
    return [Patch(image, np.full(image.shape[:2], OTHER, np.uint8), um) for image, um in images]


def validation_canvases(patches: list[Patch], side: int) -> Iterator[tuple[Rgb, Mask]]:
    """Lay held-out patches side by side at one micron per pixel; the rest is unlabelled."""
    cell = round(224 * EBHI_UM)
    per_row = side // cell
    for start in range(0, len(patches), per_row**2):
        image = np.full((side, side, 3), 240, np.uint8)
        mask = np.zeros((side, side), np.uint8)
        for i, patch in enumerate(patches[start : start + per_row**2]):
            y, x = cell * (i // per_row), cell * (i % per_row)
            box = np.s_[y : y + cell, x : x + cell]
            image[box], mask[box] = rescaled(patch.image, patch.mask, cell / 224)
        yield image, mask


@torch.inference_mode()
def evaluate(model: SamPath, patches: list[Patch]) -> dict[str, float | None]:
    """Return Dice and IoU of gland, pooled over the pixels of all patches."""
    counts = np.zeros((2, 3), np.int64)
    for image, mask in validation_canvases(patches, model.spec.tile):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            output = model(model.preprocess(torch.from_numpy(image)[None]))
        logits = enlarged(output.logits.float(), model.spec.tile)[0, 1:]
        counts += confusion(mask, logits.argmax(dim=0).numpy() + 1, 2)
    score = class_scores(counts)[GLAND - 1]
    return {"dice": score["dice"], "iou": score["iou"]}


def enlarged(logits: Tensor, side: int) -> Tensor:
    """Return logits at full size, bilinear."""
    return functional.interpolate(logits, size=(side, side), mode="bilinear", align_corners=False)


def learning_rate(step: int, steps: int, peak: float, warm_up: int) -> float:
    """Return the rate of one step: linear warm-up, then half a cosine."""
    if step < warm_up:
        return peak * (step + 1) / warm_up
    return peak * 0.5 * (1 + math.cos(math.pi * (step - warm_up) / max(1, steps - warm_up)))


@dataclass(frozen=True)
class Stage:
    """One stretch of training on canvases of one size."""

    tile: int
    batch: int
    steps: int
    peak: float
    warm_up: int


def train_stage(
    model: SamPath, stage: Stage, data: Mosaics, held: list[Patch], out: Path, every: int
) -> SamPath:
    """Train, evaluating and saving the averaged weights now and then; return these."""
    full_tile = model.spec.tile
    model = with_tile(model, stage.tile).train()
    average = with_tile(model, stage.tile)
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.03)
    loader = iter(DataLoader(data, batch_size=stage.batch, num_workers=1, prefetch_factor=4))
    began = time.monotonic()
    for step in range(stage.steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, stage.steps, stage.peak, stage.warm_up)
        parts = train_step(model, optimizer, *next(loader))
        move_towards(average, model, AVERAGED_STEPS)
        if step % 10 == 9:
            print(
                f"{stage.tile} step {step + 1} {parts} {time.monotonic() - began:.0f} s", flush=True
            )
        if step % every == every - 1 or step == stage.steps - 1:
            best = with_tile(average, full_tile).eval()
            print(json.dumps({"step": step + 1, **evaluate(best, held)}), flush=True)
            save_checkpoint(best, out)
    return with_tile(average, full_tile).eval()


@torch.no_grad()
def move_towards(average: SamPath, model: SamPath, steps: int) -> None:
    """Update the running mean of the weights over about so many steps."""
    for mean, weight in zip(average.parameters(), model.parameters(), strict=True):
        mean.lerp_(weight, 1 / steps)


def train_step(
    model: SamPath, optimizer: torch.optim.Optimizer, images: Tensor, target: Tensor
) -> str:
    """Take one step; return the parts of the loss as text."""
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = model(model.preprocess(images))
    logits = enlarged(output.logits.float(), target.shape[-1])
    loss = segmentation_loss(logits, target, output.iou.float())
    optimizer.zero_grad(set_to_none=True)
    torch.autograd.backward(loss.total)
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    return f"loss {loss.total:.3f} dice {loss.dice:.3f} focal {loss.focal:.4f}"


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--spec", type=Path, default=Path("configs/models/gland-mini.yaml"))
    parser.add_argument("--start", type=Path, help="a checkpoint to go on from")
    parser.add_argument("--steps", type=int, default=1400, help="on small canvases")
    parser.add_argument("--last-steps", type=int, default=100, help="on canvases of full size")
    parser.add_argument("--side", type=int, default=512, help="of the small canvases, px")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--peak", type=float, default=1e-3, help="learning rate")
    parser.add_argument("--evaluate-every", type=int, default=100)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def main() -> None:
    """Train and write the checkpoint."""
    options = arguments()
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    train, held = read_ebhi(options.data)
    others = read_negatives(options.data)
    print(f"{len(train)} patches, {len(held)} held out, {len(others)} without glands", flush=True)
    model = SamPath(ModelSpec.from_yaml(options.spec))
    if options.start:
        model.load_state_dict(load_checkpoint(options.start).state_dict())
    stages = [
        Stage(options.side, options.batch, options.steps, options.peak, 60),
        Stage(model.spec.tile, 1, options.last_steps, options.peak / 20, 10),
    ]
    for number, stage in enumerate(stages):
        data = Mosaics(train, others, stage.tile, options.seed + number)
        if stage.steps:
            model = train_stage(model, stage, data, held, options.out, options.evaluate_every)


if __name__ == "__main__":
    main()
