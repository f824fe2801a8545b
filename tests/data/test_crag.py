from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from PIL import Image

from wsi_sampath.data.crag import plan_crag
from wsi_sampath.data.patches import open_patches
from wsi_sampath.data.prepare import prepare
from wsi_sampath.errors import UsageError


@pytest.fixture
def release(tmp_path):
    rng = np.random.default_rng(0)
    for split, prefix, count in (("train", "train", 6), ("valid", "test", 2)):
        for kind in ("Images", "Annotation"):
            (tmp_path / split / kind).mkdir(parents=True)
        for number in range(1, count + 1):
            mask = rng.integers(0, 3, (30, 40), np.uint8) * 7
            rgb = np.repeat(mask[..., None], 3, axis=-1)
            Image.fromarray(rgb).save(tmp_path / split / "Images" / f"{prefix}_{number}.png")
            Image.fromarray(mask).save(tmp_path / split / "Annotation" / f"{prefix}_{number}.png")
    return tmp_path


def test_the_official_split(release):
    out = release / "out"
    list(prepare(plan_crag(release, out)))
    found = open_patches(out)
    assert [one.name for one in found.classes] == ["background", "gland"]
    assert Counter(one.split for one in found.patches) == {"train": 5, "validation": 1, "test": 2}
    assert all(one.img_id.startswith("test") == (one.fold == -1) for one in found.patches)
    for patch in found.patches:
        image, labels = found.read(patch)
        assert np.array_equal(labels, np.where(image[..., 0] > 0, 2, 1))


def test_equal_names_in_both_splits(release):
    for path in (release / "valid").rglob("*.png"):
        path.rename(path.with_name(path.name.replace("test_", "")))
    for path in (release / "train").rglob("*.png"):
        path.rename(path.with_name(path.name.replace("train_", "")))
    ids = [one.img_id for one in plan_crag(release, release / "out").patches]
    assert len(set(ids)) == 8
    assert "valid_1" in ids


def test_a_folder_that_is_no_crag(tmp_path):
    with pytest.raises(UsageError, match="train/Images"):
        plan_crag(tmp_path, tmp_path / "out")
