"""Train the bundled model of nuclei: ``python -m pipelines.nuclei_mini.train DATA --out FILE``.

DATA holds TNBC, NuCLS, the Data Science Bowl and pictures without nuclei (see ``data.py``). Killed
and started again, it resumes. ``--json FILE`` stores every figure of the model card
(docs/nuclei-mini.md); without ``--steps`` it only measures the file that is there.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch

from pipelines.nuclei_mini.crops import Crops
from pipelines.nuclei_mini.data import MPP, Field, read_fields
from pipelines.nuclei_mini.figures import by_classics, by_network, judge, judge_clicks, loaded
from pipelines.nuclei_mini.run import Plan, joint_losses, train_nuclei
from wsi_sampath.data.patches import write_atomically
from wsi_sampath.models.checkpoints import (
    file_sha256,
    load_checkpoint,
    read_tensors,
    save_checkpoint,
)
from wsi_sampath.models.described import PROVENANCE_KEY
from wsi_sampath.models.parse import spec_from_yaml
from wsi_sampath.models.patho_sam.network import PathoSam
from wsi_sampath.models.patho_sam.spec import PathoSamSpec

SHARES = {
    "tnbc": 0.62,
    "nucls": 0.2,
    "dsb_pink": 0.04,
    "dsb_purple": 0.05,
    "dsb_white": 0.04,
    "empty": 0.05,
}
"""How often a crop is from each source."""
JUDGED = ("tnbc", "nucls")


def of_part(fields: Sequence[Field], part: str, source: str | None = None) -> list[Field]:
    """Return the fields of a part, of one source or of all."""
    return [one for one in fields if one.part == part and source in (None, one.source)]


def quick_scores(model: PathoSam, fields: Sequence[Field]) -> dict[str, float]:
    """Return how good a network is on validation patients, during training."""
    scores: dict[str, float] = {}
    for source in JUDGED:
        some = of_part(fields, "validation", source)
        found = judge(by_network(loaded(model)), some)
        scores |= {f"{source} {name}": found[name] for name in ("f1_50", "aji")}
        scores[f"{source} click"] = judge_clicks(model, some)["mean_iou"]
    return scores


def train_packaged(options: argparse.Namespace, fields: Sequence[Field]) -> None:
    """Train nuclei-mini and write the packaged file."""
    spec = cast(PathoSamSpec, spec_from_yaml(options.spec))
    torch.manual_seed(options.seed)
    plan = Plan(steps=options.steps, seed=options.seed)
    crops = Crops(of_part(fields, "train"), SHARES, spec.tile, options.seed)
    state = options.out.with_suffix(".state")
    trained = train_nuclei(
        PathoSam(spec),
        partial(joint_losses, plan),
        crops,
        plan,
        state,
        lambda model: quick_scores(model, fields),
    )
    told = {"steps": plan.steps, "batch": plan.batch, "peak": plan.peak, "seed": plan.seed}
    save_checkpoint(trained, options.out, provenance=json.dumps(told))


def figures_of(path: Path, fields: Sequence[Field]) -> dict[str, Any]:
    """Return what the model card says about the packaged file."""
    header, _ = read_tensors(path)
    model = cast(PathoSam, load_checkpoint(path))
    found: dict[str, Any] = {
        "weights_sha256": file_sha256(path),
        "bytes": path.stat().st_size,
        "parameters": sum(weight.numel() for weight in model.parameters()),
        "training": json.loads(header[PROVENANCE_KEY]),
        "mpp": MPP,
        "trained_on": _counts(of_part(fields, "train")),
    }
    for part in ("validation", "test"):
        for source in JUDGED:
            some = of_part(fields, part, source)
            found[f"{source}_{part}"] = {
                "of": sorted({one.patient for one in some}),
                "nuclei-mini": judge(by_network(loaded(model)), some),
                "classical": judge(by_classics, some),
                "one click": judge_clicks(model, some),
            }
    return found


def _counts(fields: Sequence[Field]) -> dict[str, dict[str, int]]:
    return {
        source: {
            "fields": len(some),
            "patients": len({one.patient for one in some}),
            "nuclei": sum(int(one.targets.instances.max()) for one in some),
        }
        for source in SHARES
        if (some := [one for one in fields if one.source == source])
    }


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, required=True, help="the packaged model")
    parser.add_argument("--spec", type=Path, default=Path("configs/models/nuclei-mini.yaml"))
    parser.add_argument("--steps", type=int, default=0, help="train for so many")
    parser.add_argument("--json", type=Path, help="file for the figures")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def main() -> None:
    """Train, write the checkpoint and measure it."""
    options = arguments()
    torch.set_num_threads(options.threads)
    fields = read_fields(options.data)
    if options.steps:
        train_packaged(options, fields)
    if options.json:
        content = json.dumps(figures_of(options.out, fields), indent=2)
        write_atomically(options.json, f"{content}\n".encode())


if __name__ == "__main__":
    main()
