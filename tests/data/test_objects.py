"""What of a labelled patch is one object, and how it goes on in the context."""

from __future__ import annotations

import numpy as np
import pytest

from wsi_sampath.classes import ClassSpec
from wsi_sampath.data.context import in_context
from wsi_sampath.data.objects import separate_objects, united_objects, wanted_labels
from wsi_sampath.errors import UsageError

SIDE = 32
GLAND = np.array([False, False, True])


@pytest.fixture
def both():
    """Other (1) all over; a gland across the right border, two inside, and one far outside."""
    labels = np.ones((2 * SIDE, 2 * SIDE), np.uint8)
    labels[20:24, 44:60] = 2  # Of the patch's columns 28 to 31, and on to the right.
    labels[30:34, 20:24] = labels[30:34, 25:29] = 2  # One pixel apart.
    labels[2:6, 2:6] = 2
    return in_context(np.zeros((*labels.shape, 3), np.uint8), labels)


def test_objects_go_on_where_they_touch(both):
    found = separate_objects(both.labels, both.context_labels, GLAND)
    assert found.count == 3
    sizes = np.bincount(found.near.ravel())[1:]
    assert sorted(sizes) == [16, 16, 16]
    across = found.near[5, 30]
    wide = found.wide == across
    assert wide.sum() == 4 * 16 / 4
    assert wide[10:12, 22:30].all()
    # What touches no object of the patch is of none of them.
    assert found.wide[1:3, 1:3].max() == 0
    # Neighbours that the context cannot tell apart stay apart.
    assert np.unique(found.wide[15:17, 10:15]).all()
    assert len(np.unique(found.wide[15:17, 10:15])) == 2


def test_within_the_patch_the_context_shows_the_same(both):
    found = separate_objects(both.labels, both.context_labels, GLAND)
    middle = found.wide[SIDE // 4 : -SIDE // 4, SIDE // 4 : -SIDE // 4]
    for number in range(1, found.count + 1):
        blocks = (found.near == number).reshape(SIDE // 2, 2, SIDE // 2, 2).any(axis=(1, 3))
        assert ((middle == number) <= blocks).all()
        assert (middle == number).any()


def test_together_they_are_one_with_all_of_the_context(both):
    found = united_objects(both.labels, both.context_labels, GLAND)
    assert found.count == 1
    assert (found.near > 0).sum() == 48
    assert found.wide[1:3, 1:3].all()


def test_small_ones_and_none_at_all_are_no_objects(both):
    assert separate_objects(both.labels, both.context_labels, GLAND, 17).count == 0
    assert united_objects(both.labels, None, GLAND, 49).count == 0
    empty = np.zeros((SIDE, SIDE), np.uint8)
    found = separate_objects(empty, both.context_labels, GLAND)
    assert (found.count, int(found.wide.max())) == (0, 0)


def test_areas_of_two_classes_are_two_objects():
    labels = np.zeros((8, 8), np.uint8)
    labels[:4], labels[4:] = 1, 2
    assert separate_objects(labels, None, np.array([False, True, True])).count == 2


def test_classes_are_wanted_by_name():
    classes = [ClassSpec(name=name, color="#808080") for name in ("other", "Gland")]
    assert wanted_labels(classes, ["gland"]).tolist() == [False, False, True]
    assert wanted_labels(classes, []).tolist() == [False, True, True]
    with pytest.raises(UsageError, match="no class tumor; the data have other, Gland"):
        wanted_labels(classes, ["tumor"])
