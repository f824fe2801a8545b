"""Whole runs in the modes that ask: the files, a stop on the way, and what is refused."""

import numpy as np
import pytest
from nucleus_stub import nucleus_model
from prompt_stub import DiscNetwork, disc_picture, write_discs
from stub_network import make_stub

from wsi_sampath.errors import UsageError, WsiError
from wsi_sampath.inference.plan import plan_tiling
from wsi_sampath.inference.prompted.settings import GridSettings, OwnPromptSettings
from wsi_sampath.inference.segmenter import segment_slide
from wsi_sampath.inference.settings import SegmentSettings
from wsi_sampath.models.network import LoadedModel

SETTINGS = {"tissue": "none", "device": "cpu", "workers": 1, "report": False, "batch_size": 4}
GRID = GridSettings(points_per_side=12, points_per_batch=144)
REGION = (30, 20, 120, 130)


@pytest.fixture(scope="module")
def discs():
    return disc_picture(182, 208, seed=3)


@pytest.fixture(scope="module")
def slide(discs, tmp_path_factory):
    return write_discs(tmp_path_factory.mktemp("discs") / "discs.tif", discs)


def model(network=None):
    return nucleus_model(tile=64, network=network or DiscNetwork())


def settings(**values):
    return SegmentSettings.build({**SETTINGS, "region": REGION, "grid": GRID, **values})


def segment(slide, out, network=None, **values):
    return segment_slide(slide, out, settings=settings(**values), model=model(network))


@pytest.fixture(scope="module")
def apg(slide, tmp_path_factory):
    return segment(slide, tmp_path_factory.mktemp("asked") / "a.zarr", mode="apg")


def plane_of(result):
    level = result.levels[0]
    return result.window("nuclei", 0, (0, 0, level.width, level.height))


def inside_region(discs):
    x, y, width, height = REGION
    middles = [np.argwhere(discs == one).mean(axis=0) + 0.5 for one in range(1, discs.max() + 1)]
    return {
        number
        for number, (row, column) in enumerate(middles, start=1)
        if y <= row < y + height and x <= column < x + width
    }


@pytest.mark.parametrize("mode", ["apg", "amg"])
def test_a_region_holds_the_discs_whose_centres_lie_in_it(slide, discs, tmp_path, apg, mode):
    result = apg if mode == "apg" else segment(slide, tmp_path / "b.zarr", mode=mode)
    found, (x, y, width, height) = plane_of(result), REGION
    expected = np.zeros_like(discs)
    expected[y : y + height, x : x + width] = discs[y : y + height, x : x + width]
    expected[~np.isin(expected, [*inside_region(discs)])] = 0
    np.testing.assert_array_equal(found > 0, expected > 0)
    pairs = np.unique(np.stack([found.ravel(), expected.ravel()]), axis=1)
    assert pairs.shape[1] == len(inside_region(discs)) + 1
    table = result.nuclei()
    sizes = np.bincount(found.ravel())[1:] * 0.25**2
    np.testing.assert_allclose(table.sort_by("id")["area_um2"].to_numpy(), sizes)
    assert result.attributes["nuclei"] == {"nucleus": len(sizes)}


class Stops(DiscNetwork):
    """Gives up after a number of looks."""

    def embed(self, views):
        if self.looks == 7:
            raise KeyboardInterrupt
        return super().embed(views)


def test_a_run_that_was_stopped_ends_with_the_same_nuclei(slide, tmp_path, apg):
    out = tmp_path / "a.zarr"
    with pytest.raises(WsiError, match="interrupted"):
        segment(slide, out, Stops(), mode="apg", batch_size=1)
    network = DiscNetwork()
    result = segment(slide, out, network, mode="apg", batch_size=1)
    assert result.attributes["resumed_after_strip"] is not None
    assert network.looks < 16
    np.testing.assert_array_equal(plane_of(result), plane_of(apg))
    assert result.nuclei().equals(apg.nuclei())


def test_settings_of_a_mode_decide_where_it_is_used(slide, apg):
    changed = GridSettings(points_per_side=3)
    again = segment(slide, apg.path, mode="apg", grid=changed)
    assert again.reused
    for values in ({"mode": "ais"}, {"own_prompts": OwnPromptSettings(min_area_px=90)}):
        with pytest.raises(WsiError, match="mode was 'apg'|min_area_px was 25"):
            segment(slide, apg.path, **{"mode": "apg", **values})


def test_what_does_not_go_together_is_one_line(slide, tmp_path):
    spec, stub = model().spec, make_stub()
    for refused, values, message in (
        (stub.spec, {"mode": "amg"}, "--mode amg needs a model that answers prompts"),
        (spec, {"mode": "apg", "existing": "a.geojson"}, "leave out --mode apg"),
        (spec, {"mode": "apg", "output_mpp": 0.5}, "by --output-mpp 0.25"),
    ):
        with pytest.raises(UsageError, match=message):
            plan_tiling(refused, settings(**values))
    out = tmp_path / "a.zarr"
    with pytest.raises(UsageError, match="and stub is a stub"):
        segment_slide(slide, out, settings=settings(mode="apg"), model=stub)
    assert not out.exists()


def test_a_network_that_answers_no_prompts_is_one_line(slide, tmp_path):
    network = make_stub().module
    spec = model().spec
    odd = LoadedModel(network, spec, "0" * 64, "odd")
    with pytest.raises(UsageError, match="answers no prompts"):
        segment_slide(slide, tmp_path / "a.zarr", settings=settings(mode="apg"), model=odd)


def test_a_grid_over_all_of_a_slide_is_warned_of(slide, tmp_path):
    few = GridSettings(points_per_side=1)
    result = segment(slide, tmp_path / "a.zarr", mode="amg", region=None, grid=few)
    slow, strict = (one for one in result.attributes["warnings"] if "--mode" in one)
    assert slow.startswith("--mode amg asks the network 1 times for each of about")
    assert "lower --min-predicted-iou and --min-stability" in strict
    lower = GridSettings(points_per_side=1, min_predicted_iou=0.5)
    result = segment(slide, tmp_path / "b.zarr", mode="amg", grid=lower)
    assert not any("--mode" in one for one in result.attributes["warnings"])
