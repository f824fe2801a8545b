"""What a PathoSAM learns from, and what it loses, against the official code."""

import numpy as np
import pytest
import torch

from wsi_sampath.training.nuclei.losses import nucleus_map_loss
from wsi_sampath.training.nuclei.targets import nucleus_targets

LIMIT, LOSS_LIMIT, GRADIENT_LIMIT = 1e-5, 1e-6, 1e-8
MAPS = ("foreground", "center_distance", "boundary_distance")


@pytest.fixture(scope="module")
def recorded(parity):
    return parity.npz("pathosam_targets")


@pytest.fixture(scope="module")
def targets(recorded):
    return nucleus_targets(recorded["labels"])


def test_nuclei_are_those_that_the_published_training_keeps(recorded, targets):
    np.testing.assert_array_equal(targets.instances, recorded["instances"])


@pytest.mark.parametrize(("plane", "name"), enumerate(MAPS))
def test_target_is_the_published_one(recorded, targets, plane, name):
    np.testing.assert_allclose(targets.maps[plane], recorded[name], rtol=0, atol=LIMIT)


def test_loss_and_its_gradient_are_the_published_ones(recorded):
    maps = np.stack([recorded[name] for name in MAPS]).astype(np.float32)
    prediction = torch.from_numpy(recorded["loss/prediction"] / np.float32(1024))
    height, width = prediction.shape[2:]
    # The two corners that the recorded prediction was made for: top left and bottom right.
    target = torch.from_numpy(np.stack([maps[:, :height, :width], maps[:, -height:, -width:]]))
    with torch.enable_grad():
        prediction.requires_grad_()
        loss = nucleus_map_loss(prediction, target)
        loss.backward()
    assert loss.item() == pytest.approx(recorded["loss/value"].item(), abs=LOSS_LIMIT)
    np.testing.assert_allclose(
        prediction.grad[:, :, ::4, ::4], recorded["loss/grad_sub4"], rtol=0, atol=GRADIENT_LIMIT
    )
