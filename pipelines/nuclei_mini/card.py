"""The tables of docs/nuclei-mini.md, written from the stored figures.

``python -m pipelines.nuclei_mini.card`` rewrites what stands between the markers of the card.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pipelines.cards import rewrite_card

ROOT = Path(__file__).parents[2]
CARD = ROOT / "docs" / "nuclei-mini.md"
FIGURES = ROOT / "benchmarks" / "results" / "nuclei_mini.json"

SETS = {
    "tnbc_test": "TNBC, test",
    "nucls_test": "NuCLS, test",
    "tnbc_validation": "TNBC, validation",
    "nucls_validation": "NuCLS, validation",
}
METHODS = ("nuclei-mini", "U-Net", "classical")


def tables(figures: dict[str, Any]) -> str:
    """Return the tables as Markdown."""
    rows = [
        "| patients | fields (nuclei) | method | F1@0.5 | AJI | PQ | mean IoU of the matches |",
        "|---|---|---|---|---|---|---|",
    ]
    for key, title in SETS.items():
        for method in METHODS:
            if method not in figures[key]:
                continue
            scores = figures[key][method]
            size = f"{scores['fields']} ({scores['true']})"
            told = " | ".join(f"{scores[name]:.3f}" for name in ("f1_50", "aji", "pq", "mean_iou"))
            rows.append(f"| {title}: {_names(figures[key]['of'])} | {size} | {method} | {told} |")
    rows += ["", "| one click on the middle of a nucleus | clicks | mean IoU |", "|---|---|---|"]
    for key, title in SETS.items():
        clicks = figures[key]["one click"]
        rows.append(f"| {title} | {clicks['clicks']} | {clicks['mean_iou']:.3f} |")
    return "\n".join([*rows, ""])


def _names(patients: list[str]) -> str:
    return ", ".join(name.replace("_", " ") for name in patients)


def main() -> None:
    """Rewrite the card."""
    rewrite_card(CARD, tables(json.loads(FIGURES.read_text(encoding="utf-8"))))


if __name__ == "__main__":
    main()
