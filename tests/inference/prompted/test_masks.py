"""Masks of single objects: which are the same, what is left of them, and what is asked for."""

from concurrent.futures import ThreadPoolExecutor
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from prompt_stub import DiscPrompts, coloured, disc_model, disc_picture
from pydantic import ValidationError

from wsi_sampath.errors import UsageError, WsiError
from wsi_sampath.inference.instances.settings import NucleusSettings
from wsi_sampath.inference.prompted.amg import grid_objects
from wsi_sampath.inference.prompted.apg import prompt_points, prompted_objects
from wsi_sampath.inference.prompted.asking import answers, point_prompts
from wsi_sampath.inference.prompted.masks import (
    Edges,
    Mask,
    claim,
    cut_out,
    keep_by_boxes,
    keep_by_masks,
    overlap_px,
    stability_scores,
    without_background,
)
from wsi_sampath.inference.prompted.network import FieldNetwork, refuse_unable
from wsi_sampath.inference.prompted.settings import GridSettings, OwnPromptSettings
from wsi_sampath.models.build import build_network
from wsi_sampath.models.network import LoadedModel, Prompts
from wsi_sampath.models.parse import parse_spec

SMALL_PATHO_SAM = {
    "name": "small",
    "architecture": "patho_sam",
    "classes": [{"name": "nucleus", "color": "#c83232"}],
    "mpp": 0.25,
    "tile": 64,
    "sam": {"embed_dim": 16, "depth": 1, "num_heads": 2, "global_attn_indexes": [0]},
    "decoder": {"widths": [16, 8, 4, 4]},
}
SIDE = 104


def block(y, x, height, width, iou=1.0, stability=1.0):
    return Mask(y, x, np.ones((height, width), bool), iou, stability)


def disc_field(picture, network=None):
    network = FieldNetwork(disc_model(len(picture), network=network), device="cpu")
    return network.look(coloured(picture))


@pytest.fixture(scope="module")
def picture():
    return disc_picture(SIDE, SIDE)


def numbers(objects, picture):
    """Return the disc that each object is, pixel by pixel."""
    found = [np.unique(picture[one.box][one.pixels]).item() for one in objects]
    for number, one in zip(found, objects, strict=True):
        assert one.area == (picture == number).sum()
    return sorted(found)


def test_a_mask_knows_its_box_area_and_middle():
    pixels = np.zeros((9, 12), bool)
    pixels[2:5, 3:9] = True
    mask = cut_out(pixels)
    assert (mask.y, mask.x, mask.pixels.shape, mask.area) == (2, 3, (3, 6), 18)
    assert mask.centroid == (3.0, 5.5)
    assert mask.moved(-2, 4).centroid == (1.0, 9.5)
    half = mask.pixels.copy()
    half[:, :2] = False
    assert mask.cut_to(half).box == (slice(2, 5), slice(5, 9))
    assert Mask(0, 0, pixels, predicted_iou=0.5, stability=0.5).score == 0.25


def test_stability_is_the_iou_of_a_lower_and_a_higher_threshold():
    logits = torch.tensor([[[2.0, 0.5, -0.5, -2.0]], [[-3.0, -3.0, -3.0, -3.0]]])
    scores = stability_scores(logits, 1.0)
    assert scores[0] == pytest.approx(1 / 3)
    assert torch.isnan(scores[1])


def test_boxes_alike_are_one_object_and_the_better_one_stays():
    masks = [block(0, 0, 11, 11, 0.5), block(0, 1, 11, 11, 0.9), block(0, 30, 11, 11, 0.1)]
    assert keep_by_boxes(masks, 0.7) == [masks[1], masks[2]]
    # Two boxes 10 px wide, 9 of them shared.
    assert keep_by_boxes(masks[:2], 9 / 11) == [masks[1], masks[0]]
    assert keep_by_boxes([], 0.7) == []
    assert keep_by_boxes([block(1, 1, 1, 1), block(1, 1, 1, 1)], 0.7) != []


def test_masks_alike_are_one_object_by_union_or_by_the_smaller():
    large, small = block(0, 0, 10, 10, 0.9), block(2, 2, 5, 5, 0.8)
    assert overlap_px(large, small) == overlap_px(small, large) == 25
    assert overlap_px(large, block(10, 0, 3, 3)) == 0
    assert keep_by_masks([small, large], 0.5) == [large, small]
    assert keep_by_masks([small, large], 0.5, share_of="smaller") == [large]
    assert keep_by_masks([small, large], 0.25) == [large, small]
    assert keep_by_masks([small, large], 0.24) == [large]


def test_an_object_gets_what_is_free_of_its_mask():
    taken = np.zeros((10, 12), bool)
    taken[:, 4:6] = True
    (left,) = claim(block(0, 1, 10, 10), taken.copy())
    assert left.box == (slice(0, 10), slice(6, 11))
    both = claim(block(0, 1, 10, 10), taken.copy(), all_pieces=True)
    assert [one.area for one in both] == [30, 50]
    assert claim(block(0, 1, 10, 10), taken, max_covered=0.19) == []
    assert claim(block(0, 1, 10, 10), taken, min_area_px=51) == []
    assert taken.sum() == 20
    claim(block(0, 1, 10, 10), taken, max_covered=0.2)
    assert taken.sum() == 70
    assert claim(block(0, 4, 1, 2), taken) == []


def test_the_background_is_larger_than_all_that_is_no_object():
    objects = [block(0, 0, 10, 6), block(0, 6, 2, 2)]
    assert without_background(objects, (10, 10)) == objects[1:]
    assert without_background(objects, (100, 10)) == objects
    assert without_background([], (10, 10)) == []


def test_objects_that_reach_an_inner_edge_are_cut():
    size = (20, 30)
    for edge, mask in {
        "top": block(0, 5, 3, 3),
        "bottom": block(17, 5, 3, 3),
        "left": block(5, 0, 3, 3),
        "right": block(5, 27, 3, 3),
    }.items():
        assert Edges(**{edge: True}).cut(mask, size)
        assert not Edges(**{edge: True}).cut(block(1, 1, 18, 28), size)
        assert not Edges().cut(mask, size)


def test_every_disc_of_an_image_is_found_by_a_grid_and_by_maps(picture):
    field, all_discs = disc_field(picture), list(range(1, picture.max() + 1))
    grid = GridSettings(points_per_side=16)
    assert numbers(grid_objects(field, grid), picture) == all_discs
    for changed in ({}, {"several_masks": True}, {"refine_by_box": True}, {"points_per_batch": 5}):
        settings = OwnPromptSettings(**changed)
        found = prompted_objects(field, field.nucleus_maps(), settings, NucleusSettings())
        assert numbers(found, picture) == all_discs
    assert field.network.module.looks == 1


def test_thresholds_of_the_grid_leave_out_what_is_worse(picture):
    field = disc_field(picture)
    for changed in ({"min_predicted_iou": 0.95}, {"min_stability": 1.0, "stability_offset": 9}):
        assert grid_objects(field, GridSettings(points_per_side=8, **changed)) == []
    large = GridSettings(points_per_side=16, min_area_px=200)
    areas = [one.area for one in grid_objects(field, large)]
    assert sorted(areas) == sorted(a for a in np.bincount(picture.ravel())[1:] if a >= 200)


def test_a_point_lies_deep_inside_of_each_middle():
    maps = np.ones((3, 30, 40), np.float32)
    maps[1:, 5:12, 10:15] = 0.2
    maps[1:, 20:30, 30:37] = 0.4
    maps[0, 20:22, 30:37] = 0.3
    usual = NucleusSettings()
    assert prompt_points(maps, usual).tolist() == [[12, 7], [33, 25]]
    strict = NucleusSettings(boundary_distance_threshold=0.3)
    assert prompt_points(maps, strict).tolist() == [[12, 7]]
    assert prompt_points(np.ones((3, 4, 4), np.float32), usual).shape == (0, 2)


def test_no_middle_no_object():
    glass = np.zeros((SIDE, SIDE), np.int64)
    field = disc_field(glass)
    assert (
        prompted_objects(field, field.nucleus_maps(), OwnPromptSettings(), NucleusSettings()) == []
    )
    assert grid_objects(field, GridSettings(points_per_side=4)) == []


def test_answers_come_with_their_points(picture):
    field = disc_field(picture)
    points = torch.tensor([[13.0, 13.0], [39.0, 13.0], [13.0, 39.0]])
    found = [*answers(field, point_prompts(points), batch=2, stability_offset=1.0, best_only=True)]
    assert [mask.point for mask in found] == [tuple(point) for point in points.tolist()]
    assert [mask.predicted_iou for mask in found] == pytest.approx([0.95] * 3)


def test_a_patho_sam_is_asked_in_pixels_of_its_tile():
    torch.manual_seed(0)
    spec = parse_spec(SMALL_PATHO_SAM)
    model = LoadedModel(build_network(spec), spec, "0" * 64, "small")
    assert spec.frame == 128
    network = FieldNetwork(model, device="cpu")
    image = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    field = network.look(image)
    prompts = Prompts(torch.tensor([[[10.0, 20.0]], [[30.0, 40.0]]]), torch.ones(2, 1))
    logits, quality = field.ask(prompts, multimask=True)
    assert logits.shape == (2, 3, 32, 32)
    assert quality.shape == (2, 3)
    with torch.inference_mode():
        tiles = model.module.preprocess(torch.from_numpy(image[None]))
        embedding = model.module.embed([tiles])
        in_frame = Prompts(prompts.points * 2, prompts.labels)
        expected, _ = model.module.sam.masks(embedding, in_frame)
        maps = model.module.maps(tiles, 64)
    torch.testing.assert_close(logits, expected)
    np.testing.assert_allclose(field.nucleus_maps(), maps[0], atol=1e-6)
    single, _ = field.ask(prompts, multimask=False)
    assert field.enlarge(single[:, 0]).shape == (2, 64, 64)
    in_two_steps = model.module.sam.at_image_size(single, (128, 128), (64, 64))
    torch.testing.assert_close(field.enlarge(single[:, 0]), in_two_steps[:, 0])


def test_a_thread_that_blends_lends_the_network_all_processors(picture):
    network = FieldNetwork(disc_model(SIDE), device="cpu")
    here = torch.get_num_threads()

    def at_work():
        torch.set_num_threads(here + 1)
        with network.running():
            during = torch.get_num_threads()
        return during, torch.get_num_threads()

    with ThreadPoolExecutor(1) as other:
        assert other.submit(at_work).result() == (here, here + 1)
    assert torch.get_num_threads() == here


def test_what_does_not_fit_is_one_line(picture):
    field = disc_field(picture)
    field.network.module.masks = Mock(side_effect=torch.OutOfMemoryError("CUDA out of memory"))
    with pytest.raises(WsiError, match="out-of-memory: a field of 104 px.*fewer points"):
        grid_objects(field, GridSettings(points_per_side=2))
    field.network.module.masks = Mock(side_effect=RuntimeError("shapes"))
    with pytest.raises(RuntimeError, match="shapes"):
        grid_objects(field, GridSettings(points_per_side=2))


def test_models_that_cannot_are_refused_in_one_line(stub):
    for mode in ("amg", "apg"):
        with pytest.raises(UsageError, match=f"stub.*answers no prompts.*{mode}"):
            refuse_unable(stub, mode)
    with pytest.raises(UsageError, match="answers no prompts; use a SAM, a PathoSAM"):
        FieldNetwork(stub)
    refuse_unable(disc_model(64, network=DiscPrompts()), "amg")
    with pytest.raises(UsageError, match="makes no maps of nuclei"):
        refuse_unable(disc_model(64, network=DiscPrompts()), "apg")


def test_settings_are_checked():
    with pytest.raises(ValidationError):
        GridSettings(min_stability=1.5)
    with pytest.raises(UsageError, match="did you mean 'min_stability'"):
        GridSettings.build({"min_stabilty": 0.5})
    assert "0.6" in GridSettings.model_fields["min_predicted_iou"].metadata[-1].text
