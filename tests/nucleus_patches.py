"""Painted nuclei as patches, and a PathoSAM small enough for tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import yaml
from PIL import Image

from wsi_sampath.classes import ClassSpec
from wsi_sampath.data.patches import Patch, write_classes, write_table

TYPES = (ClassSpec(name="dark", color="#3c64c8"), ClassSpec(name="red", color="#c83232"))
TINY = {
    "name": "tiny",
    "architecture": "patho_sam",
    "classes": [{"name": "nucleus", "color": "#c83232"}],
    "mpp": 0.25,
    "tile": 32,
    "sam": {
        "embed_dim": 16,
        "depth": 1,
        "num_heads": 2,
        "global_attn_indexes": [0],
        "window_size": 3,
    },
    "prompts": {"dim": 16, "depth": 1, "num_heads": 2, "mlp_dim": 24},
    "decoder": {"widths": [16, 8, 8, 8]},
}
TYPED = TINY | {"classes": [dict(one) for one in TYPES], "class_decoder": True}
FOLDS = (1, 1, 1, 0, -1)


def painted(seed: int, side: int = 40) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Image, instances and types: discs on a light ground, the first type dark, the other red."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side]
    image = rng.integers(200, 240, (side, side, 3))
    instances, types = np.zeros((side, side), np.uint16), np.zeros((side, side), np.uint8)
    for number, (row, column) in enumerate(np.ndindex(4, 4)):
        at = np.hypot(y - 5 - 10 * row, x - 5 - 10 * column) < rng.uniform(2.5, 4)
        instances[at], types[at] = 300 + number, 1 + number % 2
        image[at] = (90, 30, 40) if number % 2 else (40, 40, 90)
    return image.astype(np.uint8), instances, types


def paint_nuclei(root: Path, *, typed: bool = True, mpp: float | None = 0.25) -> Path:
    """Write a folder of patches, some of every split."""
    layers = ("inst", "type") if typed else ("inst",)
    for kind in ("img", *layers):
        (root / kind).mkdir(parents=True)
    for number in range(len(FOLDS)):
        image, *labels = painted(number)
        Image.fromarray(image).save(root / "img" / f"i{number}.png")
        for kind, values in zip(layers, labels, strict=False):
            Image.fromarray(values).save(root / kind / f"i{number}.png")
    write_classes(root, TYPES if typed else [ClassSpec(name="nucleus", color="#c83232")], mpp)
    write_table(root, [Patch(f"i{n}", fold, f"case{n}") for n, fold in enumerate(FOLDS)])
    return root


def write_config(folder: Path, model: dict[str, object] = TINY, **changes: object) -> Path:
    """Write a model and the configuration of a short training; return the latter."""
    (folder / "tiny.yaml").write_text(yaml.safe_dump(model))
    values = {
        "model": "tiny.yaml",
        "objective": "nuclei",
        "allow_random_weights": True,
        "epochs": 2,
        "workers": 0,
        "device": "cpu",
        "pictures": 1,
        "prompting": {"objects": 2, "rounds": 2},
        "optimiser": {"learning_rate": 1e-3},
    }
    path = folder / "train.yaml"
    path.write_text(yaml.safe_dump(values | changes))
    return path
