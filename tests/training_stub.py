"""A painted folder of patches, and settings of a network small enough for tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import yaml
from PIL import Image

from wsi_sampath.classes import ClassSpec
from wsi_sampath.data.patches import Patch, write_classes, write_table

CLASSES = (ClassSpec(name="other", color="#9aa0a6"), ClassSpec(name="gland", color="#c83264"))
TINY = {
    "name": "tiny",
    "classes": [dict(one) for one in CLASSES],
    "mpp": 1.0,
    "tile": 64,
    "sam": {"embed_dim": 16, "depth": 1, "num_heads": 2, "global_attn_indexes": [0]},
    "pathology": {"encoder": {"embed_dim": 12, "depth": 1, "num_heads": 2, "position_grid": 4}},
    "decoder": {"dim": 16, "depth": 1, "num_heads": 2, "mlp_dim": 24},
}
FOLDS = (1, 1, 2, 2, 1, 2, 0, 0, 0, -1, -1)


def paint_patches(root: Path, *, classes=CLASSES, side: int = 72) -> Path:
    """Dark discs (gland) on a light ground (other), a strip unlabelled; some of every split."""
    rng = np.random.default_rng(0)
    for kind in ("img", "mask"):
        (root / kind).mkdir(parents=True)
    y, x = np.mgrid[:side, :side]
    for number in range(len(FOLDS)):
        disc = np.hypot(y - rng.integers(20, 50), x - rng.integers(20, 50)) < rng.integers(10, 25)
        ground = rng.normal(190, 12, (side, side, 3))
        image = np.where(disc[..., None], ground - 90, ground).clip(0, 255).astype(np.uint8)
        mask = np.where(disc, 2, 1).astype(np.uint8)
        mask[: side // 8] = 0
        Image.fromarray(image).save(root / "img" / f"i{number}.png")
        Image.fromarray(mask).save(root / "mask" / f"i{number}.png")
    write_classes(root, classes)
    write_table(root, [Patch(f"i{n}", fold, f"case{n}") for n, fold in enumerate(FOLDS)])
    return root


def write_config(folder: Path, **changes: object) -> Path:
    """Write a model and the configuration of a short training of all of it; return the latter."""
    (folder / "tiny.yaml").write_text(yaml.safe_dump(TINY))
    values = {
        "model": "tiny.yaml",
        "allow_random_weights": True,
        "trainable": "all",
        "epochs": 3,
        "batch_size": 2,
        "accumulate": 1,
        "workers": 0,
        "device": "cpu",
        "optimiser": {"learning_rate": 2e-3, "warm_up": 2, "drops": []},
    }
    path = folder / "train.yaml"
    path.write_text(yaml.safe_dump(values | changes))
    return path
