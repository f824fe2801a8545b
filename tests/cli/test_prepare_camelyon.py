"""Slides with ASAP's outlines to patches in their context, with the command line between."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import shapely

from wsi_sampath.cli import prepare
from wsi_sampath.data.patches import open_patches
from wsi_sampath.slides.slide import Slide

TUMOR, GAP = shapely.box(800, 500, 1500, 1100), shapely.box(1000, 700, 1200, 900)


def outlined(path, *areas):
    def one(group, shape):
        places = "".join(
            f'<Coordinate Order="{n}" X="{x}" Y="{y}"/>'
            for n, (x, y) in enumerate(shape.exterior.coords)
        )
        return (
            f'<Annotation Type="Polygon" PartOfGroup="{group}">'
            f"<Coordinates>{places}</Coordinates></Annotation>"
        )

    annotations = "".join(one(*area) for area in areas)
    path.write_text(
        f"<ASAP_Annotations><Annotations>{annotations}</Annotations></ASAP_Annotations>"
    )


@pytest.fixture
def release(painted, tmp_path):
    """Two slides of one patient of CAMELYON17, one of CAMELYON16, and a normal one."""
    slides, xml = tmp_path / "slides", tmp_path / "xml"
    slides.mkdir()
    xml.mkdir()
    for name in ("patient_004_node_1", "patient_004_node_4", "tumor_001", "normal_001"):
        shutil.copy(painted.path, slides / f"{name}.svs")
    for name in ("patient_004_node_1", "patient_004_node_4"):
        outlined(xml / f"{name}.xml", ("metastases", TUMOR), ("normal", GAP))
    outlined(xml / "tumor_001.xml", ("_0", TUMOR), ("_2", GAP))
    return slides, xml


def test_patches_show_tumours_in_their_context(command, release, tmp_path):
    run = command(prepare.main, "wsi-prepare", "camelyon")
    slides, xml = release
    out = tmp_path / "out"
    words = (slides, "--xml", xml, "--out", out, "--tile", 128, "--test-cases", "tumor")
    code, said, told = run(*words)
    assert code == 0, told
    assert "without annotations, left out: normal_001.svs" in told
    assert "classes: tumor" in said
    found = open_patches(out)
    assert {(one.case, one.split) for one in found.patches} == {
        ("patient_004", "train"),
        ("tumor_001", "test"),
    }
    areas = []
    with Slide.open(slides / "tumor_001.svs") as slide:
        for patch in found.split("test"):
            image, mask = found.read(patch)
            wide, around = found.read_context(patch)
            y0, x0 = map(int, patch.img_id.rsplit("_", 2)[1:])
            read = slide.read(x0=x0, y0=y0, width=128, height=128, mpp=1.0)
            assert np.array_equal(image, read)
            # At twice the um per pixel, around the same centre.
            read = slide.read(x0=x0 - 128, y0=y0 - 128, width=256, height=256, mpp=1.0)
            mean = read.reshape(128, 2, 128, 2, 3).mean(axis=(1, 3))
            assert np.abs(wide - mean).max() <= 0.5
            assert abs(int(around[32:96, 32:96].sum()) * 4 - int(mask.sum())) <= 4 * 128
            areas.append(int(mask.sum()))
    # Pixels of 1 um are two of the slide's, so that an area is a quarter of its pixels.
    assert sum(areas) == (TUMOR.area - GAP.area) / 4


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda slides, xml: (slides / "tumor_001.svs").unlink(), "no slide for tumor_001.xml"),
        (lambda slides, xml: outlined(xml / "tumor_001.xml", ("B", TUMOR)), "has annotations B"),
        (lambda slides, xml: [one.unlink() for one in xml.iterdir()], "no annotations of ASAP"),
        (lambda slides, xml: shutil.rmtree(xml), "there is no such folder"),
    ],
)
def test_what_cannot_be_paired_is_one_line(command, release, tmp_path, change, said):
    run = command(prepare.main, "wsi-prepare", "camelyon")
    slides, xml = release
    change(slides, xml)
    code, _, told = run(slides, "--xml", xml, "--out", tmp_path / "out", "--tile", 128)
    assert code == 2
    assert said in told.strip().splitlines()[-1]


def test_a_side_that_context_does_not_fit_is_refused(command, release, tmp_path):
    run = command(prepare.main, "wsi-prepare", "camelyon")
    slides, xml = release
    code, _, told = run(slides, "--xml", xml, "--out", tmp_path / "out", "--tile", 130)
    assert (code, "multiple of 4" in told) == (2, True)
