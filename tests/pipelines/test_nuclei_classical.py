import numpy as np
import pytest
from skimage.color import hed2rgb

from pipelines.nuclei_mini.classical import classical_nuclei
from wsi_sampath.evaluation.instances import scores, tally

DISCS = ((20, 20), (20, 39), (60, 30), (60, 70))


def painted(mpp):
    """Four stained discs of 2.75 um, two of them touching, and the noise of a camera."""
    side = round(24 / mpp)
    y, x = (np.indices((side, side)) + 0.5) * mpp * 4
    truth = np.zeros((side, side), np.int32)
    for number, (row, column) in enumerate(DISCS, start=1):
        truth[(y - row) ** 2 + (x - column) ** 2 < 11**2] = number
    stains = np.stack([0.2 * (truth > 0), np.full(truth.shape, 0.05), 0 * y], axis=-1)
    noise = np.random.default_rng(0).normal(0, 4, stains.shape)
    return truth, np.clip(hed2rgb(stains) * 255 + noise, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("mpp", [0.25, 0.5])
def test_stained_discs_are_found_at_any_pixel_size(mpp):
    truth, image = painted(mpp)
    found = classical_nuclei(image, mpp)
    assert found.max() == len(DISCS)
    assert scores(tally(truth, found))["pq"] > 0.7


def test_an_image_of_one_colour_has_no_nuclei():
    assert not classical_nuclei(np.full((20, 30, 3), 255, np.uint8), 0.25).any()
