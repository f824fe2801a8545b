"""The table of nuclei: GeoParquet, the same bytes after a kill, and one line where it is torn."""

import contextlib
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import shapely
from random_nuclei import CLASSES, random_patches

from wsi_sampath.errors import WsiError
from wsi_sampath.outputs.growing import is_intact
from wsi_sampath.outputs.nuclei import parquet
from wsi_sampath.outputs.nuclei.columns import MEASURED, TableInfo
from wsi_sampath.outputs.nuclei.found import NucleusSpec, found_nuclei, none_found
from wsi_sampath.outputs.nuclei.parquet import NucleusTableWriter
from wsi_sampath.outputs.nuclei.placed import PlacedNuclei, place
from wsi_sampath.outputs.nuclei.reading import open_nuclei, read_nuclei
from wsi_sampath.outputs.qupath.slide_shapes import PlaneToSlide

INFO = TableInfo("0123456789abcdef", "slide µ.svs", (0.25, 0.5), CLASSES, (100.0, 200.0))
TRANSFORM = PlaneToSlide(2, 2, 10, 20, 0.25, 0.5)
NAME = "a.nuclei.parquet"


@pytest.fixture(scope="module")
def placed():
    return place(found_nuclei(random_patches(3, most=9), NucleusSpec(0.5, 1.0, 3)), TRANSFORM)


@pytest.fixture(autouse=True)
def small_row_groups(monkeypatch):
    monkeypatch.setattr(parquet, "ROW_GROUP", 5)


def some(placed, start, stop):
    found = placed.found.take(np.arange(start, stop))
    return PlacedNuclei(found, placed.centers_px[start:stop], placed.shapes[start:stop])


def write(path, *several, **options):
    with NucleusTableWriter(path, info=INFO, **options) as writer:
        for one in several:
            writer.write(one)
    return path


def test_a_table_holds_what_was_found(tmp_path, placed):
    table = read_nuclei(write(tmp_path / NAME, placed))
    found = placed.found
    assert table["id"].to_pylist() == found.id.tolist()
    assert table["class"].to_pylist() == [CLASSES[label - 1].name for label in found.label]
    x, y = placed.centers_px.T
    expected = {"x_px": x, "y_px": y, "x_um": x * 0.25, "y_um": y * 0.5}
    for name in MEASURED:
        column = expected.get(name, getattr(found, name, None))
        np.testing.assert_array_equal(table[name], column.astype(np.float32))
    shapes = shapely.from_wkb(table["geometry"].to_numpy())
    assert shapely.equals_exact(shapes, placed.shapes).all()
    box = [table["bbox"].combine_chunks().field(n).to_numpy() for n in range(4)]
    np.testing.assert_array_equal(np.stack(box, axis=1), shapely.bounds(shapes))
    assert list(tmp_path.iterdir()) == [tmp_path / NAME]


def test_the_file_says_what_it_is(tmp_path, placed):
    file = pq.ParquetFile(write(tmp_path / NAME, placed))
    geo, ours = (json.loads(file.schema_arrow.metadata[key]) for key in (b"geo", b"wsi_sampath"))
    assert (geo["version"], geo["primary_column"]) == ("1.1.0", "geometry")
    column = geo["columns"]["geometry"]
    assert column["encoding"] == "WKB"
    assert column["crs"] is None
    assert column["covering"]["bbox"]["xmax"] == ["bbox", "xmax"]
    assert column["bbox"] == shapely.total_bounds(placed.shapes).tolist()
    assert {one.geom_type for one in placed.shapes} <= set(column["geometry_types"])
    assert (ours["run"], ours["slide"], ours["mpp"]) == (INFO.run, INFO.slide, [0.25, 0.5])
    assert ours["classes"][1] == {"name": "Connective µ", "color": "#96c896"}
    sizes = [file.metadata.row_group(n).num_rows for n in range(file.num_row_groups)]
    assert sizes == [5] * (len(placed) // 5) + [len(placed) % 5]
    opened = open_nuclei(tmp_path / NAME, run=INFO.run)
    assert (opened.info, opened.rows) == (INFO, len(placed))


def test_how_nuclei_come_does_not_matter(tmp_path, placed):
    whole = write(tmp_path / NAME, placed)
    cuts = [0, 1, 2, 9, 9, len(placed)]
    pieces = [some(placed, a, b) for a, b in zip(cuts, cuts[1:], strict=False)]
    assert write(tmp_path / "b.parquet", *pieces).read_bytes() == whole.read_bytes()


def test_nothing_found_is_a_table_as_well(tmp_path):
    table = read_nuclei(write(tmp_path / NAME, place(none_found(), TRANSFORM)))
    assert len(table) == 0
    assert "bbox" not in json.loads(table.schema.metadata[b"geo"])["columns"]["geometry"]


@pytest.mark.parametrize("kept", [0, 3, 12])
def test_a_killed_table_goes_on_with_the_same_bytes(tmp_path, placed, kept):
    whole = write(tmp_path / "whole.parquet", placed)
    growing = tmp_path / "nuclei.partial"
    with contextlib.suppress(KeyboardInterrupt):
        interrupted(tmp_path / NAME, placed, kept, states := [], growing)
    state = json.loads(json.dumps(states[0]))
    with growing.open("ab") as file:
        file.write(b"half a batch")
    assert is_intact(growing, state)
    assert not (tmp_path / NAME).exists()
    write(tmp_path / NAME, some(placed, kept, len(placed)), growing=growing, resume=state)
    assert (tmp_path / NAME).read_bytes() == whole.read_bytes()
    # killed once more before the run was complete
    write(tmp_path / NAME, some(placed, kept, len(placed)), growing=growing, resume=state)
    assert (tmp_path / NAME).read_bytes() == whole.read_bytes()


def interrupted(path, placed, kept, states, growing):
    with NucleusTableWriter(path, info=INFO, growing=growing) as writer:
        writer.write(some(placed, 0, kept))
        states.append(writer.state())
        writer.write(some(placed, kept, len(placed)))
        raise KeyboardInterrupt


def test_what_grew_is_known_to_be_damaged(tmp_path, placed):
    growing = tmp_path / "nuclei.partial"
    with contextlib.suppress(KeyboardInterrupt):
        interrupted(tmp_path / NAME, placed, 8, states := [], growing)
    content = bytearray(growing.read_bytes())
    content[states[0]["bytes"] // 2] ^= 1
    growing.write_bytes(content)
    assert not is_intact(growing, states[0])


def test_a_full_disk_is_named(tmp_path, placed, monkeypatch):
    def refuse(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", refuse)
    with pytest.raises(WsiError, match="disk-full: .*the table of nuclei"):
        write(tmp_path / NAME, placed)
    assert not (tmp_path / NAME).exists()


def test_a_label_without_a_class_is_refused(tmp_path, placed):
    placed.found.label[1:2], before = 4, placed.found.label[1]
    with pytest.raises(WsiError, match="label 4 has no class among the 3"):
        write(tmp_path / NAME, placed)
    placed.found.label[1] = before


@pytest.mark.parametrize(
    "box", [(0, 0, 1, 1), (60, 60, 90, 200), (150.5, 0, 0, 400), (0, 0, 1e9, 1e9)]
)
def test_a_box_reads_what_touches_it_and_no_more(tmp_path, placed, box, monkeypatch):
    path = write(tmp_path / NAME, placed)
    x, y, width, height = box
    left, top, right, bottom = shapely.bounds(placed.shapes).T
    inside = (left <= x + width) & (right >= x) & (top <= y + height) & (bottom >= y)
    read = []
    plain = pq.ParquetFile.read_row_groups
    monkeypatch.setattr(
        pq.ParquetFile,
        "read_row_groups",
        lambda file, groups: (read.extend(groups), plain(file, groups))[1],
    )
    assert read_nuclei(path, box)["id"].to_pylist() == placed.found.id[inside].tolist()
    starts = np.arange(0, len(placed), 5)
    ends = [min(start + 5, len(placed)) for start in starts]
    united = [shapely.total_bounds(placed.shapes[a:b]) for a, b in zip(starts, ends, strict=True)]
    expected = [
        n
        for n, (x0, y0, x1, y1) in enumerate(united)
        if x0 <= x + width and x1 >= x and y0 <= y + height and y1 >= y
    ]
    assert read == expected


@pytest.mark.parametrize("left", [0, 3, 400, -9, -1])
def test_a_torn_table_is_one_line(tmp_path, placed, left):
    path = write(tmp_path / NAME, placed)
    path.write_bytes(path.read_bytes()[:left])
    with pytest.raises(WsiError) as caught:
        read_nuclei(path)
    assert caught.value.reason == "unreadable"
    assert "run wsi-segment again" in caught.value.line()


def test_a_damaged_page_is_one_line(tmp_path, placed):
    path = write(tmp_path / NAME, placed)
    column = pq.ParquetFile(path).metadata.row_group(0).column(1)
    content = bytearray(path.read_bytes())
    content[column.data_page_offset + column.total_compressed_size - 1] ^= 1
    path.write_bytes(content)
    with pytest.raises(WsiError, match="unreadable"):
        read_nuclei(path)


def test_other_files_are_refused(tmp_path, placed):
    with pytest.raises(WsiError, match="unreadable: there is no such file"):
        read_nuclei(tmp_path / NAME)
    path = write(tmp_path / NAME, placed)
    with pytest.raises(WsiError, match="bad-input: is of run 0123456789abcdef, not of beef"):
        read_nuclei(path, run="beef")
    table = pq.read_table(path)
    others = [
        pa.table({"id": [1]}),
        table.replace_schema_metadata(None),
        table.slice(1),
        table.drop_columns(["x_um"]),
    ]
    for other in others:
        pq.write_table(other, path)
        with pytest.raises(WsiError, match="unreadable: is not a table of nuclei"):
            read_nuclei(path)
