"""The tables of docs/gland-mini.md, written from the stored figures.

``python -m pipelines.gland_mini.card`` rewrites what stands between the markers of the card.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pipelines.cards import rewrite_card

ROOT = Path(__file__).parents[2]
CARD = ROOT / "docs" / "gland-mini.md"
FIGURES = ROOT / "benchmarks" / "results" / "gland_mini.json"

SETS = {
    "ebhi_test": "EBHI-Seg, held-out patients",
    "ebhi_test_with_full_masks": "the same with masks over 95 % gland",
    "rings_benign": "RINGS, held out, benign glands",
}
TITLES = {
    "gland-mini": "gland-mini",
    "no-pathology-encoder": "without F_p (no pathology encoder)",
    "no-sam-encoder": "without F_s (no SAM encoder)",
    "no-class-prompts": "without class prompts (a plain head)",
    "u-net": "plain U-Net",
}


def tables(figures: dict[str, Any]) -> str:
    """Return the tables as Markdown."""
    runs = [figures[key] for key in sorted(figures) if key.startswith("compare_")]
    compared = [line for run in runs for line in ["", *_compared(run)]]
    return "\n".join([*_packaged(figures), *compared, ""])


def _packaged(figures: dict[str, Any]) -> list[str]:
    packaged = figures["packaged"]
    rows = ["| held out | images (patients) | Dice |", "|---|---|---|"]
    for key, title in SETS.items():
        scores = packaged["scores"][key]
        rows.append(f"| {title} | {scores['patches']} ({scores['patients']}) | {_dice(scores)} |")
    tumour = packaged["scores"]["rings_tumour"]
    rows.append(
        f"| RINGS, held out, tumour | {tumour['patches']} | recall {tumour['recall']:.3f} |"
    )
    return [*rows, *_shipped(packaged)]


def _shipped(packaged: dict[str, Any]) -> list[str]:
    small = "Each image is mirrored to a square of the next multiple of 64 px."
    scores = packaged["by_wsi_evaluate"]
    how = "`wsi-evaluate`, which fills the model's own tile,"
    return ["", f"{small} {how} finds {_dice(scores)} on the {scores['patches']} of EBHI-Seg."]


def _compared(run: dict[str, Any]) -> list[str]:
    canvas = f"{run['batch']} canvases of {run['side']} px"
    rows = [
        f"All from scratch, {run['steps']} steps of {canvas}, the same canvases in the same order:",
        "",
        "| network | weights (M) | Dice, EBHI-Seg | Dice, RINGS benign | recall, tumour | CPU s |",
        "|---|---|---|---|---|---|",
    ]
    for name, model in run["models"].items():
        weights = f"{model['parameters'] / 1e6:.2f}"
        dice = f"{_dice(model['ebhi_test'])} | {_dice(model['rings_benign'])}"
        tumour = f"{model['rings_tumour']['recall']:.3f}"
        title = TITLES[name]
        rows.append(f"| {title} | {weights} | {dice} | {tumour} | {model['cpu_seconds'] or '-'} |")
    if "lead" in run:
        ahead = f"{_dice(run['lead'])} above that of the U-Net, patient by patient."
        rows += ["", f"The Dice of gland-mini on EBHI-Seg is {ahead}"]
    return rows


def _dice(scores: dict[str, Any]) -> str:
    low, high = scores["dice_ci"] or (None, None)
    interval = "" if low is None else f" [{low:.3f}, {high:.3f}]"
    return f"{scores['dice']:.3f}{interval}"


def main() -> None:
    """Rewrite the card."""
    rewrite_card(CARD, tables(json.loads(FIGURES.read_text(encoding="utf-8"))))


if __name__ == "__main__":
    main()
