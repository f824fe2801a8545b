"""The published post-processing of PathoSAM's three maps."""

import numpy as np
import pytest

from wsi_sampath.inference.instances.flooding import nuclei_of_plane
from wsi_sampath.inference.instances.settings import NucleusSettings
from wsi_sampath.inference.instances.stream import NucleusStream
from wsi_sampath.inference.instances.terrain import SEED, smooth, terrain

SETTINGS = {
    "default": NucleusSettings(),
    "min_size_50": NucleusSettings(min_size_px=50),
    "other": NucleusSettings(
        center_distance_threshold=0.4,
        boundary_distance_threshold=0.6,
        foreground_threshold=0.4,
        distance_smoothing_px=1.0,
        foreground_smoothing_px=0.0,
    ),
}
EQUAL = 0.999
SMOOTHED_LIMIT = 1e-5


@pytest.fixture(scope="module")
def recorded(parity):
    return parity.npz("pathosam_watershed")


@pytest.fixture(scope="module")
def maps(recorded):
    names = ("foreground", "center_distance", "boundary_distance")
    return np.stack([recorded[name] / np.float32(4096) for name in names]).astype(np.float32)


def agreement(ours, theirs):
    """Share of equal pixels, each of our ids read as that of theirs which it covers most."""
    pairs, counts = np.unique(np.stack([ours.ravel(), theirs.ravel()]), axis=1, return_counts=True)
    best = {}
    for index in np.argsort(counts):
        best[pairs[0, index]] = (pairs[1, index], counts[index])
    best[0] = (0, ((ours == 0) & (theirs == 0)).sum())
    assert len({other for other, _ in best.values()}) == len(best), "two of ours in one of theirs"
    return sum(count for _, count in best.values()) / ours.size


@pytest.mark.parametrize("case", SETTINGS)
def test_nuclei_are_those_of_the_published_code(recorded, maps, case):
    ours, theirs = nuclei_of_plane(maps, SETTINGS[case]), recorded[f"labels/{case}"]
    assert ours.max() == len(np.unique(theirs)) - 1
    assert agreement(ours, theirs) >= EQUAL


@pytest.mark.parametrize("case", SETTINGS)
def test_nuclei_from_strips_are_those_of_the_published_code(recorded, maps, case):
    stream = NucleusStream(SETTINGS[case], maps.shape[2], band_rows=16)
    plane = np.zeros(maps.shape[1:], np.uint32)
    patches = [
        *(
            patch
            for y in range(0, maps.shape[1], 37)
            for patch in stream.append(maps[:, y : y + 37])
        ),
        *stream.finish(),
    ]
    for patch in patches:
        patch.paint(plane)
    assert agreement(plane, recorded[f"labels/{case}"]) >= EQUAL


def test_seeds_are_those_of_the_published_code(recorded, maps):
    seeds = (terrain(maps, SETTINGS["default"]) & SEED) > 0
    assert (seeds == (recorded["labels/markers"] > 0)).mean() >= EQUAL


@pytest.mark.parametrize(("index", "name"), enumerate(("foreground", "center", "boundary")))
def test_maps_are_smoothed_as_published(recorded, maps, index, name):
    settings = SETTINGS["default"]
    sigma = settings.distance_smoothing_px if index else settings.foreground_smoothing_px
    off = smooth(maps[index], sigma)[::3, ::3] - recorded[f"smoothed/{name}_sub3"]
    assert np.abs(off).max() < SMOOTHED_LIMIT
