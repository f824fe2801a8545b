"""Patches of nuclei of any shape, by a seed."""

import numpy as np

from wsi_sampath.classes import ClassSpec
from wsi_sampath.outputs.nuclei.patch import NucleusPatch, channels_of

CLASSES = (
    ClassSpec(name="Neoplastic", color="#c80000"),
    ClassSpec(name="Connective µ", color="#96c896"),
    ClassSpec(name="Dead", color="#000000"),
)
PLANE_PX = 160


def random_patches(seed, *, n_classes=3, most=6):
    """Up to `most` patches of noise: specks, holes, corners that touch, nuclei side by side."""
    rng = np.random.default_rng(seed)
    patches, used = [], 0
    for _ in range(rng.integers(1, most + 1)):
        rows, columns = rng.integers(1, 14, 2)
        share = rng.choice([0.3, 0.6, 0.9, 1.0])
        ids = rng.integers(1, 4, (rows, columns)) * (rng.random((rows, columns)) < share)
        labels = np.where(ids > 0, ids + used, 0).astype(np.uint32)
        used += 3
        y, x = rng.integers(0, PLANE_PX - 14, 2).tolist()
        patches.append(patch_of(labels, y, x, n_classes=n_classes, rng=rng))
    return patches


def patch_of(labels, y=0, x=0, *, n_classes=1, rng=None):
    """One patch, its values random, or 255 everywhere."""
    labels = np.asarray(labels, np.uint32)
    shape = (channels_of(n_classes), *labels.shape)
    values = np.full(shape, 255) if rng is None else rng.integers(0, 256, shape)
    return NucleusPatch(y, x, labels, (values * (labels > 0)).astype(np.uint8))


def disc(radius, *, stretch=1.0, center=0.0):
    """An ellipse of ones whose rows are `stretch` times its columns."""
    reach_y, reach_x = int(radius * stretch) + 2, int(radius) + 2
    y, x = np.mgrid[-reach_y : reach_y + 1, -reach_x : reach_x + 1] - center
    return (np.hypot(y / stretch, x) < radius).astype(np.uint32)
