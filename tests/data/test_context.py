"""Patches with what lies around them."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from wsi_sampath.data.context import in_context
from wsi_sampath.data.patches import check_patches, open_patches
from wsi_sampath.data.prepare import plan_patches, prepare
from wsi_sampath.errors import UsageError, WsiError


def test_a_pixel_of_the_patch_is_in_one_of_its_context():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (32, 32, 3), np.uint8)
    labels = rng.integers(0, 3, (32, 32), np.uint8)
    both = in_context(image, labels)
    assert np.array_equal(both.image, image[8:24, 8:24])
    assert both.context.shape == (16, 16, 3)
    for y, x in [(0, 0), (5, 12), (15, 15)]:
        # x / 2 + side / 4, as the prompts of the two views correspond.
        block = np.s_[y // 2 * 2 : y // 2 * 2 + 2, x // 2 * 2 : x // 2 * 2 + 2]
        mean = both.image[block].reshape(-1, 3).mean(axis=0)
        assert np.abs(both.context[y // 2 + 4, x // 2 + 4] - mean).max() <= 0.5
        counts = np.bincount(both.labels[block].ravel(), minlength=3)
        assert counts[both.context_labels[y // 2 + 4, x // 2 + 4]] == counts.max()


def picture(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def folders(tmp_path):
    rng = np.random.default_rng(1)
    for name in ("a", "b", "c"):
        for folder in ("near", "wide"):
            picture(tmp_path / folder / f"{name}.png", rng.integers(0, 256, (8, 8, 3), np.uint8))
            mask = 255 * rng.integers(0, 2, (8, 8), np.uint8)
            picture(tmp_path / f"{folder}_mask" / f"{name}.png", mask)
    return tmp_path


def planned(folders, **more):
    near, wide = ([folders / one, folders / f"{one}_mask"] for one in ("near", "wide"))
    context = ([wide[0]], [wide[1]])
    return plan_patches([near[0]], [near[1]], folders / "out", context=context, mpp=1.0, **more)


def test_pairs_of_pictures_become_patches_in_context(folders):
    plan = planned(folders)
    list(prepare(plan))
    found = open_patches(folders / "out")
    assert found.has_context
    assert len(list(check_patches(found))) == 3
    image, mask = found.read_context(found.patches[0])
    assert np.array_equal(image, np.asarray(Image.open(folders / "wide" / "a.png")))
    assert set(np.unique(mask)) == {1, 2}
    # What was lost is written again; the rest stays.
    lost = folders / "out" / "context" / "b.png"
    lost.unlink()
    with pytest.raises(WsiError, match="context/b.png"):
        open_patches(folders / "out")
    list(prepare(planned(folders)))
    assert lost.is_file()


def test_pairs_that_do_not_belong_together_are_refused(folders):
    (folders / "wide" / "c.png").unlink()
    (folders / "wide_mask" / "c.png").unlink()
    with pytest.raises(UsageError, match="c: every image of --images needs one"):
        planned(folders)
    with pytest.raises(UsageError, match="as many --context-masks"):
        plan_patches(
            [folders / "near"],
            [folders / "near_mask"],
            folders / "out",
            context=([folders / "wide"], []),
        )
    small = np.zeros((4, 4, 3), np.uint8)
    picture(folders / "wide" / "c.png", small)
    picture(folders / "wide_mask" / "c.png", small[..., 0])
    with pytest.raises(WsiError, match="not of its image's size"):
        list(prepare(planned(folders)))
