"""What it saves, and what it changes, to leave out border tiles whose tissue others hold as well.

Every tile is answered once; the answers are blended with all tiles, and without those that can be
spared below several shares of tissue. Real slides are small here: the outline of a whole one comes
from the macro photograph of CMU-1-Small-Region.svs, filled with annotated patches of held-out
patients of EBHI-Seg at a quarter of its size, with tiles of a quarter of the model's, so that they
lie on the outline as they do on the slide. Tiles alone are counted at its full size.

Run: python benchmarks/border_tiles.py $WSI_SAMPATH_DATA [--pictures FOLDER]
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from coarser import in_tiles_of
from measure import hardware
from numpy.typing import NDArray
from PIL import Image
from skimage.morphology import remove_small_objects
from torch import Tensor

from pipelines.gland_mini.data import GLAND, read_ebhi
from wsi_sampath.inference.blend import Plane, StripBlender
from wsi_sampath.inference.instances.flooding import nuclei_of_plane
from wsi_sampath.inference.instances.settings import NucleusSettings
from wsi_sampath.inference.predictor import Predictor
from wsi_sampath.models.network import LoadedModel
from wsi_sampath.models.zoo import load_model
from wsi_sampath.slides.grid import TileGrid, mask_rows, plan_grid, select_tiles
from wsi_sampath.slides.regions.find import MASK_MPP, find_tissue
from wsi_sampath.slides.sampling import plan_sampling, snap_levels
from wsi_sampath.slides.slide import Slide
from wsi_sampath.slides.spare import choose_tiles
from wsi_sampath.training.augment import rescaled

BELOW = (0.02, 0.05, 0.1, 0.25, 0.5, 1.0)
CMU_1_PX, CMU_1_MPP = (46_000, 32_914), 0.499
"""Of the slide that OpenSlide's small region is cut from."""
SCANNED = (402, 66, 750, 320)
"""The scanned area on its macro photograph, within the green frame: left, top, right, bottom."""
STAINED = 25
MOST_OF_SPECK = 100
"""Pixels of the photograph, of 66 um each."""
RESULTS = Path(__file__).parent / "results" / "border_tiles.json"
Rgb = NDArray[np.uint8]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Scene:
    """A picture at a model's mpp, its tissue at `MASK_MPP`, and what is annotated, if anything."""

    name: str
    image: Rgb
    tissue: Mask
    truth: NDArray[np.uint8] | None = None


@dataclass(frozen=True)
class AsBlended:
    """A reading that keeps the blended maps as they are."""

    n_maps: int

    @property
    def planes(self) -> tuple[Plane, ...]:
        """See `Reading`."""
        return Plane("maps", np.float32, (self.n_maps,)), Plane("analysed", np.bool_)

    def blended(self, tiles: Tensor, maps: Tensor) -> Tensor:
        """See `Reading`."""
        return maps

    def __call__(self, sums: Tensor, weights: Tensor, analysed: Tensor) -> tuple[Tensor, ...]:
        """See `Reading`."""
        return sums / weights, analysed


def real(path: Path, mpp: float) -> Scene:
    """Return a slide as a scene."""
    with Slide.open(path) as slide:
        sampling = slide.sampling(mpp)
        image = slide.read_sampled(sampling, 0, 0, sampling.width, sampling.height)
        return Scene(path.name, image, find_tissue(slide).to_try)


def outline(data: Path, size: tuple[int, int]) -> Mask:
    """Return the tissue of the whole of CMU-1, bool (height, width), from its photograph."""
    import openslide

    with openslide.OpenSlide(data / "slides" / "CMU-1-Small-Region.svs") as slide:
        photo = np.asarray(slide.associated_images["macro"].convert("RGB").crop(SCANNED), np.int16)
    # Without specks, and without the blue mark that the scanner drew.
    pieces = remove_small_objects(photo.max(2) - photo.min(2) > STAINED, max_size=MOST_OF_SPECK)
    stained = Image.fromarray(pieces.astype(np.uint8) * 255)
    return np.asarray(stained.resize(size, Image.Resampling.BICUBIC)) >= 128


def collage(data: Path, part: int) -> Scene:
    """Return held-out patches side by side within the outline, at one part of its size and 1 um."""
    width, height = (round(side * CMU_1_MPP / part) for side in CMU_1_PX)
    patches = read_ebhi(data).test
    rows = [[rescaled(one.image, one.mask, one.um) for one in patches[n::16]] for n in range(16)]
    parts = zip(*(map(np.stack, zip(*row[:17], strict=True)) for row in rows), strict=True)
    image, truth = (_side_by_side(np.stack(one), width, height) for one in parts)
    tissue = outline(data, (round(width / MASK_MPP), round(height / MASK_MPP)))
    inside = mask_rows(tissue, (0, height), (0, width), (height, width))
    image[~inside], truth[~inside] = 243, 0
    return Scene(f"collage, 1/{part} of CMU-1", image, tissue, truth)


def _side_by_side(tiles: NDArray[np.uint8], width: int, height: int) -> NDArray[np.uint8]:
    lines = np.concatenate(list(np.concatenate(list(tiles.swapaxes(0, 1)), axis=2)), axis=0)
    often = (-(-height // lines.shape[0]), -(-width // lines.shape[1]), 1)[: lines.ndim]
    return np.tile(lines, often)[:height, :width].copy()


def grid_of(size: tuple[int, int], model: LoadedModel) -> TileGrid:
    """Lay out all tiles of a picture of (width, height) px at the model's mpp."""
    spec = model.spec
    sampling = plan_sampling(snap_levels([size]), (spec.mpp, spec.mpp), spec.mpp)
    return plan_grid(sampling, tile=spec.tile, overlap=spec.tile // 4, stride=spec.output_stride)


def answers_to(
    scene: Scene, grid: TileGrid, model: LoadedModel
) -> dict[tuple[int, int], tuple[Tensor, float]]:
    """Return the maps of every selected tile, and the CPU seconds that they took."""
    predict = Predictor(model, tile_px=model.spec.tile, output_px=grid.tile, batch_size=1)
    side, made = model.spec.tile, {}
    for row, column in np.argwhere(grid.selected).tolist():
        x, y = grid.xs[column] * grid.stride, grid.ys[row] * grid.stride
        tile = np.full((1, side, side, 3), 243, np.uint8)
        part = scene.image[y : y + side, x : x + side]
        tile[0, : part.shape[0], : part.shape[1]] = part
        start = time.process_time()
        made[row, column] = predict(tile)[0], time.process_time() - start
    return made


def blended(
    grid: TileGrid, answers: dict[tuple[int, int], tuple[Tensor, float]], tissue: Mask
) -> tuple[NDArray[np.float32], Mask]:
    """Return the maps of the plane, float32 (maps, height, width), and what was analysed."""
    n_maps = len(next(iter(answers.values()))[0])
    blender, plane = StripBlender(grid, AsBlended(n_maps)), (grid.height, grid.width)
    strips = []
    for row in range(len(grid.ys)):
        for column in grid.strip_columns(row):
            blender.add(row, column, answers[row, column][0])
        inside = mask_rows(tissue, grid.strip_rows(row), (0, grid.width), plane)
        strips.append(blender.finish_row(row, inside).planes)
    maps, analysed = (
        np.concatenate([strip[name] for strip in strips], -2) for name in ("maps", "analysed")
    )
    return maps, analysed


def compare(scene: Scene, model: LoadedModel, pictures: Path | None) -> dict[str, Any]:
    """Answer all tiles, and compare the maps without the spare ones with the map of all."""
    size = scene.image.shape[1], scene.image.shape[0]
    plan = grid_of(size, model)
    grid = select_tiles(plan, scene.tissue)
    answers = answers_to(scene, grid, model)
    maps, analysed = blended(grid, answers, scene.tissue)
    whole = labelled(maps, analysed, model)
    report: dict[str, Any] = {
        "scene": scene.name,
        "model": model.spec.name,
        "tile": model.spec.tile,
        "tiles": grid.n_tiles,
        "cpu_seconds": round(sum(seconds for _, seconds in answers.values()), 1),
        **against(whole, scene, grid),
    }
    for below in BELOW:
        fewer = choose_tiles(plan, scene.tissue, spare_below=below)
        if not (fewer.selected <= grid.selected).all():
            raise RuntimeError("a tile was chosen that has no tissue")
        less, still = blended(fewer, answers, scene.tissue)
        if not np.array_equal(still, analysed):
            raise RuntimeError("tissue was left without an answer")
        labels = labelled(less, still, model)
        spent = sum(answers[row, column][1] for row, column in np.argwhere(fewer.selected).tolist())
        report[f"below {below:g}"] = {
            "tiles": fewer.n_tiles,
            "cpu_seconds": round(spent, 1),
            "pixels_held_by_fewer": round(held_by_fewer(grid, fewer, analysed), 5),
            **changes(whole, labels, analysed, model),
            **against(labels, scene, grid),
        }
        if pictures is not None:
            name = f"{scene.name}-{model.spec.tile}-{below:g}".replace("/", "_").replace(" ", "_")
            draw(scene, whole, labels, analysed).save(pictures / f"{name}.png")
    print(json.dumps(report), flush=True)
    return report


def labelled(maps: NDArray[np.float32], analysed: Mask, model: LoadedModel) -> NDArray[np.int32]:
    """Return classes, or the nuclei, of a plane, int32 (height, width); 0 where there is none."""
    if model.spec.labels_pixels:
        return ((maps.argmax(0) + 1) * analysed).astype(np.int32)
    return nuclei_of_plane(maps[:3] * analysed, NucleusSettings())


def changes(
    whole: NDArray[np.int32], labels: NDArray[np.int32], analysed: Mask, model: LoadedModel
) -> dict[str, Any]:
    """Compare the labels of less with those of all: pixels, and Dice of gland or of nuclei."""
    if model.spec.labels_pixels:
        before, after, more = whole == GLAND, labels == GLAND, {}
    else:
        before, after = whole > 0, labels > 0
        more = {"nuclei": int(labels.max()), "nuclei_of_all": int(whole.max())}
    changed = float((before != after)[analysed].mean())
    return {"pixels_changed": round(changed, 6), "dice": overlap(before, after), **more}


def overlap(one: Mask, other: Mask) -> float | None:
    """Return the Dice of two masks; None where both are empty."""
    total = int(one.sum()) + int(other.sum())
    return round(2 * int((one & other).sum()) / total, 5) if total else None


def against(labels: NDArray[np.int32], scene: Scene, grid: TileGrid) -> dict[str, Any]:
    """Return the Dice of gland against what is annotated."""
    if scene.truth is None:
        return {}
    truth = scene.truth[:: grid.stride, :: grid.stride]
    return {"dice_annotated": overlap((labels == GLAND) & (truth > 0), truth == GLAND)}


def held_by_fewer(grid: TileGrid, fewer: TileGrid, analysed: Mask) -> float:
    """Return the share of tissue that fewer tiles hold than before."""
    counts = []
    for one in (grid, fewer):
        held = np.zeros((grid.height + grid.tile, grid.width + grid.tile), np.int16)
        for row, column in np.argwhere(one.selected):
            y, x = grid.ys[row], grid.xs[column]
            held[y : y + grid.tile, x : x + grid.tile] += 1
        counts.append(held[: grid.height, : grid.width][analysed])
    return float((counts[0] > counts[1]).mean())


def draw(
    scene: Scene, whole: NDArray[np.int32], labels: NDArray[np.int32], analysed: Mask
) -> Image.Image:
    """Draw the map of all tiles green, and in red what is otherwise without the spare ones."""
    height, width = whole.shape
    base = np.asarray(Image.fromarray(scene.image).resize((width, height), Image.Resampling.BOX))
    drawn = base.copy()
    drawn[whole > (whole[analysed].min() if whole[analysed].max() < 3 else 0)] = (60, 170, 80)
    drawn[~analysed] = base[~analysed] // 2 + 100
    drawn[(whole != labels) & analysed] = (230, 0, 0)
    return Image.fromarray(drawn)


def counts_on_cmu_1(data: Path) -> Iterator[dict[str, Any]]:
    """Count the tiles on the outline of the whole slide."""
    um = [side * CMU_1_MPP for side in CMU_1_PX]
    tissue = outline(data, (round(um[0] / MASK_MPP), round(um[1] / MASK_MPP)))
    for name in ("gland-mini", "nuclei-mini"):
        model = load_model(name)
        plan = grid_of((round(um[0] / model.spec.mpp), round(um[1] / model.spec.mpp)), model)
        start = time.process_time()
        tiles = {
            f"{below:g}": choose_tiles(plan, tissue, spare_below=below).n_tiles for below in BELOW
        }
        seconds = (time.process_time() - start) / len(BELOW)
        all_tiles = select_tiles(plan, tissue).n_tiles
        report = {"scene": "outline of CMU-1", "model": name, "tiles": all_tiles, "below": tiles}
        print(json.dumps(report), flush=True)
        yield {**report, "tissue": round(float(tissue.mean()), 4), "cpu_s": round(seconds, 3)}


def scenes(data: Path, quick: bool) -> Iterator[tuple[Scene, LoadedModel]]:
    """Yield what is compared, with the model and its tile."""
    gland, nuclei = load_model("gland-mini"), load_model("nuclei-mini")
    slides = data / "slides"
    for name in ("CMU-1-Small-Region.svs", "OS-2-ndpi.ome.tif", "OS-1-detail.ome.tif"):
        scene = real(slides / name, gland.spec.mpp)
        yield scene, in_tiles_of(gland, 256)
    yield collage(data, 4), in_tiles_of(gland, 256)
    if quick:
        return
    yield real(slides / "CMU-1-Small-Region.svs", gland.spec.mpp), gland
    yield real(slides / "OS-2-ndpi.ome.tif", nuclei.spec.mpp), nuclei


def main() -> None:
    """Compare all scenes and store the JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--pictures", type=Path)
    parser.add_argument("--quick", action="store_true", help="the small scenes alone")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    report: dict[str, Any] = {
        "hardware": hardware(),
        "counts": list(counts_on_cmu_1(options.data)),
        "maps": [],
    }
    for scene, model in scenes(options.data, options.quick):
        report["maps"].append(compare(scene, model, options.pictures))
        options.out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
