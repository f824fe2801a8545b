"""What coarser pixels than a model's own cost it: scores on the patients that were held out.

At twice the mpp a slide has a quarter of the tiles. This asks whether the answers are as good: the
same patches, annotated at their own pixels, seen by the same weights at 1, 1.5 and 2 times the mpp.
gland-mini answers in squares of a fixed side, as its card does; the side may be its own tile.

Run: python benchmarks/coarser.py $WSI_SAMPATH_DATA [--side 1024] [--out FILE]
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from measure import hardware

from pipelines.gland_mini.data import read_ebhi, read_rings
from pipelines.gland_mini.figures import Labels, judge_all, lead
from pipelines.gland_mini.mosaic import LabelledPicture
from pipelines.nuclei_mini.data import MPP, read_fields
from pipelines.nuclei_mini.figures import judge
from wsi_sampath.evaluation.nucleus_predictor import NucleusPredictor
from wsi_sampath.evaluation.patch_predictor import PatchPredictor
from wsi_sampath.inference.instances.settings import NucleusSettings
from wsi_sampath.models.build import build_network
from wsi_sampath.models.network import LoadedModel
from wsi_sampath.models.parts.retile import with_tile
from wsi_sampath.models.zoo import load_model
from wsi_sampath.training.augment import Mask

TIMES = (1.0, 1.5, 2.0)
RESULTS = Path(__file__).parent / "results" / "coarser.json"


def in_tiles_of(model: LoadedModel, side: int) -> LoadedModel:
    """Return a model of regions for another tile."""
    spec = model.spec.model_copy(update={"tile": side})
    return replace(model, module=with_tile(model.module, build_network(spec)).eval(), spec=spec)


def at(model: LoadedModel, times: float) -> Labels:
    """Return the labels of patches that are seen at so many times the model's mpp, remembered."""
    known: dict[int, Mask] = {}

    def labels(patches: Sequence[LabelledPicture]) -> list[Mask]:
        for patch in patches:
            if id(patch) not in known:
                predict = PatchPredictor(model, mpp=patch.um / times)
                (known[id(patch)],) = predict([patch.image])
        return [known[id(patch)] for patch in patches]

    return labels


def of_glands(data: Path, side: int) -> dict[str, Any]:
    """Score gland-mini, and how far its Dice falls behind that at its own mpp."""
    model = in_tiles_of(load_model("gland-mini"), side)
    glands, (_, rings) = read_ebhi(data), read_rings(data)
    found = {times: at(model, times) for times in TIMES}
    report: dict[str, Any] = {"side": side, "mpp": model.spec.mpp}
    for times, labels in found.items():
        report[f"{times:g}"] = {
            **judge_all(labels, glands, rings),
            "ebhi_test_against_own_mpp": lead(labels, found[1.0], glands.test),
        }
        print(times, json.dumps(report[f"{times:g}"]["ebhi_test"]), flush=True)
    return report


def of_nuclei(data: Path) -> dict[str, Any]:
    """Score nuclei-mini; smoothing is in px of the maps, so it is also given as so many um."""
    model = load_model("nuclei-mini")
    usual = NucleusSettings()
    fields = [field for field in read_fields(data) if field.part == "test"]
    report: dict[str, Any] = {"mpp": model.spec.mpp}
    for times in TIMES:
        same_um = usual.model_copy(
            update={
                "foreground_smoothing_px": usual.foreground_smoothing_px / times,
                "distance_smoothing_px": usual.distance_smoothing_px / times,
            }
        )
        for name, settings in {"": usual, ", smoothed by the same um": same_um}.items():
            find = _nuclei(NucleusPredictor(model, mpp=MPP / times, settings=settings))
            of_source = {
                source: judge(find, [field for field in fields if field.source == source])
                for source in ("tnbc", "nucls")
            }
            report[f"{times:g}{name}"] = of_source
            print(times, name, json.dumps(of_source["tnbc"]), flush=True)
    return report


def _nuclei(predict: NucleusPredictor) -> Callable[..., Any]:
    return lambda images: [found.labels for found in predict(images)]


def main() -> None:
    """Score both bundled models and store the JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--side", type=int, default=320)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    report = {
        "hardware": hardware(),
        "gland-mini": of_glands(options.data, options.side),
        "nuclei-mini": of_nuclei(options.data),
    }
    options.out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
