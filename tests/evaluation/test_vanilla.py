from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from wsi_sampath.classes import ClassSpec
from wsi_sampath.data.patches import Patch, open_patches, write_classes, write_table
from wsi_sampath.errors import UsageError
from wsi_sampath.evaluation.metrics import confusion
from wsi_sampath.evaluation.vanilla import (
    Dot,
    Proposal,
    assemble,
    component_dots,
    evaluate_vanilla,
    propose,
)
from wsi_sampath.models.parts.specs import SamSpec
from wsi_sampath.models.sam import Sam

TINY = SamSpec(embed_dim=16, depth=1, num_heads=2, global_attn_indexes=(0,))


@pytest.fixture(scope="module")
def sam():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Sam(TINY, tile=64).eval()


class Flood:
    """In the place of SAM: three masks around every point, of which the second is the surest."""

    tile = 64

    def __init__(self, radius):
        self.radius = radius
        self.asked = []

    def parameters(self):
        return iter([torch.zeros(1)])

    def embed(self, views):
        (self.seen,) = views
        return tuple(views)

    def masks(self, embedding, prompts):
        where, inside = prompts.points, prompts.labels
        assert (inside == 1).all()
        self.asked += where[:, 0].tolist()
        grid = torch.arange(self.tile) + 0.0
        x, y = where[:, 0, 0, None, None], where[:, 0, 1, None, None]
        distance = torch.maximum((grid[None, None] - x).abs(), (grid[None, :, None] - y).abs())
        radii = torch.tensor([99.0, self.radius, 0.0])
        scores = torch.tensor([[0.1, 0.9, 0.2]]).repeat(len(where), 1)
        return radii[None, :, None, None] + 0.01 - distance[:, None], scores

    def at_image_size(self, logits, used, original):
        assert used == original
        return logits[..., : used[0], : used[1]]


def test_a_dot_lies_as_deep_as_it_can():
    truth = np.zeros((20, 30), np.uint8)
    truth[2:9, 3:10] = 2
    truth[12:15, 5:25] = 1
    truth[0:3, 27:30] = 2
    assert component_dots(truth, [1, 2]) == [Dot(14, 13, 1), Dot(28, 1, 2), Dot(6, 5, 2)]
    assert component_dots(truth, [2], least_px=10) == [Dot(6, 5, 2)]
    assert component_dots(truth, [3]) == []


def test_a_dot_of_a_ring_is_in_the_ring():
    y, x = np.mgrid[:41, :41]
    radius = np.hypot(y - 20, x - 20)
    truth = ((radius > 8) & (radius < 16)).astype(np.uint8)
    (dot,) = component_dots(truth, [1])
    assert truth[dot.y, dot.x]
    assert abs(np.hypot(dot.y - 20, dot.x - 20) - 12) <= 1


def test_components_that_meet_at_a_corner_are_two():
    assert len(component_dots(np.eye(4, dtype=np.uint8), [1])) == 4


@given(arrays.arrays(np.uint8, (8, 9), elements=st.integers(0, 2)))
def test_every_component_has_one_dot_inside(truth):
    from scipy import ndimage

    dots = component_dots(truth, [1, 2])
    for label in (1, 2):
        numbered, count = ndimage.label(truth == label)
        hit = [numbered[dot.y, dot.x] for dot in dots if dot.label == label]
        assert sorted(hit) == list(range(1, count + 1))


def test_masks_are_asked_for_where_the_dots_are():
    stand_in = Flood(radius=3.0)
    image = np.full((40, 64, 3), 255, np.uint8)
    dots = [Dot(10, 9, 2), Dot(50, 30, 1)]
    first, second = propose(stand_in, image, dots)
    # 255 in ImageNet's statistics, and nothing below the image.
    assert stand_in.seen[0, 0, 39].mean() == pytest.approx((1 - 0.485) / 0.229)
    assert (stand_in.seen[0, :, 40:] == 0).all()
    assert stand_in.asked == [[10, 9], [50, 30]]
    expected = np.zeros((40, 64), bool)
    expected[6:13, 7:14] = True
    assert np.array_equal(first.mask, expected)
    assert (first.label, first.score) == (2, pytest.approx(0.9))
    assert second.mask.sum() == 49
    assert second.mask[30, 50]


def test_dots_follow_the_image_into_the_frame():
    stand_in = Flood(radius=3.0)
    stand_in.at_image_size = lambda logits, used, original: logits.new_ones(
        (len(logits), 1, *original)
    )
    list(propose(stand_in, np.zeros((128, 128, 3), np.uint8), [Dot(0, 127, 1)]))
    assert stand_in.asked == [[-0.25, 63.25]]


def test_many_dots_are_asked_in_parts(sam):
    image = np.random.default_rng(0).integers(0, 255, (50, 64, 3), np.uint8)
    dots = [Dot(x, x // 2, 1) for x in range(40)]
    all_at_once = list(propose(sam, image, dots))
    assert len(all_at_once) == 40
    for index in (0, 17, 39):
        (alone,) = propose(sam, image, dots[index : index + 1])
        assert alone.score == pytest.approx(all_at_once[index].score, abs=1e-4)
        assert (alone.mask != all_at_once[index].mask).mean() < 0.01
    assert all_at_once[0].mask.shape == (50, 64)
    assert list(propose(sam, image, [])) == []


def half(rows):
    mask = np.zeros((4, 4), bool)
    mask[rows] = True
    return mask


def test_the_surest_mask_decides_and_large_ones_go():
    proposals = [
        Proposal(half(slice(0, 3)), 0.9, 1),
        Proposal(half(slice(2, 4)), 0.5, 2),
        Proposal(half(slice(0, 1)), 0.95, 3),
    ]
    plain, cleaned = assemble((4, 4), iter(proposals), rest=9, largest=(1.0, 0.5))
    assert plain[:, 0].tolist() == [3, 1, 1, 2]
    # Three quarters are too much, exactly one half is not.
    assert cleaned[:, 0].tolist() == [3, 9, 2, 2]
    assert assemble((4, 4), [], rest=5)[0].tolist() == [[5] * 4] * 4


def painted(root, names):
    truth = np.ones((64, 64), np.uint8)
    truth[10:17, 20:27] = 2
    truth[40:47, 30:37] = 2
    truth[:, 60:] = 0
    for kind, pixels in (("img", np.zeros((64, 64, 3), np.uint8)), ("mask", truth)):
        (root / kind).mkdir(parents=True)
        Image.fromarray(pixels).save(root / kind / "a.png")
    write_classes(root, [ClassSpec(name=name, color="#112233") for name in names])
    write_table(root, [Patch("a", -1, "p")])
    return open_patches(root), truth


def test_masks_that_fit_score_perfectly(tmp_path):
    patches, truth = painted(tmp_path, ("Background", "gland"))
    found = list(evaluate_vanilla(Flood(radius=3.0), patches, patches.split("test")))
    assert len(found) == 1
    for counts in found[0]:
        assert np.array_equal(counts, confusion(truth, truth, 2))


def test_post_processing_drops_what_covers_most(tmp_path):
    patches, truth = painted(tmp_path, ("background", "gland"))
    ((plain, cleaned),) = evaluate_vanilla(Flood(radius=70.0), patches, patches.patches)
    assert np.array_equal(plain, confusion(truth, np.full_like(truth, 2), 2))
    assert np.array_equal(cleaned, confusion(truth, np.ones_like(truth), 2))


def test_without_a_rest_all_classes_get_dots_and_gaps_are_misses(tmp_path):
    patches, truth = painted(tmp_path, ("stroma", "gland"))
    ((counts,),) = evaluate_vanilla(Flood(3.0), patches, patches.patches, largest=(1.0,))
    assert counts.sum() == (truth > 0).sum()
    assert counts[1].tolist() == [0, 0, 98]
    assert counts[0, 0] > 3000


def test_a_real_network_and_nothing_to_ask_for(tmp_path, sam):
    patches, truth = painted(tmp_path / "two", ("background", "gland"))
    ((plain, _),) = evaluate_vanilla(sam, patches, patches.patches)
    assert plain.sum() == (truth > 0).sum()
    patches, _ = painted(tmp_path / "one", ("background",))
    with pytest.raises(UsageError, match="no class but the rest"):
        list(evaluate_vanilla(sam, patches, patches.patches))
