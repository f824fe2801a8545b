"""What of a result is shown: maps by tiles, a point, outlines of a square, a field."""

from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from painted_result import SIDE, open_rows, unpacked
from random_nuclei import CLASSES, random_patches

from wsi_sampath.errors import WsiError
from wsi_sampath.outputs.nuclei.columns import TableInfo
from wsi_sampath.outputs.nuclei.found import NucleusSpec, found_nuclei, none_found
from wsi_sampath.outputs.nuclei.parquet import NucleusTableWriter
from wsi_sampath.outputs.nuclei.placed import place
from wsi_sampath.outputs.omezarr.layout import StoredPlane
from wsi_sampath.outputs.qupath.slide_shapes import PlaneToSlide
from wsi_sampath.outputs.result import open_result
from wsi_sampath.viewer.fields import field_table
from wsi_sampath.viewer.layer_tiles import LayerMaps, dotted, kept_bytes
from wsi_sampath.viewer.level_places import level_places
from wsi_sampath.viewer.outlines import SQUARE, packed_outlines
from wsi_sampath.viewer.places import place_at
from wsi_sampath.viewer.recent import Recent


@settings(max_examples=25, deadline=None)
@given(
    x=st.integers(0, 767),
    y=st.integers(0, 767),
    width=st.integers(1, 1536),
    height=st.integers(1, 1536),
    level=st.integers(0, 1),
    which=st.integers(0, 2),
)
def test_a_box_is_read_through_its_chunks(boxes, x, y, width, height, level, which):
    maps, layer = boxes, boxes.result.layers[which]
    side = maps.result.levels[level].width
    box = (x, y, min(width, side - x), min(height, side - y))
    channel = 1 if layer.kind == "probabilities" else None
    whole = maps.result.window(layer.name, level, box)
    np.testing.assert_array_equal(
        maps.read(layer, level, box, channel), whole if channel is None else whole[channel]
    )


@pytest.fixture(scope="module")
def boxes(painted):
    return painted.maps()


def test_every_chunk_is_decoded_once(painted, monkeypatch):
    maps, read, get = painted.maps(), [], StoredPlane.__getitem__
    layer = maps.of_kind("classes")

    def noting(self, where):
        read.append(where)
        return get(self, where)

    monkeypatch.setattr(StoredPlane, "__getitem__", noting)
    tiles = [maps.tile(layer, 0, column, row) for row in range(6) for column in range(6)]
    assert {one.shape for one in tiles} == {(256, 256)}
    assert len(read) == 4


def test_an_empty_chunk_takes_no_memory(painted, monkeypatch):
    maps = painted.maps()
    monkeypatch.setattr(
        StoredPlane, "__getitem__", lambda self, where: np.zeros((1024, 1024), np.uint8)
    )
    assert not maps.tile(maps.of_kind("classes"), 0, 0, 0).any()
    assert maps._chunks.held < 100


def test_there_are_no_tiles_beyond_the_map(painted):
    maps = painted.maps()
    layer = maps.of_kind("classes")
    for level, column, row in ((0, 6, 0), (0, 0, 6), (0, -1, 0), (1, 3, 0), (2, 0, 0), (-1, 0, 0)):
        assert maps.tile(layer, level, column, row) is None


def test_levels_lie_where_they_were_taken_from(painted):
    fine, coarse = level_places(painted.result)
    assert (fine.scale, fine.origin, coarse.scale) == ((2, 2), (0, 0), (4, 4))
    assert coarse.origin == pytest.approx((0, 0), abs=1e-9)
    assert fine.pixel_at(0, SIDE - 0.1) == (0, SIDE // 2 - 1)
    assert fine.pixel_at(-0.1, 5) is fine.pixel_at(5, SIDE) is None


def test_squares_hold_every_nucleus_once_as_the_table_has_it(painted):
    nuclei, expected, table = painted.nuclei(), painted.shapes(), painted.result.nuclei()
    names = dict(zip(table["id"].to_pylist(), table["class"].to_pylist(), strict=True))
    seen = []
    for column, row in ((0, 0), (1, 0), (0, 1), (1, 1)):
        corner = np.array([column, row]) * SQUARE
        ids, classes, outlines = unpacked(packed_outlines(nuclei, column, row))
        seen += ids.tolist()
        for id, value, points in zip(ids.tolist(), classes, outlines, strict=True):
            assert names[id] == painted.result.classes[value - 1].name
            ring = shapely.get_coordinates(expected[id].exterior)[:-1]
            np.testing.assert_allclose(points + corner, ring, atol=0.01)
    assert sorted(seen) == sorted(expected)


def test_a_square_without_nuclei_is_empty(painted):
    ids, classes, outlines = unpacked(packed_outlines(painted.nuclei(), 7, 7))
    assert len(ids) == len(classes) == len(outlines) == 0


def test_a_table_without_nuclei_is_empty_everywhere(tmp_path):
    path = tmp_path / "a.nuclei.parquet"
    with NucleusTableWriter(
        path, info=TableInfo("0123456789abcdef", "s", (1, 1), CLASSES)
    ) as table:
        table.write(place(none_found(), PlaneToSlide(1, 1, 0, 0, 1, 1)))
    nuclei = open_rows(path)
    assert packed_outlines(nuclei, 0, 0) == bytes(12)
    assert len(nuclei.index.within((0, 0, 9, 9))) == 0


def test_a_table_that_counts_from_bounds_is_moved_to_the_slide(tmp_path):
    found = found_nuclei(random_patches(3, most=9), NucleusSpec(0.5, 1.0, 3))
    placed = place(found, PlaneToSlide(2, 2, 10, 20, 0.25, 0.5))
    info = TableInfo("0123456789abcdef", "s", (0.25, 0.5), CLASSES, (1000.0, 1500.0))
    with NucleusTableWriter(tmp_path / "a.nuclei.parquet", info=info) as table:
        table.write(placed)
    nuclei = open_rows(tmp_path / "a.nuclei.parquet")
    ids, _, outlines = unpacked(packed_outlines(nuclei, 0, 0))
    n_parts = shapely.get_num_geometries(placed.shapes)
    lies = placed.centers_px + (1000, 1500)
    here = (lies < SQUARE).all(axis=1)
    assert here.any()
    assert ids.tolist() == np.repeat(found.id[here], n_parts[here]).tolist()
    low = np.concatenate(outlines).min(axis=0)
    np.testing.assert_allclose(
        low, shapely.bounds(placed.shapes[here])[:, :2].min(0) + (1000, 1500)
    )
    row = nuclei.row(0)
    assert (row["x_px"], row["y_um"]) == pytest.approx((lies[0, 0], lies[0, 1] * 0.5), rel=1e-6)


def test_a_point_on_a_nucleus_tells_its_row(painted):
    maps, nuclei, table = painted.maps(), painted.nuclei(), painted.result.nuclei()
    for number in (0, 699, 700, 2500, len(table) - 1):
        expected = table.slice(number, 1).to_pylist()[0]
        found = place_at(maps, nuclei, expected["x_px"], expected["y_px"])
        row = found["nucleus"]
        assert (row["id"], row["class"]) == (expected["id"], found["class"]["name"])
        assert row["area_um2"] == pytest.approx(expected["area_um2"])
        assert not {"geometry", "bbox"} & set(row)
        outline = shapely.Polygon(row["outline"])
        assert outline.symmetric_difference(shapely.from_wkb(expected["geometry"])).area < 0.1
        assert found["probabilities"]["foreground"] == 1


def test_a_point_beside_nuclei_and_beside_the_map(painted):
    found = place_at(painted.maps(), painted.nuclei(), 1, 1)
    assert (found["class"], found["nucleus"]) == (None, None)
    assert found["probabilities"]["centre distance"] == 1
    nothing = {"class": None, "probabilities": None, "nucleus": None}
    assert place_at(painted.maps(), painted.nuclei(), SIDE, 5) == nothing
    assert place_at(painted.maps(), None, 24, 24)["nucleus"] is None


def test_the_field_of_the_whole_slide_is_what_the_run_says(painted):
    result, maps, nuclei = painted.result, painted.maps(), painted.nuclei()
    told = field_table(maps, nuclei, (-10, -10, 9000, 9000))
    assert told["approximate"] is True
    run = result.attributes
    assert told["analysed_mm2"] == pytest.approx(run["coverage"]["analysed_mm2"])
    for one in told["classes"]:
        assert one["area_mm2"] == pytest.approx(run["area_mm2"][one["name"]])
        assert one["count"] == run["nuclei"][one["name"]]
        assert one["percent"] == pytest.approx(100 * one["area_mm2"] / told["analysed_mm2"])
    assert told["nuclei"] == sum(run["nuclei"].values())
    assert told["per_mm2"] == pytest.approx(told["nuclei"] / told["analysed_mm2"])


def test_the_field_of_a_class_map_is_what_the_run_says(viewed):
    result = open_result(viewed.zarr)
    maps = LayerMaps(result, "v", Recent(1 << 26, kept_bytes))
    told = field_table(maps, None, (0, 0, 1500, 1100))
    assert (told["approximate"], told["nuclei"], told["per_mm2"]) == (False, None, None)
    for one in told["classes"]:
        assert one["area_mm2"] == pytest.approx(result.attributes["area_mm2"][one["name"]])
        assert one["count"] is None
    assert told["analysed_mm2"] == pytest.approx(sum(result.attributes["area_mm2"].values()))


def test_a_large_field_is_counted_on_a_coarse_level(painted):
    run = {key: value for key, value in painted.result.attributes.items() if key != "nuclei"}
    maps = LayerMaps(replace(painted.result, attributes=run), "c", Recent(1 << 26, kept_bytes))
    told = field_table(maps, None, (-5, -5, SIDE + 9, SIDE + 9))
    assert told["approximate"] is True
    mm2 = np.bincount(painted.result.read_labels(1).ravel())[1:] / 1e6  # Pixels of 1 um.
    assert [one["area_mm2"] for one in told["classes"]] == pytest.approx(mm2.tolist())
    assert told["analysed_mm2"] == pytest.approx(mm2.sum())


@settings(max_examples=15, deadline=None)
@given(cut=st.floats(0, 800), x=st.floats(0, 2500), y=st.floats(-50, 2500))
def test_fields_add_up(boxes, tables, cut, x, y):
    def told(left, width):
        return field_table(boxes, tables, (left, y, width, 500))

    whole, parts = told(x, 800), (told(x, cut), told(x + cut, 800 - cut))
    for name in ("analysed_mm2", "nuclei"):
        assert whole[name] == pytest.approx(sum(one[name] for one in parts), abs=1e-9)
    for index, one in enumerate(whole["classes"]):
        areas = [part["classes"][index]["area_mm2"] for part in parts]
        assert one["area_mm2"] == pytest.approx(sum(areas), abs=1e-9)


@pytest.fixture(scope="module")
def tables(painted):
    return painted.nuclei()


def test_dots_are_where_nuclei_are_and_nothing_else_is(painted):
    index, at = painted.nuclei().index, level_places(painted.result)[1]
    tile = np.zeros((256, 256), np.uint8)
    tile[0] = 3
    dots = dotted(tile, index, at, 1, 2)
    columns, rows = (index.x // 4).astype(int) - 256, (index.y // 4).astype(int) - 512
    here = (columns >= 0) & (columns < 256) & (rows >= 0) & (rows < 256)
    assert here.sum() > 300
    np.testing.assert_array_equal(
        dots[rows[here], columns[here]], np.where(rows[here] == 0, 3, index.labels[here])
    )
    assert (dots[1:] > 0).sum() == (rows[here] > 0).sum()
    assert (dots[0] == 3).all()


def test_areas_without_a_table_are_not_those_of_a_coarse_map(painted):
    rough = field_table(painted.maps(), None, (0, 0, SIDE, SIDE))
    assert [one["area_mm2"] for one in rough["classes"]] == [None] * 3
    assert (rough["nuclei"], rough["approximate"]) == (None, True)
    fine = field_table(painted.maps(), None, (0, 0, 1024, 1024))
    listed = field_table(painted.maps(), painted.nuclei(), (0, 0, 1024, 1024))
    for one, other in zip(fine["classes"], listed["classes"], strict=True):
        assert one["area_mm2"] == pytest.approx(other["area_mm2"])


def test_a_table_that_is_damaged_is_named(painted, tmp_path):
    path = tmp_path / "secret" / "a.nuclei.parquet"
    path.parent.mkdir()
    content = bytearray(painted.result.nuclei_table.read_bytes())
    group = pq.ParquetFile(painted.result.nuclei_table).metadata.row_group(0)
    geometry = next(
        column
        for column in map(group.column, range(group.num_columns))
        if column.path_in_schema == "geometry"
    )
    content[geometry.data_page_offset + 3000] ^= 255
    path.write_bytes(content)
    nuclei = open_rows(path)
    with pytest.raises(WsiError, match="can't be read") as caught:
        packed_outlines(nuclei, 0, 0)
    assert caught.value.reason == "unreadable"
    assert "secret" not in caught.value.line()
