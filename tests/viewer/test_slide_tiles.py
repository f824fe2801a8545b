"""Tiles of a slide over HTTP: levels, edges, those of the file untouched, what may be kept."""

from __future__ import annotations

from functools import partial

import imagecodecs
import numpy as np
import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient
from viewer_slides import waves

from wsi_sampath.slides.readers.base import TileError
from wsi_sampath.synthetic.svs_writer import write_svs
from wsi_sampath.viewer import slide_info, slide_tiles
from wsi_sampath.viewer.settings import ViewSettings
from wsi_sampath.viewer.shelf import Missing, Shelf, ShelfEntry
from wsi_sampath.viewer.slide_tiles import TILE, SlideTiles


@pytest.fixture(scope="module")
def shelf(viewed):
    shelf = viewed.shelf()
    yield shelf
    shelf.close()


@pytest.fixture(scope="module")
def shown(shelf):
    return shelf.slide(shelf.entries[0].id)


@pytest.fixture(scope="module")
def client(shelf):
    tiles = SlideTiles()
    routes = [*slide_info.routes(shelf, tiles), *slide_tiles.routes(shelf, tiles)]
    with TestClient(Starlette(routes=routes)) as client:
        yield client


def test_levels_halve_down_to_a_tile(client, shown):
    told = client.get(f"/api/slides/{shown.id}").json()
    assert (told["width"], told["height"], told["mpp"]) == (1500, 1100, [0.5, 0.5])
    assert [(one["width"], one["height"]) for one in told["levels"]] == [
        (1500, 1100),
        (750, 550),
        (375, 275),
    ]
    assert [one["scale"] for one in told["levels"]] == [[1, 1], [2, 2], [4, 4]]
    # The second is not in the file.
    assert [one["tile"] for one in told["levels"]] == [[256, 256], [TILE, TILE], [256, 256]]
    (result,) = told["results"]
    assert result["classes"][0]["value"] == 1
    assert {one["kind"] for one in result["layers"]} == {"classes", "probabilities"}
    finest = result["layers"][0]["levels"][0]
    covered = finest["origin"][0] + finest["scale"][0] * finest["width"]
    assert covered == pytest.approx(1500, abs=finest["scale"][0])


def test_a_tile_of_the_file_is_sent_untouched(client, shown):
    answer = client.get(f"/api/slides/{shown.id}/tiles/0/2_1.jpg")
    assert answer.content == shown.slide.reader.jpeg_tile(0, 2, 1)
    pixels = imagecodecs.jpeg8_decode(answer.content)
    assert np.array_equal(pixels, shown.slide.reader.read(0, 512, 256, 256, 256))


@pytest.mark.parametrize(
    ("place", "box"),
    [
        ("0/5_4", (1280, 1024, 220, 76)),
        ("1/0_0", (0, 0, 1024, 1024)),
        ("1/1_1", (1024, 1024, 476, 76)),
        ("2/1_1", (1024, 1024, 476, 76)),
    ],
)
def test_other_tiles_are_cut_at_the_edges_and_show_their_place(client, shown, place, box):
    level = int(place[0])
    pixels = imagecodecs.jpeg8_decode(
        client.get(f"/api/slides/{shown.id}/tiles/{place}.jpg").content
    )
    x, y, width, height = box
    zoom = 2**level
    assert pixels.shape == (height // zoom, width // zoom, 3)
    truth = shown.slide.reader.read(0, x, y, width, height).astype(float)
    blocks = truth.reshape(height // zoom, zoom, width // zoom, zoom, 3).mean((1, 3))
    assert np.abs(pixels - blocks).mean() < 6


@pytest.mark.parametrize("place", [(0, 6, 0), (0, 0, 5), (3, 0, 0), (2, 2, 0), (0, 10**9 - 1, 0)])
def test_beyond_the_grid_nothing_is_read(shown, monkeypatch, place):
    tiles = SlideTiles()
    tiles.levels(shown)
    monkeypatch.setattr(type(shown.slide), "read_sampled", None)
    monkeypatch.setattr(type(shown.slide.reader), "jpeg_tile", None)
    with pytest.raises(Missing):
        tiles.tile(shown, *place)


def test_tiles_may_be_kept_for_ever(client, shown, monkeypatch):
    address = f"/api/slides/{shown.id}/tiles/1/0_0.jpg"
    first = client.get(address)
    assert "immutable" in first.headers["cache-control"]
    assert first.headers["content-type"] == "image/jpeg"
    again = client.get(address, headers={"if-none-match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert client.get(address, headers={"if-none-match": '"x"'}).content == first.content


def test_an_encoded_tile_is_made_once(shown):
    tiles = SlideTiles()
    assert tiles.tile(shown, 1, 0, 0) is tiles.tile(shown, 1, 0, 0)


def test_a_slide_without_lower_levels_is_decoded_once_for_all(tmp_path):
    path = tmp_path / "flat.svs"
    slow, size = partial(waves, scale=12), {"width": 4200, "height": 600}
    write_svs(path, slow, mpp=0.5, levels=(1,), thumbnail=False, **size)
    shelf = Shelf([ShelfEntry("a", path.name, path)], ViewSettings())
    shown, tiles = shelf.slide("a"), SlideTiles()
    levels = tiles.levels(shown)
    assert [(one.width, one.height) for one in levels][-2:] == [(525, 75), (263, 38)]
    before = shown.slide.reader.decoded_px
    coarsest = imagecodecs.jpeg8_decode(tiles.tile(shown, len(levels) - 1, 0, 0))
    for level in range(2, len(levels)):
        for column in range(levels[level].columns):
            for row in range(levels[level].rows):
                tiles.tile(shown, level, column, row)
    assert shown.slide.reader.decoded_px - before <= 1.1 * 4200 * 600
    assert coarsest.shape == (38, 263, 3)
    truth = shown.slide.reader.read(0, 1600, 160, 320, 320).reshape(20, 16, 20, 16, 3).mean((1, 3))
    assert np.abs(coarsest[10:30, 100:120] - truth).mean() < 4
    shelf.close()


def test_what_cannot_be_decoded_is_background_in_an_overview(shown, monkeypatch):
    tiles = SlideTiles()
    tiles.levels(shown)

    def fail(*_place):
        raise TileError("damaged")

    monkeypatch.setattr(tiles, "tile", fail)
    pixels = imagecodecs.jpeg8_decode(tiles.thumbnail(shown, 64))
    assert pixels.min() > 250


def test_a_thumbnail_has_about_the_side_asked_for(client, shown):
    for side, most in ((64, 64), (99999, 1024)):
        answer = client.get(f"/api/slides/{shown.id}/thumbnail.jpg?side={side}")
        height, width, _ = imagecodecs.jpeg8_decode(answer.content).shape
        assert (width, height) == (most, round(most * 1100 / 1500))
