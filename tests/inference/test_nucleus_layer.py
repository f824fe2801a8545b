"""Nuclei of whole slides: the same ones however the slide is cut, and files that agree."""

from __future__ import annotations

import json

import numpy as np
import pytest
from nucleus_stub import MapNetwork, map_picture, nucleus_model, write_picture

from wsi_sampath.errors import UsageError, WsiError
from wsi_sampath.inference.instances.flooding import nuclei_of_plane, numbered
from wsi_sampath.inference.instances.settings import NucleusSettings
from wsi_sampath.inference.plan import plan_tiling
from wsi_sampath.inference.segmenter import segment_slide
from wsi_sampath.inference.settings import SegmentSettings
from wsi_sampath.inference.strips import StripSink
from wsi_sampath.outputs.result import open_result

HEIGHT, WIDTH, N = 1200, 400, 420
SETTINGS = {"tissue": "none", "device": "cpu", "workers": 1, "report": False, "batch_size": 3}


@pytest.fixture(scope="module")
def picture():
    return map_picture(HEIGHT, WIDTH, N, seed=1)


@pytest.fixture(scope="module")
def slide(picture, tmp_path_factory):
    return write_picture(tmp_path_factory.mktemp("maps") / "maps.tif", picture)


def segment(slide, out, *, model=None, **values):
    settings = SegmentSettings.build({**SETTINGS, **values})
    return segment_slide(slide, out, settings=settings, model=model or nucleus_model())


@pytest.fixture(scope="module")
def result(slide, tmp_path_factory):
    return segment(slide, tmp_path_factory.mktemp("nuclei") / "a.zarr", overlap=32)


def whole(layer, result):
    level = result.levels[0]
    return result.window(layer, 0, (0, 0, level.width, level.height))


def alike(one, other):
    return np.array_equal(numbered(one.astype(np.int64), 0)[0], numbered(other, 0)[0])


def test_nuclei_are_those_of_the_whole_plane(result, picture):
    maps = picture.transpose(2, 0, 1).astype(np.float32) / 255
    expected = nuclei_of_plane(maps, NucleusSettings())
    found = whole("nuclei", result)
    assert expected.max() > 150
    assert alike(found, expected)


def test_stored_maps_are_those_of_the_network(result, picture):
    assert np.array_equal(whole("maps", result), picture.transpose(2, 0, 1))


@pytest.mark.parametrize(
    "values",
    [
        {"tile": 192, "overlap": 0, "batch_size": 1},
        {"tile": 448, "overlap": 131, "batch_size": 4, "workers": 2},
        {"tile": 1024, "overlap": 200, "zarr_format": 3},
    ],
)
def test_no_nucleus_differs_however_the_slide_is_cut(result, slide, tmp_path, values):
    other = segment(slide, tmp_path / "b.zarr", **values)
    for layer in ("nuclei", "classes", "maps"):
        assert np.array_equal(whole(layer, other), whole(layer, result))
    table = other.nuclei()
    assert table.equals(result.nuclei())


def test_pieces_beyond_the_limit_are_cut_alike_however_the_slide_is_cut(slide, tmp_path):
    how = NucleusSettings(largest_px=70, foreground_threshold=0.2)
    one = segment(slide, tmp_path / "a.zarr", tile=160, overlap=40, nuclei=how)
    other = segment(slide, tmp_path / "b.zarr", tile=288, overlap=10, nuclei=how)
    assert np.array_equal(whole("nuclei", one), whole("nuclei", other))
    uncut = segment(slide, tmp_path / "c.zarr", nuclei=how.model_copy(update={"largest_px": 4096}))
    assert uncut.attributes["nuclei"] != one.attributes["nuclei"]


def test_table_and_geojson_hold_the_nuclei_of_the_map(result):
    found, table = whole("nuclei", result), result.nuclei()
    ids, sizes = np.unique(found[found > 0], return_counts=True)
    assert sorted(table["id"].to_pylist()) == ids.tolist() == list(range(1, len(ids) + 1))
    areas = dict(zip(table["id"].to_pylist(), table["area_um2"].to_pylist(), strict=True))
    assert np.allclose([areas[one] for one in ids.tolist()], sizes * 0.25**2)
    features = json.loads(result.geojson.read_text())["features"]
    assert len(features) == len(ids) == sum(result.attributes["nuclei"].values())
    assert {one["properties"]["objectType"] for one in features} == {"detection"}
    assert len({one["id"] for one in features}) == len(ids)


def test_counts_density_and_sizes(result):
    run = result.attributes
    area = run["coverage"]["analysed_mm2"]
    assert area == pytest.approx(HEIGHT * WIDTH * 0.25**2 * 1e-6)
    assert run["nuclei_per_mm2"]["nucleus"] == pytest.approx(run["nuclei"]["nucleus"] / area)
    assert sum(run["nucleus_areas"]["nuclei"]["nucleus"]) == run["nuclei"]["nucleus"]
    pixels = np.count_nonzero(whole("classes", result) == 1)
    assert run["area_mm2"]["nucleus"] == pytest.approx(pixels * 0.25**2 * 1e-6)
    assert result.areas()[0]["percent"] == pytest.approx(100 * pixels / (HEIGHT * WIDTH))


def test_class_of_a_nucleus_is_one_for_all_its_pixels(slide, tmp_path):
    result = segment(slide, tmp_path / "c.zarr", model=nucleus_model(3), overlap=16)
    nuclei, classes = whole("nuclei", result), whole("classes", result)
    assert np.array_equal(nuclei > 0, classes > 0)
    pairs = np.unique(np.stack([nuclei[nuclei > 0], classes[nuclei > 0]]), axis=1)
    assert len(pairs[0]) == len(np.unique(pairs[0]))
    table = result.nuclei()
    named = dict(zip(table["id"].to_pylist(), table["class"].to_pylist(), strict=True))
    assert all(named[i] == f"kind {c}" for i, c in pairs.T.tolist())
    counts = {f"kind {c}": int((pairs[1] == c).sum()) for c in (1, 2, 3)}
    assert result.attributes["nuclei"] == counts


def test_classes_of_nuclei_far_apart_are_those_of_the_table(tmp_path):
    """Wide enough for several canvases, with the first nucleus not in the leftmost of them."""
    picture = map_picture(90, 4500, 0)
    for seed, x in enumerate((4300, 2400, 300, 4000, 2200, 1200)):
        part = map_picture(30, 60, 4, seed=seed)
        y = 5 + 9 * seed
        picture[y : y + 30, x : x + 60] = part
    slide = write_picture(tmp_path / "wide.tif", picture)
    result = segment(slide, tmp_path / "a.zarr", model=nucleus_model(3))
    nuclei, classes = whole("nuclei", result), whole("classes", result)
    table = result.nuclei()
    named = dict(zip(table["id"].to_pylist(), table["class"].to_pylist(), strict=True))
    pairs = np.unique(np.stack([nuclei[nuclei > 0], classes[nuclei > 0]]), axis=1)
    assert {int(i): f"kind {c}" for i, c in pairs.T} == named
    assert len(set(named.values())) > 1


class Stopping(MapNetwork):
    def __init__(self, after):
        super().__init__()
        self.after = after

    def maps(self, images, side):
        if len(self.calls) >= self.after:
            raise KeyboardInterrupt
        return super().maps(images, side)


@pytest.mark.parametrize("carrying", [1, 2])
@pytest.mark.parametrize("values", [{}, {"probabilities": False, "tile": 96}])
def test_stopped_again_and_again_the_files_are_the_same(
    slide, tmp_path, monkeypatch, values, carrying
):
    """Also where not every strip keeps enough to resume after it."""
    monkeypatch.setattr(StripSink, "_may_carry", lambda sink: sink._row % carrying == 0)
    values = {"overlap": 32, "batch_size": 2, **values}
    segment(slide, tmp_path / "whole" / "a.zarr", **values)
    stops = 0
    while stops < 30:
        model = nucleus_model(network=Stopping(after=9 + stops))
        try:
            segment(slide, tmp_path / "a.zarr", model=model, **values)
            break
        except WsiError as error:
            assert error.reason == "interrupted"  # noqa: PT017 - stopping is the point
            stops += 1
    assert 1 < stops < 30
    assert contents(tmp_path) == contents(tmp_path / "whole")


def contents(folder):
    zarr = folder / "a.zarr"
    files = [*(p for p in zarr.rglob("*") if p.is_file() and p.name != ".zattrs")]
    files += [folder / "a.geojson", folder / "a.nuclei.parquet"]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_region_of_the_slide(result, slide, tmp_path):
    region = segment(slide, tmp_path / "r.zarr", region=(100, 200, 250, 900), overlap=32)
    inside = whole("nuclei", region)[200:1100, 100:350]
    assert np.count_nonzero(whole("nuclei", region)) == np.count_nonzero(inside)
    # Nuclei that the region cuts are others; those of pieces well inside are the same.
    everywhere = whole("nuclei", result)[200:1100, 100:350]
    assert np.mean((inside > 0) == (everywhere > 0)) > 0.98


def test_opened_again(result):
    again = open_result(result.path)
    assert [one.name for one in again.layers] == ["classes", "nuclei", "maps"]
    assert again.nuclei().num_rows == result.attributes["nuclei"]["nucleus"]
    assert "nuclei" in repr(again)


def test_run_again_is_reused_and_a_missing_table_is_made_again(slide, tmp_path):
    first = segment(slide, tmp_path / "a.zarr")
    assert segment(slide, tmp_path / "a.zarr").reused
    content = first.nuclei_table.read_bytes()
    first.nuclei_table.unlink()
    assert not segment(slide, tmp_path / "a.zarr").reused
    assert first.nuclei_table.read_bytes() == content


def test_a_foreign_table_is_not_replaced(slide, tmp_path):
    mine = tmp_path / "a.nuclei.parquet"
    mine.write_bytes(b"PAR1 of somebody else PAR1")
    with pytest.raises(WsiError, match="not ours"):
        segment(slide, tmp_path / "a.zarr")
    assert mine.read_bytes() == b"PAR1 of somebody else PAR1"
    assert [*tmp_path.iterdir()] == [mine]


def test_settings_of_nuclei_decide_only_where_there_are_nuclei(slide, tmp_path):
    segment(slide, tmp_path / "a.zarr")
    with pytest.raises(WsiError, match="min_size_px"):
        segment(slide, tmp_path / "a.zarr", nuclei=NucleusSettings(min_size_px=60))


def test_min_size_leaves_out_small_nuclei(result, slide, tmp_path):
    larger = segment(slide, tmp_path / "a.zarr", nuclei=NucleusSettings(min_size_px=60))
    sizes = np.bincount(whole("nuclei", result).ravel())[1:]
    kept = np.bincount(whole("nuclei", larger).ravel())[1:]
    assert (sizes < 60).any()
    assert sorted(kept) == sorted(sizes[sizes >= 60])


def outlines_of(result):
    return result.geojson, result.nuclei_table


@pytest.mark.parametrize("which", [0, 1], ids=["geojson", "parquet"])
def test_nuclei_that_are_there_already_are_measured_and_classified(result, slide, tmp_path, which):
    again = segment(
        slide,
        tmp_path / "a.zarr",
        model=nucleus_model(3),
        tile=256,
        existing=str(outlines_of(result)[which]),
    )
    assert np.array_equal(whole("nuclei", again) > 0, whole("nuclei", result) > 0)
    before, after = (
        one.nuclei().select(["x_px", "y_px", "area_um2", "haematoxylin_od"]).to_pandas()
        for one in (result, again)
    )
    order = ["y_px", "x_px"]
    before, after = (one.sort_values(order).to_numpy() for one in (before, after))
    assert np.allclose(before, after, atol=1e-3)
    assert len(set(again.nuclei()["class"].to_pylist())) > 1


@pytest.mark.parametrize("carrying", [1, 2])
def test_stop_among_nuclei_that_are_there_already(result, slide, tmp_path, monkeypatch, carrying):
    monkeypatch.setattr(StripSink, "_may_carry", lambda sink: sink._row % carrying == 0)
    values = {"existing": str(result.geojson), "overlap": 32, "batch_size": 2}
    segment(slide, tmp_path / "whole" / "a.zarr", **values)
    with pytest.raises(WsiError, match="interrupted|stopped"):
        segment(slide, tmp_path / "a.zarr", model=nucleus_model(network=Stopping(22)), **values)
    segment(slide, tmp_path / "a.zarr", **values)
    assert contents(tmp_path) == contents(tmp_path / "whole")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("none.geojson", None),
        ("empty.geojson", '{"type": "FeatureCollection", "features": []}'),
        ("odd.geojson", "nuclei"),
        ("odd.parquet", "PAR1 nuclei PAR1"),
    ],
)
def test_unusable_nuclei_are_one_clear_line(slide, tmp_path, name, content):
    file = tmp_path / name
    if content is not None:
        file.write_text(content)
    with pytest.raises(WsiError) as caught:
        segment(slide, tmp_path / "out" / "a.zarr", existing=str(file))
    assert caught.value.reason == "bad-input"
    assert "\n" not in caught.value.line()
    assert not (tmp_path / "out").exists() or not any((tmp_path / "out").iterdir())


def test_detections_are_taken_and_annotations_left_out_with_a_word(result, slide, tmp_path):
    drawn = json.loads(result.geojson.read_text())
    ring = [[0, 0], [400, 0], [400, 1200], [0, 1200], [0, 0]]
    tissue = {
        "type": "Feature",
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "properties": {"objectType": "annotation", "classification": {"name": "Tissue"}},
    }
    drawn["features"].insert(0, tissue)
    file = tmp_path / "qupath.geojson"
    file.write_text(json.dumps(drawn))
    again = segment(slide, tmp_path / "a.zarr", existing=str(file))
    assert again.attributes["nuclei"] == result.attributes["nuclei"]
    assert any("1 annotation left out" in one for one in again.attributes["warnings"])


def test_nuclei_beside_what_was_analysed_are_left_out_with_a_word(result, slide, tmp_path):
    values = {"existing": str(result.nuclei_table), "region": (0, 0, 400, 300)}
    again = segment(slide, tmp_path / "a.zarr", **values)
    n = again.attributes["nuclei"]["nucleus"]
    assert 0 < n == int((result.nuclei()["y_px"].to_numpy() < 300).sum())
    total = result.nuclei().num_rows
    assert any(f"{total - n} of {total} given" in one for one in again.attributes["warnings"])


def test_the_nuclei_that_are_read_are_not_replaced(result, slide, tmp_path):
    mine = tmp_path / "a.geojson"
    mine.write_bytes(result.geojson.read_bytes())
    with pytest.raises(WsiError, match="--nuclei names"):
        segment(slide, tmp_path / "a.zarr", existing=str(mine))
    assert mine.read_bytes() == result.geojson.read_bytes()


def test_nuclei_to_measure_need_a_model_that_knows_nuclei(stub):
    with pytest.raises(UsageError, match="patho_sam"):
        plan_tiling(stub.spec, SegmentSettings(existing="a.geojson"))


def test_counts_of_drawn_regions(slide, tmp_path):
    def area(x, y, width, height, name):
        ring = [[x, y], [x + width, y], [x + width, y + height], [x, y + height], [x, y]]
        return {
            "type": "Feature",
            "geometry": {"type": "Polygon", "coordinates": [ring]},
            "properties": {"objectType": "annotation", "classification": {"name": name}},
        }

    drawn = [area(0, 0, 400, 500, "Tumor"), area(0, 500, 400, 700, "Stroma")]
    drawn.append(area(100, 100, 50, 50, "Ignore*"))
    mask = tmp_path / "drawn.geojson"
    mask.write_text(json.dumps({"type": "FeatureCollection", "features": drawn}))
    result = segment(slide, tmp_path / "a.zarr", tissue=str(mask), report=True)
    regions = result.attributes["nuclei_by_region"]
    table = result.nuclei().to_pandas()
    assert regions["Tumor"]["area_mm2"] == pytest.approx((400 * 500 - 50 * 50) * 0.25**2 * 1e-6)
    is_low = table["y_px"] > 500
    assert regions["Stroma"]["nuclei"]["nucleus"] == is_low.sum() > 20
    x, y = table["x_px"], table["y_px"]
    is_cut_out = x.between(100, 150) & y.between(100, 150)
    assert regions["Tumor"]["nuclei"]["nucleus"] == (~is_low & ~is_cut_out).sum()
    assert "Stroma" in result.report.read_text()


def test_report_shows_counts_and_fields(slide, tmp_path):
    result = segment(slide, tmp_path / "a.zarr", report=True)
    page = result.report.read_text()
    assert "per mm²" in page
    assert page.count('alt="A field with the outlines of its nuclei"') == 3


def test_slide_without_a_nucleus(tmp_path):
    blank = write_picture(tmp_path / "blank.tif", map_picture(300, 300, 0))
    result = segment(blank, tmp_path / "a.zarr", report=True)
    assert result.attributes["nuclei"] == {"nucleus": 0}
    assert result.nuclei().num_rows == 0
    assert result.polygons() == []
