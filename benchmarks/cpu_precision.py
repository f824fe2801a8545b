"""How far bf16 on a processor changes the map of gland-mini, and what it costs here.

Held-out patches of EBHI-Seg are answered in fp32 and in bf16, in squares of 320 px. On a processor
without AMX or AVX-512 BF16 the time says nothing of one that has them.

Run: python benchmarks/cpu_precision.py $WSI_SAMPATH_DATA
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from border_tiles import Rgb
from coarser import in_tiles_of
from measure import hardware
from numpy.typing import NDArray

from pipelines.gland_mini.data import GLAND, read_ebhi
from pipelines.gland_mini.figures import mirrored
from wsi_sampath.inference.predictor import Predictor
from wsi_sampath.models.network import LoadedModel
from wsi_sampath.models.zoo import load_model
from wsi_sampath.training.augment import rescaled

SQUARE, PATCHES = 320, 64
RESULTS = Path(__file__).parent / "results" / "cpu_precision.json"


def patches_of(data: Path) -> Iterator[Rgb]:
    """Yield held-out patches, mirrored to squares."""
    held_out = read_ebhi(data).test
    for patch in held_out[:: len(held_out) // PATCHES]:
        yield mirrored(rescaled(patch.image, patch.mask, patch.um)[0], SQUARE)


def compare(tiles: Iterable[Rgb], model: LoadedModel) -> dict[str, Any]:
    """Answer tiles in both precisions."""
    side = model.spec.tile
    predictors = {
        precision: Predictor(
            model,
            tile_px=side,
            output_px=side // model.spec.output_stride,
            device="cpu",
            precision=precision,
            batch_size=1,
        )
        for precision in ("fp32", "bf16")
    }
    seconds = dict.fromkeys(predictors, 0.0)
    pixels = changed = both = either = 0
    largest = 0.0
    for tile in tiles:
        maps = {}
        for name, predict in predictors.items():
            start = time.process_time()
            maps[name] = predict(tile[None])[0].numpy()
            seconds[name] += time.process_time() - start
        found = {name: positive(one, model) for name, one in maps.items()}
        pixels += found["fp32"].size
        changed += int((found["fp32"] != found["bf16"]).sum())
        both += 2 * int((found["fp32"] & found["bf16"]).sum())
        either += int(found["fp32"].sum() + found["bf16"].sum())
        largest = max(largest, float(np.abs(maps["fp32"] - maps["bf16"]).max()))
    return {
        "model": model.spec.name,
        "tile": side,
        "pixels": pixels,
        "pixels_changed": round(changed / pixels, 6),
        "dice": round(both / either, 5) if either else None,
        "share_found": round(either / 2 / pixels, 4),
        "largest_difference": round(largest, 4),
        "cpu_seconds": {name: round(spent, 1) for name, spent in seconds.items()},
    }


def positive(maps: NDArray[np.float32], model: LoadedModel) -> NDArray[np.bool_]:
    """Return where gland, or the foreground of nuclei, wins."""
    if model.spec.labels_pixels:
        return maps.argmax(0) == GLAND - 1
    return maps[0] > 0.5


def main() -> None:
    """Compare both precisions and store the JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    model = in_tiles_of(load_model("gland-mini"), SQUARE)
    sources = {"EBHI-Seg, held-out patients": (patches_of(options.data), model)}
    report: dict[str, Any] = {
        "hardware": hardware(),
        "capabilities": {
            name: torch.cpu.get_capabilities()[name] for name in ("amx_bf16", "avx512_bf16")
        },
    }
    for name, (tiles, model) in sources.items():
        report[name] = compare(tiles, model)
        print(name, json.dumps(report[name]), flush=True)
        options.out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
