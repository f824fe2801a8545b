"""ASAP's annotations, as those of CAMELYON."""

from __future__ import annotations

import pytest
import shapely

from wsi_sampath.errors import WsiError
from wsi_sampath.slides.grid import Box
from wsi_sampath.slides.regions.annotations import LabelPainter
from wsi_sampath.slides.regions.asap import read_asap
from wsi_sampath.slides.regions.rasterise import Placement

TUMOR, HOLE = shapely.box(10, 10, 50, 40), shapely.box(20, 15, 35, 30)
ISLAND = shapely.box(25, 20, 29, 24)


def one(shape, group, kind="Polygon", order=range):
    ring = list(shape.exterior.coords)[:-1]
    places = "".join(
        f'<Coordinate Order="{number}" X="{ring[number][0]}" Y="{ring[number][1]}" />'
        for number in order(len(ring))
    )
    return (
        f'<Annotation Name="a" Type="{kind}" PartOfGroup="{group}" Color="#F4FA58">'
        f"<Coordinates>{places}</Coordinates></Annotation>"
    )


def group(name, of="None", color="#00FF00"):
    return f'<Group Name="{name}" PartOfGroup="{of}" Color="{color}"><Attributes /></Group>'


def write(path, annotations, groups=()):
    path.write_text(
        f'<?xml version="1.0"?><ASAP_Annotations><Annotations>{"".join(annotations)}</Annotations>'
        f"<AnnotationGroups>{''.join(groups)}</AnnotationGroups></ASAP_Annotations>"
    )
    return path


def painted(found):
    painter = LabelPainter(found.painted(), {"Tumor": 1, "_0": 1}, Placement())
    return painter.paint(Box(0, 0, 60, 50))


@pytest.mark.parametrize(("tumor", "hole"), [("Tumor", "Exclusion"), ("_0", "_2")])
def test_exclusions_are_holes_and_what_is_in_them_stays(tmp_path, tumor, hole):
    areas = [one(TUMOR, tumor), one(HOLE, hole, "Spline"), one(ISLAND, tumor)]
    found = read_asap(write(tmp_path / "a.xml", areas, [group(tumor), group(hole)]))
    assert found.colors() == {tumor: "#00ff00"}
    wanted = painted(found)
    assert wanted.sum() == TUMOR.area - HOLE.area + ISLAND.area
    assert (wanted[12, 12], wanted[17, 22], wanted[22, 27]) == (1, 0, 1)


def test_an_exclusion_that_reaches_out_cuts_what_is_smaller(tmp_path):
    wide = shapely.box(30, 0, 100, 100)
    areas = [one(TUMOR, "Tumor"), one(wide, "exclusion")]
    found = read_asap(write(tmp_path / "a.xml", areas))
    assert painted(found).sum() == TUMOR.difference(wide).area


def test_groups_of_groups_mean_the_outermost_and_order_is_kept(tmp_path):
    groups = [group("lesion 1", "Tumor"), group("Tumor"), group("gap", "_2")]
    areas = [
        one(TUMOR, "lesion 1", order=lambda count: reversed(range(count))),
        one(HOLE, "gap"),
    ]
    found = read_asap(write(tmp_path / "a.xml", areas, groups))
    assert [area.name for area in found.areas] == ["Tumor", "Ignore*"]
    assert shapely.equals(found.areas[0].area, TUMOR)


def test_what_is_no_area_is_counted(tmp_path):
    areas = [
        one(TUMOR, "Tumor"),
        one(HOLE, "None"),
        one(HOLE, "Tumor", "PointSet"),
        one(HOLE, "Tumor").replace('X="35.0"', 'X="nan"'),
        one(HOLE, "Tumor").replace('Y="30.0"', 'Y="low"'),
    ]
    found = read_asap(write(tmp_path / "a.xml", areas))
    assert [area.name for area in found.areas] == ["Tumor"]
    (note,) = found.notes()
    assert "1 point, 1 area without a class, 2 objects with NaN" in note


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is not XML"),
        ("<ASAP_Annotations>", "is not XML"),
        ("<OME/>", "no annotations of ASAP"),
        ("<a><Annotations/></a>", "holds no annotation: it needs polygons in a group"),
        (f"<a><Annotations>{one(HOLE, '_2')}</Annotations></a>", "holds exclusions alone"),
    ],
)
def test_other_files_are_refused_in_a_line(tmp_path, text, said):
    path = tmp_path / "a.xml"
    path.write_text(text)
    with pytest.raises(WsiError, match=said) as caught:
        read_asap(path)
    assert (caught.value.reason, "\n" in caught.value.message) == ("bad-input", False)
    with pytest.raises(WsiError, match="cannot be read: No such file"):
        read_asap(tmp_path / "none.xml")
