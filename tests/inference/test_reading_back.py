"""What a run writes beside the maps: the report, the polygons' place, and the way back."""

from __future__ import annotations

import numpy as np
import pytest
import zarr
from stub_network import make_stub

from wsi_sampath import open_result
from wsi_sampath.inference import reporting
from wsi_sampath.inference.durable.work import WorkFolder
from wsi_sampath.inference.segmenter import segment_slide
from wsi_sampath.inference.settings import SegmentSettings
from wsi_sampath.outputs.qupath import geojson
from wsi_sampath.outputs.qupath.rules import check_geojson
from wsi_sampath.progress import Silent

BASE = {"workers": 2, "device": "cpu", "region": (900, 700, 700, 600), "tissue": "none"}


def run(painted, out, progress=None, **values):
    settings = SegmentSettings.build({**BASE, **values})
    return segment_slide(painted.path, out, settings=settings, model=make_stub(), progress=progress)


class Listening(Silent):
    def __init__(self):
        self.heard = []

    def warn(self, message):
        self.heard.append(message)


def test_maps_polygons_and_areas_agree(painted, tmp_path):
    (tmp_path / "polygons").mkdir()
    made = run(painted, tmp_path / "a.zarr", geojson=str(tmp_path / "polygons" / "p.geojson.zip"))
    result = open_result(made.zarr)
    assert result.attributes == made.attributes
    assert result.attributes["geojson"] == "polygons/p.geojson.zip"
    assert result.geojson == made.geojson
    assert check_geojson(made.geojson) == []
    labels = result.labels().compute()
    assert np.array_equal(labels, zarr.open_group(made.zarr, mode="r")["labels/classes/0"][:])
    table = result.area_table().set_index("class")
    found = result.polygons()
    assert len(found) == made.attributes["polygons"]
    for one in result.classes:
        pixels = (labels == one.value).sum()
        assert table.loc[one.name, "area_mm2"] == pytest.approx(pixels * 4e-6)
        area = sum(p.polygon.area for p in found if p.class_name == one.name)
        assert area == pytest.approx(pixels * 16)
    cover = result.attributes["coverage"]
    assert cover["slide_mm2"] == pytest.approx(3000 * 2300 * 0.25e-6)
    assert cover["tissue_mm2"] == cover["slide_mm2"]
    assert cover["analysed_mm2"] == pytest.approx(table["area_mm2"].sum())
    assert result.attributes["model_card"]["architecture"] == "stub"


def test_a_report_is_written_and_names_its_files(painted, tmp_path):
    made = run(painted, tmp_path / "a.zarr")
    assert made.report == tmp_path / "a.html"
    text = made.report.read_text("utf-8")
    for words in ("painted.svs", 'href="a.zarr"', 'href="a.geojson"', "class 3", "900, 700, 700"):
        assert words in text, words
    assert text.count("data:image/jpeg") == 2


def test_no_report_where_none_is_wanted_and_one_later(painted, tmp_path):
    made = run(painted, tmp_path / "a.zarr", report=False)
    assert made.report is None
    assert not (tmp_path / "a.html").exists()
    again = run(painted, tmp_path / "a.zarr")
    assert again.reused
    assert again.report.exists()
    before = again.report.stat().st_mtime_ns
    assert run(painted, tmp_path / "a.zarr").report.stat().st_mtime_ns == before


def test_a_result_is_not_done_before_its_report(painted, tmp_path, monkeypatch):
    seen = []
    publish = WorkFolder.publish

    def look(self, target):
        seen.append((tmp_path / "a.html").exists())
        publish(self, target)

    monkeypatch.setattr(WorkFolder, "publish", look)
    run(painted, tmp_path / "a.zarr")
    assert seen == [True]


def test_a_slide_without_small_levels_is_not_read_again(painted, tmp_path, monkeypatch):
    monkeypatch.setattr(reporting, "_MOST_DECODED_PX", 1000)
    text = run(painted, tmp_path / "a.zarr").report.read_text("utf-8")
    assert text.count("data:image/jpeg") == 1
    assert "no small level" in text


def test_too_many_polygons_are_told_everywhere(painted, tmp_path, monkeypatch):
    monkeypatch.setattr(geojson, "MANY_FEATURES", 3)
    progress = Listening()
    made = run(painted, tmp_path / "a.zarr", progress)
    (warning,) = made.attributes["warnings"]
    assert warning.startswith(f"QuPath will be slow with {made.attributes['polygons']:,} polygons")
    assert progress.heard == [warning]
    assert "QuPath will be slow" in made.report.read_text("utf-8")
