"""Masks by a grid of points against the official generator, on an analytic source of masks."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch

from wsi_sampath.inference.prompted import amg
from wsi_sampath.inference.prompted.amg import grid_masks, grid_objects
from wsi_sampath.inference.prompted.asking import point_prompts
from wsi_sampath.inference.prompted.masks import cut_out, stability_scores
from wsi_sampath.inference.prompted.settings import GridSettings

SHAPES = ((0.55, 0.8), (1.0, 4.0), (1.7, 2.5))
QUALITIES = ((0.93, 0.11), (0.99, 0.06), (0.90, 0.02))
LOOSE = {
    "points_per_side": 16,
    "min_predicted_iou": 0.8,
    "min_stability": 0.8,
    "max_box_overlap": 0.5,
}
RUNS = {"sam": GridSettings(), "sam_loose": GridSettings(**LOOSE)}
SCORE_LIMIT = 1e-5
FAR = -1e6


@dataclass
class Discs:
    """Three masks at every point: discs around one that is pulled from the nearest centre."""

    centres: np.ndarray
    radii: np.ndarray
    size: tuple[int, int]

    def ask(self, prompts, *, multimask):
        assert multimask
        points = prompts.points[:, 0].numpy()
        apart = np.linalg.norm(points[:, None] - self.centres, axis=2)
        nearest = apart.argmin(axis=1)
        distance, radius = apart.min(axis=1), self.radii[nearest]
        centre = self.centres[nearest] + 0.15 * (points - self.centres[nearest])
        quality = [o - k * distance / radius for o, k in QUALITIES]
        # What a mask is drawn from stands for it until it is wanted.
        logits = [
            np.stack([*centre.T, f * radius, np.full(len(radius), g)], axis=1) for f, g in SHAPES
        ]
        return (
            torch.from_numpy(np.stack(logits, axis=1)),
            torch.from_numpy(np.stack(quality, axis=1).astype(np.float32)),
        )

    def enlarge(self, logits):
        """Draw the masks, but for what is far from them, which no score looks at."""
        full = np.full((len(logits), *self.size), FAR, np.float32)
        for image, (x0, y0, radius, steepness) in zip(full, logits.numpy(), strict=True):
            reach = radius + 1 / steepness + 2
            box = tuple(
                slice(max(int(middle - reach), 0), max(int(middle + reach) + 1, 0))
                for middle in (y0, x0)
            )
            image[box] = self.drawn(x0, y0, radius, steepness, box)
        return torch.from_numpy(full)

    def drawn(self, x0, y0, radius, steepness, box):
        y, x = (np.arange(size)[part] for size, part in zip(self.size, box, strict=True))
        return steepness * (radius - np.hypot(x - x0, y[:, None] - y0))


@pytest.fixture(scope="module")
def recorded(parity):
    return parity.npz("sam_amg")


@pytest.fixture(scope="module")
def cases(recorded):
    names = sorted({name.split("/")[0] for name in recorded.files if name.endswith("/radii")})
    assert names
    return {
        name: Discs(
            recorded[f"{name}/centres_xy"],
            recorded[f"{name}/radii"],
            tuple(map(int, recorded[f"{name}/size_hw"])),
        )
        for name in names
    }


@pytest.fixture(scope="module")
def found():
    """Masks of a source by a run; most of the time goes there."""
    known = {}

    def masks(source, run):
        if (id(source), run) not in known:
            known[id(source), run] = grid_masks(source, RUNS[run])
        return known[id(source), run]

    return masks


def as_recorded(box):
    rows, columns = box
    return (
        columns.start,
        rows.start,
        columns.stop - 1 - columns.start,
        rows.stop - 1 - rows.start,
    )


@pytest.mark.parametrize("run", RUNS)
def test_masks_are_those_of_the_official_generator_in_their_order(recorded, cases, found, run):
    for case, source in cases.items():
        masks, folder = found(source, run), f"{case}/{run}"
        boxes = np.array([as_recorded(mask.box) for mask in masks])
        np.testing.assert_array_equal(boxes, recorded[f"{folder}/bbox"])
        for name, values in {
            "area": [mask.area for mask in masks],
            "predicted_iou": [mask.predicted_iou for mask in masks],
            "stability_score": [mask.stability for mask in masks],
            "point_coords": [mask.point for mask in masks],
        }.items():
            theirs = recorded[f"{folder}/{name}"]
            np.testing.assert_allclose(np.reshape(values, theirs.shape), theirs, atol=SCORE_LIMIT)
        if f"{folder}/coverage_count" in recorded.files:
            count = np.zeros(source.size, np.uint8)
            for mask in masks:
                count[mask.box] += mask.pixels
            np.testing.assert_array_equal(count, recorded[f"{folder}/coverage_count"])


@pytest.mark.parametrize("drop", [True, False])
def test_objects_are_those_of_the_published_label_image(monkeypatch, recorded, cases, found, drop):
    settings = GridSettings(overlaps="smaller", drop_background=drop)
    monkeypatch.setattr(amg, "grid_masks", lambda source, *_: found(source, "sam"))
    for case, source in cases.items():
        theirs = recorded[f"{case}/microsam/labels_with_background_{drop}"]
        ours = np.zeros(source.size, np.int64)
        for number, one in enumerate(grid_objects(source, settings), start=1):
            ours[one.box][one.pixels] = number
        pairs = np.unique(np.stack([ours.ravel(), theirs.ravel()]), axis=1)
        assert pairs.shape[1] == len(np.unique(theirs)) == len(np.unique(ours))
        assert ((pairs[0] == 0) == (pairs[1] == 0)).all()


def test_scores_and_boxes_of_single_masks(recorded, cases):
    for case, source in cases.items():
        stages = f"{case}/stages"
        points = torch.from_numpy(recorded[f"{stages}/points"])
        logits, quality = source.ask(point_prompts(points), multimask=True)
        np.testing.assert_allclose(quality, recorded[f"{stages}/quality"], atol=SCORE_LIMIT)
        everywhere = (slice(None), slice(None))
        full = np.stack([source.drawn(*one, everywhere) for one in logits.flatten(0, 1).numpy()])
        theirs = recorded[f"{stages}/logits_sub16"]
        np.testing.assert_allclose(full[:, ::16, ::16].reshape(theirs.shape), theirs, atol=1e-4)
        masks = source.enlarge(logits.flatten(0, 1))
        stability = stability_scores(masks, 1.0)
        np.testing.assert_allclose(
            stability, recorded[f"{stages}/stability_score"], atol=SCORE_LIMIT
        )
        for mask, theirs in zip(masks > 0, recorded[f"{stages}/boxes"], strict=True):
            rows, columns = cut_out(mask.numpy()).box
            box = (columns.start, rows.start, columns.stop - 1, rows.stop - 1)
            assert box == tuple(theirs)
