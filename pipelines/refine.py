"""What ``wsi-prompt --refine`` makes of rough outlines: ``python -m pipelines.refine DATA``.

Outlines of annotated objects are moved, stretched and bent by a tenth of their size, as a quick
hand would draw them, and given to the network as box and mask; their IoU with the true object is
taken before and after. A table is printed and stored with ``--json``.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import shapely
import tifffile
from numpy.typing import NDArray
from scipy import ndimage

from pipelines.gland_mini.data import EBHI_UM, GLAND, read_ebhi
from pipelines.nuclei_mini.data import MPP, read_fields
from pipelines.nuclei_mini.train import of_part
from wsi_sampath.inference.prompting.prompter import Prompter
from wsi_sampath.inference.prompting.segmented import Segmented
from wsi_sampath.inference.prompting.settings import PromptSettings
from wsi_sampath.inference.segmenter import load_from_settings
from wsi_sampath.outputs.nuclei.mask_outline import outline_of_mask
from wsi_sampath.prompt_files.prompt import Prompt
from wsi_sampath.slides.slide import Slide
from wsi_sampath.synthetic.painted import paint_slide

SHAKEN = 0.1
PAINTED_UM = 1.0
_HARMONICS = 5
_LEAST_PX = 60
_PAINTED_GLAND = 2


@dataclass(frozen=True)
class Picture:
    """A picture with known objects.

    Attributes
    ----------
    image
        uint8 (height, width, 3).
    objects
        int32 (height, width), 0 for none.
    mpp
        Microns per pixel; the network looks at the same.
    cut_ones
        Whether objects count that the picture's edge cuts.
    """

    image: NDArray[np.uint8]
    objects: NDArray[np.int32]
    mpp: float
    cut_ones: bool = False


def shaken(outline: shapely.Geometry, share: float, rng: np.random.Generator) -> shapely.Geometry:
    """Return an outline as a quick hand draws it.

    Parameters
    ----------
    outline
        A polygon.
    share
        Standard deviation of its shift along each axis, and of where its border lies, as a share
        of its size (the root of its area).
    rng
        Of the choices.
    """
    size = float(np.sqrt(outline.area))
    middle = np.array(outline.centroid.coords[0])
    shift = rng.normal(0, share * size / 2, 2)
    waves = rng.normal(0, share / np.sqrt(_HARMONICS), (2, _HARMONICS))

    def moved(xy: NDArray[np.float64]) -> NDArray[np.float64]:
        away = xy - middle
        angle = np.arctan2(away[:, 1], away[:, 0])[:, None] * np.arange(_HARMONICS)
        bent = 1 + (waves[0] * np.cos(angle) + waves[1] * np.sin(angle)).sum(axis=1)
        drawn: NDArray[np.float64] = middle + shift + away * np.maximum(bent, 0.3)[:, None]
        return drawn

    rough = shapely.transform(shapely.Polygon(outline.exterior).segmentize(size / 20), moved)
    return max(shapely.get_parts(rough.buffer(0)), key=lambda part: part.area)


def outlines_of(picture: Picture) -> Iterator[shapely.Geometry]:
    """Yield the outlines of the objects that count."""
    labels = picture.objects
    rim = np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
    cut = set() if picture.cut_ones else set(rim.tolist())
    for number in sorted(set(np.unique(labels).tolist()) - cut - {0}):
        mask = labels == number
        if mask.sum() >= _LEAST_PX:
            outline = outline_of_mask(mask, origin=(0, 0), scale=(1, 1))
            yield max(shapely.get_parts(outline), key=lambda part: part.area)


def refined(picture: Picture, settings: PromptSettings, model: Any, seed: int) -> list[list[float]]:
    """Return the IoU with the object of the rough outline and of the refined one, of each."""
    rng = np.random.default_rng(seed)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "picture.tiff"
        per_cm = (1e4 / picture.mpp, 1e4 / picture.mpp)
        tifffile.imwrite(
            path, picture.image, photometric="rgb", resolution=per_cm, resolutionunit="CENTIMETER"
        )
        height, width = picture.objects.shape
        frame = shapely.box(0, 0, width, height)
        truths = list(outlines_of(picture))
        rough = [shaken(one, SHAKEN, rng).intersection(frame) for one in truths]
        prompts = [Prompt(id=str(i), outline=one) for i, one in enumerate(rough)]
        settings = settings.model_copy(update={"mpp": picture.mpp})
        with Prompter(path, model, settings=settings) as prompter:
            found = dict(prompter.answers(prompts))
    pairs = []
    for index, truth in enumerate(truths):
        answer = found[index]
        after = iou(answer.outline(), truth) if isinstance(answer, Segmented) else 0.0
        pairs.append([iou(rough[index], truth), after])
    return pairs


def iou(one: shapely.Geometry, other: shapely.Geometry) -> float:
    """Return the intersection of two areas over their union."""
    return float(one.intersection(other).area / one.union(other).area)


def pictures(data: Path) -> dict[str, list[Picture]]:
    """Return held-out fields of nuclei, held-out glands, and painted ones."""
    fields = read_fields(data)
    found = {
        f"nuclei, {source}, test": [
            Picture(one.image, one.targets.instances, MPP)
            for one in of_part(fields, "test", source)
        ]
        for source in ("tnbc", "nucls")
    }
    glands = read_ebhi(data).test
    found["glands, EBHI-Seg, test"] = [
        Picture(one.image, ndimage.label(one.mask == GLAND)[0], EBHI_UM, cut_ones=True)
        for one in glands
    ]
    found["glands, painted slides"] = [painted(seed) for seed in range(2)]
    return found


def painted(seed: int) -> Picture:
    """Return a painted slide with its glands, whose outlines are known to the pixel."""
    with tempfile.TemporaryDirectory() as folder:
        truth = paint_slide(Path(folder) / "painted.svs", seed=seed)
        with Slide.open(truth.path) as slide:
            image = slide.thumbnail(PAINTED_UM)[0]
    is_gland = truth.label_at(PAINTED_UM) == _PAINTED_GLAND
    return Picture(image, ndimage.label(is_gland)[0], PAINTED_UM)


def row(name: str, some: Sequence[Picture], settings: PromptSettings, model: Any) -> dict[str, Any]:
    """Return what is told of one set of pictures."""
    pairs = [pair for seed, one in enumerate(some) for pair in refined(one, settings, model, seed)]
    before, after = np.array(pairs).T
    return {
        "objects of": name,
        "pictures": len(some),
        "objects": len(pairs),
        "IoU before": round(float(before.mean()), 4),
        "IoU after": round(float(after.mean()), 4),
        "better": round(float((after > before).mean()), 4),
    }


def main() -> None:
    """Measure, print a table, and store it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", default="nuclei-mini")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    settings = PromptSettings(model=options.model, device="cpu", cache_gib=0)
    model = load_from_settings(settings)
    rows = []
    for name, some in pictures(options.data).items():
        rows.append(row(name, some, settings, model))
        print("  ".join(f"{key} {value}" for key, value in rows[-1].items()), flush=True)
    if options.json:
        stored = {"model": options.model, "weights_sha256": model.weights_sha256, "rows": rows}
        options.json.write_text(f"{json.dumps(stored, indent=2)}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
