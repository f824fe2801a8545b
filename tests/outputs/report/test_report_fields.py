"""Fields of a report lie where nuclei were looked for, and show their outlines."""

from __future__ import annotations

import numpy as np
import pytest
from made_result import make_attributes

from wsi_sampath.classes import ClassSpec
from wsi_sampath.outputs.nuclei.channels import NUCLEUS_CHANNELS
from wsi_sampath.outputs.omezarr.images import ImageSpec, PyramidSpec
from wsi_sampath.outputs.omezarr.ngff import PlaneScale
from wsi_sampath.outputs.omezarr.pyramid import PyramidWriter
from wsi_sampath.outputs.report.nuclei import Field, draw_field, fields_to_show, width_um
from wsi_sampath.outputs.result import open_result

HEIGHT, WIDTH, UM = 1000, 1200, 0.5
RED = ClassSpec(name="nucleus", color="#d03030")
FIELD = 200


def grid_of_nuclei(step=20, side=10):
    """Squares as nuclei all over the plane, uint32 (h, w)."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    ids = rows // step * (WIDTH // step) + columns // step + 1
    return np.where((rows % step < side) & (columns % step < side), ids, 0).astype(np.uint32)


@pytest.fixture
def made(tmp_path):
    def make(ids, analysed=None, *, with_maps=True, region=None):
        classes = (ids > 0).astype(np.uint8)
        root = ImageSpec("")
        if with_maps:
            root = ImageSpec("", channels=NUCLEUS_CHANNELS, halving="mean")
        images = (
            ImageSpec("labels/classes", values=(RED,)),
            ImageSpec("labels/nuclei", dtype="uint32"),
            root,
        )
        scale = PlaneScale(UM, UM, UM, UM)
        writer = PyramidWriter(tmp_path / "s.zarr", PyramidSpec("s", HEIGHT, WIDTH, scale, images))
        writer.append("labels/classes", 0, classes)
        writer.append("labels/nuclei", 0, ids)
        seen = np.ones_like(classes) if analysed is None else analysed
        maps = np.stack([classes * 255, 255 - classes * 200, 255 - classes * 200]) * seen
        writer.append("", 0, maps if with_maps else classes)
        mpp = {**make_attributes()["mpp"], "x": UM, "y": UM, "output": [UM, UM]}
        told = {"nuclei": {"nucleus": int(ids.max())}, "area_mm2": {"nucleus": 0.1}}
        size = [WIDTH, HEIGHT]
        attributes = make_attributes(
            **told, mpp=mpp, slide_size=size, region=region, geojson=None, polygons=None
        )
        writer.finish(attributes)
        return open_result(tmp_path / "s.zarr")

    return make


def within(box, left, top, right, bottom):
    x, y, width, height = box
    return left <= x and top <= y and x + width <= right and y + height <= bottom


@pytest.mark.parametrize("with_maps", [True, False])
def test_fields_lie_within_the_region(made, with_maps):
    region = (250, 330, 500, 450)
    ids = np.zeros((HEIGHT, WIDTH), np.uint32)
    ids[330:780, 250:750] = grid_of_nuclei()[330:780, 250:750]
    found = fields_to_show(made(ids, with_maps=with_maps, region=list(map(float, region))))
    assert len(found) == 3
    assert all(box[2:] == (FIELD, FIELD) for box in found)
    assert all(within(box, 250, 330, 750, 780) for box in found)


def test_fields_are_as_small_as_the_region(made):
    ids = np.zeros((HEIGHT, WIDTH), np.uint32)
    ids[420:440, 310:330] = 1
    result = made(ids, region=[300.0, 400.0, 120.0, 80.0])
    found = fields_to_show(result)
    assert found == [(300, 400, 80, 80)]
    fields = [Field(box, np.zeros((80, 80, 3), np.uint8)) for box in found]
    assert width_um(result, fields) == 40
    assert width_um(result, []) == 100


def test_fields_were_analysed_nearly_everywhere(made):
    analysed = np.zeros((HEIGHT, WIDTH), np.uint8)
    analysed[:, :300] = 1  # the second column of squares is half analysed, and full of nuclei
    ids = grid_of_nuclei() * (analysed > 0)
    ids[:, :200] *= np.arange(WIDTH)[:200] % 60 < 30
    found = fields_to_show(made(ids, analysed))
    assert len(found) == 3
    assert {x for x, *_ in found} == {0}


def test_where_no_field_was_analysed_everywhere_parts_are_shown(made):
    analysed = np.zeros((HEIGHT, WIDTH), np.uint8)
    analysed[:, 40:160] = 1
    found = fields_to_show(made(grid_of_nuclei() * (analysed > 0), analysed))
    assert {x for x, *_ in found} == {0}


def test_the_fullest_is_first_and_the_emptiest_last(made):
    ids = np.zeros((HEIGHT, WIDTH), np.uint32)
    for number, (x, y, side) in enumerate([(1050, 850, 8), (50, 50, 60), (450, 250, 30)], 1):
        ids[y : y + side, x : x + side] = number
    boxes = fields_to_show(made(ids))
    assert [box[:2] for box in boxes] == [(0, 0), (400, 200), (1000, 800)]


def test_no_nucleus_no_field(made):
    assert fields_to_show(made(np.zeros((HEIGHT, WIDTH), np.uint32))) == []


def test_outlines_are_seen_and_hide_no_nucleus(made):
    result = made(grid_of_nuclei(step=40, side=20))
    white = np.full((FIELD, FIELD, 3), 255, np.uint8)
    picture = np.asarray(draw_field(result, Field((0, 0, FIELD, FIELD), white)))
    is_line = (picture == (0xD0, 0x30, 0x30)).all(2)
    times = len(picture) // FIELD
    assert times == 2
    # The nucleus in the second row and column of the picture, with what lies around it.
    nucleus = is_line[70:130, 70:130]
    assert nucleus[10:50, 10:12].all()
    assert not nucleus[:10].any()
    assert not nucleus[12:48, 12:48].any()
