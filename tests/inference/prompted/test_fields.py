"""Discs of a slide, found field by field: each once, wherever fields and regions lie."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from prompt_stub import DiscNetwork, disc_model, disc_picture, write_discs

from wsi_sampath.inference.instances.settings import NucleusSettings
from wsi_sampath.inference.prompted.fields import plan_fields
from wsi_sampath.inference.prompted.masks import Edges
from wsi_sampath.inference.prompted.network import FieldNetwork
from wsi_sampath.inference.prompted.settings import GridSettings, OwnPromptSettings
from wsi_sampath.inference.prompted.source import AskedNuclei, finder
from wsi_sampath.slides.grid import Box
from wsi_sampath.slides.slide import Slide

HEIGHT, WIDTH = 156, 182
LAYOUTS = ((64, 32), (72, 24), (96, 47))
ALL = np.ones((1, 1), bool)
WHOLE = Box(0, 0, WIDTH, HEIGHT)
GRID = GridSettings(points_per_side=12, points_per_batch=144)
APG = OwnPromptSettings()


@pytest.fixture(scope="module")
def discs():
    """Each is smaller than the overlap of any two fields here."""
    return disc_picture(HEIGHT, WIDTH)


@pytest.fixture(scope="module")
def slide(discs, tmp_path_factory):
    with Slide.open(write_discs(tmp_path_factory.mktemp("discs") / "discs.tif", discs)) as opened:
        yield opened


@pytest.fixture
def asked(slide):
    def make(layout, *, window=WHOLE, settings=GRID, unsure=False, tissue=ALL, find=None):
        sampling = slide.sampling(0.25)
        fields = plan_fields(
            sampling, tile=layout[0], overlap=layout[1], window=window, tissue=tissue
        )
        model = disc_model(layout[0], network=DiscNetwork(unsure=unsure))
        find = find or finder(FieldNetwork(model, device="cpu"), settings, NucleusSettings())
        return AskedNuclei(slide, sampling, fields, find, settings, channels=1, workers=1)

    return make


def values_of(window, rows):
    """One channel: the column of the plane."""
    columns = np.arange(window.x, window.x + window.width) % 256
    return np.broadcast_to(columns.astype(np.uint8), (1, rows, window.width))


def patches_of(source, window=WHOLE, strip=1000):
    patches = []
    for y in range(0, window.height, strip):
        patches += source.append(None, values_of(window, min(strip, window.height - y)))
    return patches + source.finish()


def painted(patches, window=WHOLE):
    plane = np.zeros((window.height, window.width), np.uint32)
    for patch in patches:
        assert not plane[place(patch)][patch.labels > 0].any(), "painted twice"
        patch.paint(plane)
    return plane


def place(patch):
    rows, columns = patch.labels.shape
    return slice(patch.y, patch.y + rows), slice(patch.x, patch.x + columns)


def names(patch, discs):
    """Return the discs that a nucleus covers, by falling share."""
    numbers, counts = np.unique(discs[place(patch)][patch.labels > 0], return_counts=True)
    return numbers[np.argsort(-counts)]


@pytest.mark.parametrize("layout", LAYOUTS[::2])
def test_every_disc_is_found_once_and_whole(asked, discs, layout):
    patches = patches_of(asked(layout))
    assert [int(patch.labels.max()) for patch in patches] == list(range(1, len(patches) + 1))
    labels = painted(patches)
    np.testing.assert_array_equal(labels > 0, discs > 0)
    pairs = np.unique(np.stack([labels.ravel(), discs.ravel()]), axis=1)
    assert pairs.shape[1] == discs.max() + 1 == len(patches) + 1


@pytest.mark.parametrize(
    ("layout", "settings"), [*((layout, APG) for layout in LAYOUTS), (LAYOUTS[1], GRID)]
)
def test_fields_that_differ_on_a_disc_still_find_it_once(asked, discs, layout, settings):
    patches = patches_of(asked(layout, settings=settings, unsure=True))
    found = [names(patch, discs)[0] for patch in patches]
    assert sorted(found) == list(range(1, discs.max() + 1))
    painted(patches)


def test_only_cut_discs_are_lost_where_there_are_large_ones(asked, discs):
    """With fields that overlap by less than a disc, those that lie whole in no field are missed."""
    patches = patches_of(asked((64, 12), settings=APG))
    found = [names(patch, discs)[0] for patch in patches]
    assert len(set(found)) == len(found) < discs.max()
    np.testing.assert_array_equal(painted(patches)[discs == 0], 0)


def test_a_disc_is_the_same_in_every_region_that_holds_its_centre(asked):
    layout = LAYOUTS[1]
    whole = painted(patches_of(asked(layout, settings=APG, unsure=True)))
    middles = {
        int(number): np.argwhere(whole == number).mean(axis=0) + 0.5
        for number in np.unique(whole)[1:]
    }
    for window in (Box(0, 0, 60, 50), Box(51, 37, 90, 70), Box(100, 80, 82, 76)):
        source = asked(layout, window=window, settings=APG, unsure=True)
        patches = patches_of(source, window, strip=50)
        part = whole[window.y : window.y + window.height, window.x : window.x + window.width]
        inside = {
            number
            for number, (y, x) in middles.items()
            if 0 <= y - window.y < window.height and 0 <= x - window.x < window.width
        }
        assert len(patches) == len(inside)
        np.testing.assert_array_equal(
            painted(patches, window) > 0, np.isin(part, list(inside)) & (part > 0)
        )


def test_neither_strips_nor_a_stop_leave_a_trace(asked):
    window = Box(20, 30, 150, 120)
    once = patches_of(asked(LAYOUTS[1], window=window, settings=APG), window)
    source, again = asked(LAYOUTS[1], window=window, settings=APG), []
    for rows in (1, 50, 3, 47, 19):
        again += source.append(None, values_of(window, rows))
        kept = source.state()
        source = asked(LAYOUTS[1], window=window, settings=APG).resumed(*kept)
    again += source.finish()
    assert len(again) == len(once) > 20
    for one, other in zip(once, again, strict=True):
        assert (one.y, one.x) == (other.y, other.x)
        np.testing.assert_array_equal(one.labels, other.labels)
        np.testing.assert_array_equal(one.values, other.values)


def test_nothing_is_painted_in_settled_rows_and_little_is_kept(asked):
    source, settled = asked(LAYOUTS[0], settings=APG), 0
    for rows in [12] * (HEIGHT // 12):
        patches = source.append(None, values_of(WHOLE, rows))
        assert all(patch.y >= settled for patch in patches)
        settled = source.settled
        _, arrays = source.state()
        assert arrays["values"].shape[1] <= 3 * 64
        assert arrays["taken"].shape[0] <= 3 * 64
    assert settled > HEIGHT - 2 * 64


def test_values_are_those_under_the_pixels_of_a_nucleus(asked):
    window = Box(60, 40, 90, 70)
    for patch in patches_of(asked(LAYOUTS[2], window=window, settings=APG), window):
        columns = np.arange(patch.x, patch.x + patch.labels.shape[1]) + window.x
        np.testing.assert_array_equal(patch.values[0], columns % 256 * (patch.labels > 0))


def test_discs_count_where_their_centre_lies_on_tissue(asked, discs):
    tissue = np.zeros((HEIGHT // 13, WIDTH // 13), bool)
    tissue[4:9, 3:8] = True
    found = {
        names(patch, discs)[0]
        for patch in patches_of(asked(LAYOUTS[1], settings=APG, tissue=tissue))
    }
    on_tissue = {
        number
        for number in range(1, discs.max() + 1)
        for y, x in [np.argwhere(discs == number).mean(axis=0) + 0.5]
        if tissue[int(y / 13), int(x / 13)]
    }
    assert found == on_tissue


def test_a_slide_smaller_than_a_field(asked, discs):
    patches = patches_of(asked((192, 48), settings=APG))
    assert sorted(names(patch, discs)[0] for patch in patches) == list(range(1, discs.max() + 1))
    painted(patches)


def test_only_the_fields_around_a_region_are_looked_at(asked):
    window, looks = Box(100, 80, 10, 10), []

    def find(image, edges):
        assert image.shape == (64, 64, 3)
        looks.append(edges)
        return []

    source = asked((64, 16), window=window, find=find)
    assert patches_of(source, window) == []
    inner = Edges(top=True, bottom=True, left=True, right=True)
    assert looks == [inner, inner, replace(inner, bottom=False), replace(inner, bottom=False)]


def test_a_field_of_which_nothing_finite_is_known_holds_nothing(asked):
    network = DiscNetwork()
    network.embed = lambda views: (torch.full((1, 3, 64, 64), torch.nan),)
    find = finder(
        FieldNetwork(disc_model(64, network=network), device="cpu"), GRID, NucleusSettings()
    )
    assert patches_of(asked((64, 16), find=find)) == []
