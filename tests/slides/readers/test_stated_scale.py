"""Which of a file's statements about its scale counts, whichever reader opens it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st

from wsi_sampath.errors import WsiError
from wsi_sampath.slides.lengths import read_number, um_per_unit
from wsi_sampath.slides.mpp import Mpp, objective_doubts
from wsi_sampath.slides.readers.metadata import SlideMetadata
from wsi_sampath.slides.readers.stated_scale import stated_scale
from wsi_sampath.slides.slide import Slide
from wsi_sampath.synthetic.svs_writer import write_svs

SIZE = (256, 128)
PIXELS = np.random.default_rng(0).integers(60, 255, (128, 256, 3), np.uint8)
CM_HALF = {"resolution": (20000, 20000), "resolutionunit": "CENTIMETER"}


def ome(path: Path, *, tags: dict | None = None, **stated) -> Path:
    metadata = {"axes": "YXS", **stated}
    tifffile.imwrite(
        path, PIXELS, ome=True, tile=(64, 64), photometric="rgb", metadata=metadata, **(tags or {})
    )
    return path


def plain(path: Path, description: str = "", **tags) -> Path:
    tifffile.imwrite(
        path,
        PIXELS,
        tile=(64, 64),
        photometric="rgb",
        compression="jpeg",
        metadata=None,
        description=description,
        **tags,
    )
    return path


def scale_of(path: Path, **metadata):
    return stated_scale(path, "some reader", SlideMetadata((SIZE,), **{"mpp": None, **metadata}))


@pytest.mark.parametrize(
    ("value", "unit", "um"),
    [
        (0.5, "µm", 0.5),
        (0.5, "μm", 0.5),
        (0.0005, "mm", 0.5),
        (5e-5, "cm", 0.5),
        (5e-7, "m", 0.5),
        (500, "nm", 0.5),
        (5e5, "pm", 0.5),
        (5000, "Å", 0.5),
        (0.00002, "in", 0.508),
        (0.25, "micron", 0.25),
    ],
)
def test_ome_states_lengths_in_any_unit(tmp_path, value, unit, um):
    path = ome(
        tmp_path / "a.ome.tif",
        PhysicalSizeX=value,
        PhysicalSizeXUnit=unit,
        PhysicalSizeY=value,
        PhysicalSizeYUnit=unit,
    )
    found = scale_of(path)
    assert found.mpp == pytest.approx((um, um))
    assert found.stated_by == "OME-XML"
    assert found.warnings == ()


@pytest.mark.parametrize("unit", ["pixel", "reference frame", "furlong"])
def test_what_is_not_a_length_is_not_a_statement(tmp_path, unit):
    stated = {"PhysicalSizeX": 1, "PhysicalSizeXUnit": unit}
    found = scale_of(ome(tmp_path / "a.ome.tif", **stated))
    assert found.mpp is None
    assert unit in found.hint
    with_tags = scale_of(ome(tmp_path / "b.ome.tif", tags=CM_HALF, **stated))
    assert with_tags.mpp == (0.5, 0.5)
    assert with_tags.stated_by == "TIFF resolution tags"


def test_ome_beats_tags_and_the_contradiction_is_said_once(tmp_path):
    path = ome(tmp_path / "a.ome.tif", tags=CM_HALF, PhysicalSizeX=0.25, PhysicalSizeY=0.25)
    with Slide.open(path) as slide:
        assert (slide.mpp.x, slide.mpp.y) == (0.25, 0.25)
        assert slide.mpp.stated_by == "OME-XML"
        said = [warning for warning in slide.warnings if "contradicts" in warning]
    assert len(said) == 1
    for part in ("OME-XML", "0.25", "TIFF resolution tags", "0.5", "taken"):
        assert part in said[0]


def test_agreement_within_one_percent_is_not_worth_a_word(tmp_path):
    path = ome(tmp_path / "a.ome.tif", tags=CM_HALF, PhysicalSizeX=0.5049, PhysicalSizeY=0.4951)
    with Slide.open(path) as slide:
        assert slide.warnings == ()
        assert (slide.mpp.x, slide.mpp.y) == (0.5049, 0.4951)


@pytest.mark.parametrize("reader", ["tiff", "openslide", "tiffslide"])
def test_no_reader_loses_what_ome_states(tmp_path, reader):
    options = {"tile": (64, 64), "photometric": "rgb", "compression": "jpeg"}
    stated = {"PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5}
    path = tmp_path / "a.ome.tif"
    with tifffile.TiffWriter(path) as tiff:
        tiff.write(PIXELS, subifds=1, metadata={"axes": "YXS", **stated}, **options)
        tiff.write(PIXELS[::2, ::2], subfiletype=1, **options)
    with Slide.open(path, reader=reader) as slide:
        assert (slide.mpp.x, slide.mpp.y, slide.mpp.stated_by) == (0.5, 0.5, "OME-XML")


def test_of_several_images_the_one_of_level_0s_size_counts(tmp_path):
    path = tmp_path / "a.ome.tif"
    with tifffile.TiffWriter(path) as tiff:
        label = {"axes": "YXS", "Name": "label", "PhysicalSizeX": 10, "PhysicalSizeY": 10}
        scan = {"axes": "YXS", "Name": "scan", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5}
        tiff.write(PIXELS[:64, :64], photometric="rgb", metadata=label)
        tiff.write(PIXELS, photometric="rgb", tile=(64, 64), metadata=scan, **CM_HALF)
    assert scale_of(path).mpp == (0.5, 0.5)


def test_ome_of_another_size_is_said_and_not_taken(tmp_path):
    path = ome(tmp_path / "a.ome.tif", tags=CM_HALF, PhysicalSizeX=0.25, PhysicalSizeY=0.25)
    note = tifffile.TiffFile(path).ome_metadata.replace('SizeX="256"', 'SizeX="512"')
    tifffile.tiffcomment(path, note.encode())
    found = scale_of(path)
    assert found.mpp == (0.5, 0.5)
    assert "512 x 128" in " ".join(found.warnings)


def test_damaged_ome_is_said_where_tags_take_over(tmp_path):
    path = ome(tmp_path / "a.ome.tif", tags=CM_HALF, PhysicalSizeX=0.25, PhysicalSizeY=0.25)
    note = tifffile.TiffFile(path).ome_metadata.replace("</Pixels>", "<Pixels>")
    tifffile.tiffcomment(path, note.encode())
    found = scale_of(path)
    assert found.mpp == (0.5, 0.5)
    assert "damaged" in " ".join(found.warnings)


def test_axes_are_kept_apart_and_a_lone_one_is_taken_for_both(tmp_path):
    apart = scale_of(ome(tmp_path / "a.ome.tif", PhysicalSizeX=0.25, PhysicalSizeY=0.5))
    assert (apart.mpp, apart.warnings) == ((0.25, 0.5), ())
    lone = scale_of(ome(tmp_path / "b.ome.tif", PhysicalSizeX=0.25))
    assert lone.mpp == (0.25, 0.25)
    assert "along x alone" in lone.warnings[0]


@pytest.mark.parametrize(
    ("tags", "mpp"),
    [
        ({"resolution": (25400, 25400), "resolutionunit": "INCH"}, (1.0, 1.0)),
        ({"resolution": (40000, 20000), "resolutionunit": "CENTIMETER"}, (0.25, 0.5)),
        ({"resolution": (72, 72), "resolutionunit": "INCH"}, None),
        ({"resolution": (96, 96), "resolutionunit": "INCH"}, None),
        ({"resolution": (300, 300), "resolutionunit": "INCH"}, None),
        ({"resolution": (1, 1), "resolutionunit": "INCH"}, None),
        ({"resolution": (1, 1), "resolutionunit": "CENTIMETER"}, None),
        ({"resolution": (20000, 20000), "resolutionunit": "NONE"}, None),
    ],
)
def test_tags_count_where_they_can_be_a_measurement(tmp_path, tags, mpp):
    found = scale_of(plain(tmp_path / "a.tif", **tags))
    assert found.mpp == (None if mpp is None else pytest.approx(mpp))
    assert found.warnings == ()


@pytest.mark.parametrize("reader", ["tiff", "openslide", "tiffslide"])
def test_72_dpi_is_no_mpp_and_says_why(tmp_path, reader):
    path = plain(tmp_path / "a.tif", resolution=(72, 72), resolutionunit="INCH")
    with pytest.raises(WsiError, match="72 dpi") as caught:
        Slide.open(path, reader=reader)
    assert caught.value.reason == "no-mpp"
    for word in ("--slide-mpp", "20x", "0.5", "40x", "0.25", "QuPath"):
        assert word in caught.value.message


IMAGEJ = "ImageJ=1.54f\nunit={}\n"
PHILIPS = (
    '<?xml version="1.0"?><DataObject ObjectType="DPUfsImport"><Attribute '
    'Name="DICOM_PIXEL_SPACING" Group="0x0028" PMSVR="IDoubleArray">&quot;0.0005&quot; '
    '&quot;0.00025&quot;</Attribute><Attribute Name="DICOM_PIXEL_SPACING" '
    'PMSVR="IDoubleArray">"0.001" "0.0005"</Attribute></DataObject>'
)
LEICA = (
    '<scn xmlns="http://www.leica-microsystems.com/scn/2010/10/01"><collection><image>'
    '<pixels sizeX="256" sizeY="128"/><view sizeX="64000" sizeY="64000"/><scanSettings>'
    "<objectiveSettings><objective>20</objective></objectiveSettings></scanSettings>"
    "</image></collection></scn>"
)


@pytest.mark.parametrize(
    ("description", "tags", "mpp", "source"),
    [
        ("Aperio Image\n256x128|AppMag = 20|MPP = 0.4990", {}, (0.499, 0.499), "Aperio"),
        ("Aperio Image\n256x128|AppMag = 40|MPP = 0,25", {}, (0.25, 0.25), "Aperio"),
        (IMAGEJ.format("micron"), {"resolution": (4, 2), "resolutionunit": 1}, (0.25, 0.5), "Imag"),
        (IMAGEJ.format("\\u00B5m"), {"resolution": (2, 2), "resolutionunit": 1}, (0.5, 0.5), "Ima"),
        (IMAGEJ.format("nm"), {"resolution": (0.004, 0.004)}, (0.25, 0.25), "ImageJ"),
        (IMAGEJ.format("pixel"), {"resolution": (2, 2)}, None, ""),
        (PHILIPS, {}, (0.25, 0.5), "Philips"),
        (LEICA, {}, (0.25, 0.5), "Leica"),
        ("scanned; mpp=0.25; stain=HE", {}, (0.25, 0.25), "TIFF description"),
        ("microns per pixel: 0.5", {}, (0.5, 0.5), "TIFF description"),
        ("Pixel size = 250 nm", {}, (0.25, 0.25), "TIFF description"),
        ('{"shape": [128, 256, 3], "mpp": 0.5}', {}, (0.5, 0.5), "TIFF description"),
        ('{"PhysicalSizeX": 0.00025, "PhysicalSizeXUnit": "mm"}', {}, (0.25, 0.25), "TIFF desc"),
        ("the tempp=3 of the room", {}, None, ""),
    ],
)
def test_descriptions_of_scanners_and_programs(tmp_path, description, tags, mpp, source):
    tags = {"resolutionunit": 1, **tags} if "resolution" in tags else tags
    found = scale_of(plain(tmp_path / "a.tif", description, **tags))
    assert found.mpp == (None if mpp is None else pytest.approx(mpp))
    assert found.stated_by.startswith(source)


def test_a_vendors_metadata_beat_descriptions_and_tags_but_not_ome(tmp_path):
    tagged = plain(tmp_path / "a.tif", resolution=(20000, 20000), resolutionunit="CENTIMETER")
    found = scale_of(tagged, mpp=(0.25, 0.25), vendor="hamamatsu")
    assert (found.mpp, found.stated_by) == ((0.25, 0.25), "hamamatsu metadata")
    assert "TIFF resolution tags 0.5 um" in found.warnings[0]
    with_ome = ome(tmp_path / "b.ome.tif", PhysicalSizeX=0.3, PhysicalSizeY=0.3)
    assert scale_of(with_ome, mpp=(0.25, 0.25), vendor="hamamatsu").stated_by == "OME-XML"


def test_a_file_that_is_not_a_tiff_is_left_to_its_reader(tmp_path):
    (tmp_path / "a.dcm").write_bytes(b"\0" * 300)
    found = scale_of(tmp_path / "a.dcm", mpp=(0.5, 0.25), vendor="dicom")
    assert (found.mpp, found.stated_by) == ((0.5, 0.25), "dicom metadata")


def test_a_resized_copy_with_the_old_description_is_doubted(tmp_path):
    path = plain(tmp_path / "a.svs", "Aperio Image\n1024x512 [0,0 1024x512]|MPP = 0.25")
    assert "resized" in scale_of(path).warnings[0]
    cut = "Aperio Image\n46000x32914 [42673,5576 256x128] (240x240);Aperio\n|MPP = 0.25"
    assert scale_of(plain(tmp_path / "b.svs", cut)).warnings == ()


def test_a_flag_ends_the_files_contradiction_and_says_what_it_overrides(tmp_path):
    path = ome(tmp_path / "a.ome.tif", tags=CM_HALF, PhysicalSizeX=0.25, PhysicalSizeY=0.25)
    with Slide.open(path, slide_mpp=0.3) as slide:
        assert len(slide.warnings) == 1
        assert "OME-XML" in slide.warnings[0]


@pytest.mark.parametrize(
    ("objective", "um", "doubted"),
    [
        *((20, um, False) for um in (0.4, 0.4990, 0.5, 0.55, 0.2425, 0.2325, 0.345)),
        *((40, um, False) for um in (0.2325, 0.2532, 0.25, 0.22, 0.1625, 0.12)),
        *((10, um, False) for um in (1.0, 0.65, 0.5)),
        *((40, um, True) for um in (1.0, 0.5, 4.0, 0.02)),
        *((20, um, True) for um in (1.0, 0.1, 10.0)),
        *((power, 0.25, False) for power in (None, 0.0, -1.0, 1e9)),
    ],
)
def test_objective_and_pixel_size_are_held_against_each_other(objective, um, doubted):
    assert bool(objective_doubts(Mpp(um, um, "metadata"), objective)) == doubted


@pytest.mark.parametrize("reader", ["tiff", "openslide"])
def test_an_implausible_pair_is_warned_on_the_slide(tmp_path, reader):
    path = tmp_path / "a.svs"
    write_svs(path, [PIXELS], width=256, height=128, mpp=1.0, app_mag=40, levels=(1,))
    with Slide.open(path, reader=reader) as slide:
        assert "40x objective and 1 um" in " ".join(slide.warnings)


@given(st.floats(1e-3, 1e6))
def test_numbers_read_with_point_and_comma_alike(value):
    text = f"{value:.6f}"
    assert read_number(text) == read_number(text.replace(".", ",")) == pytest.approx(value)


@given(st.text(max_size=12))
def test_any_text_is_a_finite_number_or_none(text):
    number = read_number(text)
    assert number is None or np.isfinite(number)
    unit = um_per_unit(text)
    assert unit is None or unit > 0


@pytest.mark.parametrize("unit", ["\u00c2\u00b5m", "\u00ce\u00bcm", "?m", "\ufffdm"])
def test_a_micro_sign_that_was_mangled_is_still_one(unit):
    assert um_per_unit(unit) == 1.0


def test_a_unit_that_is_not_known_is_not_replaced_by_the_tags_unsaid(tmp_path):
    path = ome(tmp_path / "a.ome.tif", tags=CM_HALF, PhysicalSizeX=250, PhysicalSizeXUnit="smoot")
    found = scale_of(path)
    assert found.mpp == pytest.approx((0.5, 0.5))
    assert any("'smoot'" in one and "taken: 0.5 um" in one for one in found.warnings)


def test_an_ome_image_without_calibration_leaves_the_tags_alone(tmp_path):
    path = ome(tmp_path / "a.ome.tif", tags=CM_HALF, PhysicalSizeX=1, PhysicalSizeXUnit="pixel")
    assert scale_of(path).warnings == ()
