"""Does a second look help? WSI-SAM on glands of held-out patients, with its context and without.

    python benchmarks/wsi_sam.py --data FOLDER --out SCRATCH --json benchmarks/results/wsi_sam.json

FOLDER holds ``ebhi_seg`` and ``ebhi_seg_more`` (EBHI-Seg, Shi et al. 2023, CC BY 4.0: colon
biopsies of 224 px with outlined glands and lesions). Of each picture the middle 112 px are the
patch, all of it is the context. The frozen SAM is that of `nuclei-mini` in a frame of 128 px, which
was trained on nuclei, and then for a short while on glands of the training patients, by the same
prompts and from the patch alone. What WSI-SAM learns beside it starts at random, once with both
views and once with a context that shows nothing (and has no part in the loss), else alike. All are
asked for the same glands of the test patients, by the zero-shot protocol of the paper.
"""

from __future__ import annotations

import argparse
import csv
import json
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from PIL import Image
from torch import Tensor, nn

from wsi_sampath.data.context import in_context
from wsi_sampath.data.patches import open_patches
from wsi_sampath.data.prepare import plan_patches, prepare
from wsi_sampath.evaluation.prompts import score_models
from wsi_sampath.evaluation.settings import PromptScoring
from wsi_sampath.models.checkpoints import build_model, load_weights, save_checkpoint
from wsi_sampath.models.described import model_spec
from wsi_sampath.models.network import Embedding
from wsi_sampath.models.parse import parse_spec
from wsi_sampath.models.plain_sam.network import PlainSam
from wsi_sampath.models.wsi_sam.spec import WsiSamSpec
from wsi_sampath.models.zoo import load_model
from wsi_sampath.training.configuration import read_settings
from wsi_sampath.training.prompts.asking import drawn_prompts, mask_loss, some_objects
from wsi_sampath.training.prompts.reader import PromptReader, PromptSample
from wsi_sampath.training.prompts.settings import PromptTrainSettings
from wsi_sampath.training.train import train

TILE = 128
GLASS = 235
LEAST_PX = 100
"""Of the patch: smaller pieces of glands are not asked for."""
BATCH = 8
SAM_STEPS, SAM_RATE = 150, 3e-4
TESTED = 160
LEAST, MOST = 0.05, 0.85
"""Of the patch that is gland: pictures with less or more ask for nothing, or for everything."""
ARMS = {"context": ("context", 0.5), "blind": ("blind", 1.0)}
"""The folder of an arm, and the share of the high resolution in its loss."""


def pictures(data: Path) -> Iterator[tuple[str, Path, Path]]:
    """Yield a name with the patient in front, an image and its mask."""
    seen = set()
    for folder in (data / "ebhi_seg", data / "ebhi_seg_more"):
        with (folder / "index.csv").open(newline="") as file:
            for row in csv.DictReader(file):
                image = folder / row["image"]
                name = f"{row['patient']}_{row['class']}_{image.stem}"
                if name not in seen:
                    seen.add(name)
                    yield name, image, folder / row["label"]


def cut(data: Path, out: Path, most: int) -> Path:
    """Write the patches with their context, split by patient; return their folder."""
    root = out / "context"
    if (root / "patches.csv").is_file():
        return root
    sources = [out / "source" / name for name in ("near", "near_mask", "wide", "wide_mask")]
    for folder in sources:
        folder.mkdir(parents=True, exist_ok=True)
    kept = 0
    chosen = sorted(pictures(data))
    for at in np.random.default_rng(0).permutation(len(chosen)):
        name, image, label = chosen[at]
        mask = (np.asarray(Image.open(label).convert("L")) >= 128).astype(np.uint8)
        rgb = np.asarray(Image.open(image).convert("RGB"))
        if rgb.shape != (224, 224, 3) or mask.shape != (224, 224):
            continue
        both = in_context(rgb, mask)
        if not LEAST <= both.labels.mean() <= MOST:
            continue
        parts = (both.image, 255 * both.labels, both.context, 255 * both.context_labels)
        for folder, pixels in zip(sources, parts, strict=True):
            Image.fromarray(pixels).save(folder / f"{name}.png")
        kept += 1
        if kept == most:
            break
    near, near_mask, wide, wide_mask = ([folder] for folder in sources)
    plan = plan_patches(
        near, near_mask, root, context=(wide, wide_mask), case=r"^(\d+)_", test=0.35, folds=6
    )
    for _ in prepare(plan):
        pass
    return root


def blinded(root: Path) -> Path:
    """Return a copy of a folder whose contexts show nothing."""
    out = root.parent / "blind"
    if not (out / "patches.csv").is_file():
        shutil.copytree(root, out, dirs_exist_ok=True)
        for path in (out / "context").iterdir():
            size = Image.open(path).size
            Image.new("RGB", size, (GLASS,) * 3).save(path)
    return out


def write_model(out: Path) -> Path:
    """Write the specification of a WSI-SAM beside the SAM of nuclei-mini."""
    path = out / "wsi-sam-small.yaml"
    path.write_text(yaml.safe_dump(_values("wsi_sam")))
    return path


def _values(architecture: str) -> dict[str, Any]:
    of = model_spec("nuclei-mini").model_dump(mode="json")
    same = {name: of[name] for name in ("mean", "std", "sam", "prompts")}
    return {"name": "small", "architecture": architecture, "mpp": 1.0, "tile": TILE, **same}


def small_sam() -> PlainSam:
    """Return the SAM of nuclei-mini in a smaller frame.

    Of the tables of relative positions those are kept that occur in the frame, which changes
    nothing of what they say.
    """
    whole = load_model("nuclei-mini").module.state_dict()
    small = build_model(parse_spec(_values("sam")))
    assert isinstance(small, PlainSam)
    state = {}
    for name, wanted in small.state_dict().items():
        tensor = whole[f"sam.{name}"]
        spare = (len(tensor) - len(wanted)) // 2
        state[name] = tensor[spare : spare + len(wanted)].clone()
    load_weights(small, state, subject="nuclei-mini")
    return small


def frozen_sam(out: Path) -> Path:
    """Return the file of the SAM that is frozen, taught glands of the training patients."""
    path = out / "sam-small.safetensors"
    if not path.is_file():
        sam, found = small_sam(), open_patches(out / "context")
        settings = PromptTrainSettings.model_validate(
            {"model": "", "data": "", "out": "", **learning(), "objects_per_patch": 1}
        )
        spec = parse_spec(_values("wsi_sam"))
        assert isinstance(spec, WsiSamSpec)
        read, training = PromptReader(found, spec, settings), found.split("train")
        optimiser = torch.optim.AdamW(sam.parameters(), lr=SAM_RATE)
        for step in range(SAM_STEPS):
            drawn = np.random.default_rng(step).choice(len(training), BATCH, replace=False)
            samples = [read(training[at], step) for at in drawn]
            batch = PromptSample(*(torch.stack(parts) for parts in zip(*samples, strict=True)))
            loss = _sam_loss(sam, batch, settings, torch.Generator().manual_seed(step))
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            if step % 10 == 0:
                print(f"SAM: step {step} of {SAM_STEPS}, loss {float(loss.detach()):.3f}")
        save_checkpoint(sam.eval(), path, dtype=torch.float32, provenance="{}")
    return path


def _sam_loss(
    sam: PlainSam, batch: PromptSample, settings: PromptTrainSettings, draw: torch.Generator
) -> Tensor:
    """Return Dice and cross entropy of SAM's single mask of one object of each patch."""
    asked = some_objects(batch.objects, 1, draw)
    assert asked is not None
    kind = settings.kinds[int(torch.randint(len(settings.kinds), (), generator=draw))]
    features = sam.image_encoder(sam.preprocess(batch.views[:, 0]))[asked.images]
    prompts = drawn_prompts(asked.masks[0], kind, settings, draw, 4 * features.shape[-1])
    answers = [
        sam.masks((one[None],), prompt, multimask=False)[0]
        for one, prompt in zip(features, prompts.batches(1), strict=True)
    ]
    return mask_loss(torch.cat(answers), asked.masks[0])


class Blind(nn.Module):
    """A WSI-SAM whose context shows nothing.

    Parameters
    ----------
    network
        The WSI-SAM.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network, self.sam, self.preprocess = network, network.sam, network.preprocess
        self.masks = network.masks

    def embed(self, views: Sequence[Tensor]) -> Embedding:
        """Look at the patch alone."""
        nothing = torch.full((1, TILE, TILE, 3), GLASS, dtype=torch.uint8)
        return self.network.embed([views[0], self.preprocess(nothing)])


def learning() -> dict[str, Any]:
    """Return the settings of the training that both arms, and the SAM, have."""
    return {
        "objective": "prompts",
        "objects": ["gland"],
        "batch_size": BATCH,
        "objects_per_patch": 2,
        "min_size_px": LEAST_PX,
        "workers": 0,
        "pictures": 0,
        "augmentation": {
            "crop_scale": [1, 1],
            "crop_ratio": [1, 1],
            "rotate": 0.75,
            "colour": 0.2,
            "hue": 0.1,
        },
    }


def trained(out: Path, arm: str, seed: int, epochs: int) -> dict[str, Any]:
    """Train one arm; return where its model is, and how it went."""
    folder, share = ARMS[arm]
    config = out / f"{arm}.yaml"
    values = {
        "model": str(write_model(out)),
        "weights": {"sam": str(frozen_sam(out))},
        **learning(),
        "high_share": share,
        "epochs": epochs,
        "device": "cpu",
    }
    config.write_text(yaml.safe_dump(values))
    run = out / f"run-{arm}-{seed}"
    began = time.perf_counter()
    result = train(
        read_settings(config, [f"data={out / folder}", f"out={run}", f"seed={seed}"]), print
    )
    with (run / "curve.csv").open() as file:
        curve = [
            {name: float(row[name]) for name in ("val_dice", "val_dice_frozen") if row.get(name)}
            for row in csv.DictReader(file)
        ]
    return {
        "model": str(result.model),
        "epoch": result.result["epoch"],
        "steps": result.result["steps"],
        "seconds": round(time.perf_counter() - began, 1) if result.new else None,
        "validation": [row for row in curve if row],
    }


def asked(root: Path, models: dict[str, str]) -> dict[str, Any]:
    """Score models, by the names of their arms, on the test patients; differences are to blind."""
    loaded = []
    for name in sorted(models):
        one = load_model(models[name])
        blind = name.startswith("blind")
        module = Blind(one.module) if blind else one.module
        loaded.append(replace(one, module=module, source=name))
    opened = open_patches(root)
    settings = PromptScoring(device="cpu", min_size_px=LEAST_PX)
    return score_models(opened, opened.split("test")[:TESTED], loaded, settings, ("gland",))


def table(result: dict[str, Any]) -> list[str]:
    """Return the scores of the first seed as rows of a table, Dice with intervals by patient."""
    test = result["test"]["seed 0"]
    scores, change = test["scores"], test["differences"]["context - blind"]
    rows = ["| prompt | frozen SAM | no context | context | context - no context |"]
    rows += ["|---|---|---|---|---|"]
    for kind in scores["context"]:
        names = ("context, frozen SAM", "blind", "context")
        cells = [_cell(scores[name][kind], "") for name in names]
        rows.append(f"| {kind} | {' | '.join([*cells, _cell(change[kind], '+')])} |")
    return rows


def _cell(score: dict[str, Any], sign: str) -> str:
    low, high = score["dice_ci"]
    return f"{score['dice']:{sign}.3f} ({low:{sign}.3f} to {high:{sign}.3f})"


def main() -> None:
    """Cut, train, ask, and store the numbers."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--most", type=int, default=700, help="pictures")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    root = cut(options.data, options.out, options.most)
    blinded(root)
    found = open_patches(root)
    result: dict[str, Any] = {
        "question": __doc__,
        "patches": {split: len(found.split(split)) for split in ("train", "validation", "test")},
        "patients": {
            split: len({patch.case for patch in found.split(split)})
            for split in ("train", "validation", "test")
        },
        "runs": {},
        "test": {},
    }
    for seed in range(options.seeds):
        models = {}
        for arm in ARMS:
            run = trained(options.out, arm, seed, options.epochs)
            models[arm] = run.pop("model")
            result["runs"][f"{arm}, seed {seed}"] = run
        scores = asked(root, models)
        result["test"][f"seed {seed}"] = {
            name: scores[name] for name in ("objects", "cases", "scores", "differences")
        }
        options.json.write_text(json.dumps(result, indent=1) + "\n")
        print("\n".join(table(result)))


if __name__ == "__main__":
    main()
