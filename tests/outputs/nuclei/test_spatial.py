"""Nuclei as SpatialData, where that is installed."""

import re
import sys

import numpy as np
import pytest
import shapely
from random_nuclei import CLASSES, random_patches

from wsi_sampath.errors import WsiError
from wsi_sampath.extras import install_hint
from wsi_sampath.outputs.nuclei.columns import TableInfo
from wsi_sampath.outputs.nuclei.found import NucleusSpec, found_nuclei, none_found
from wsi_sampath.outputs.nuclei.parquet import NucleusTableWriter
from wsi_sampath.outputs.nuclei.placed import place
from wsi_sampath.outputs.nuclei.spatial import to_spatialdata
from wsi_sampath.outputs.qupath.slide_shapes import PlaneToSlide

INFO = TableInfo("0123456789abcdef", "s.svs", (0.25, 0.5), CLASSES)


def test_without_spatialdata_one_line_tells_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "spatialdata", None)
    with pytest.raises(ImportError, match=re.escape(install_hint("spatial"))):
        to_spatialdata(tmp_path / "a.nuclei.parquet")


def write(path, found):
    placed = place(found, PlaneToSlide(1, 1, 0, 0, 0.25, 0.5))
    with NucleusTableWriter(path, info=INFO) as writer:
        writer.write(placed)
    return placed


def test_shapes_and_table_belong_together(tmp_path):
    spatialdata = pytest.importorskip("spatialdata")
    found = found_nuclei(random_patches(3), NucleusSpec(0.25, 0.5, 3))
    placed = write(tmp_path / "a.nuclei.parquet", found)
    data = to_spatialdata(tmp_path / "a.nuclei.parquet")
    shapes, table = data["nuclei"], data["table"]
    assert shapes.index.tolist() == table.obs["id"].tolist() == found.id.tolist()
    assert shapely.equals_exact(shapes.geometry.to_numpy(), placed.shapes).all()
    assert table.obs["class"].cat.categories.tolist() == [one.name for one in CLASSES]
    np.testing.assert_allclose(table.to_df()["area_um2"], found.area_um2, rtol=1e-6)
    in_um = spatialdata.transform(shapes, to_coordinate_system="um")
    expected = shapely.total_bounds(placed.shapes) * [0.25, 0.5, 0.25, 0.5]
    np.testing.assert_allclose(in_um.total_bounds, expected)


def test_no_nuclei_are_refused(tmp_path):
    pytest.importorskip("spatialdata")
    write(tmp_path / "a.nuclei.parquet", none_found())
    with pytest.raises(WsiError, match="bad-input: has no nuclei"):
        to_spatialdata(tmp_path / "a.nuclei.parquet")
