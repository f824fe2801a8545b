"""Which page is level 0, which are its lower levels, and what is said of the rest."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import tifffile
from layouts import (
    MPP,
    SIZE,
    TILED,
    label,
    macro,
    scene,
    smaller,
    write_ome,
    write_pages,
)

from wsi_sampath.errors import WsiError
from wsi_sampath.slides.slide import Slide

APERIO = "Aperio Image Library v11.2.1\r\n{}|AppMag = 20|MPP = 0.5"
STRIPS = {"tile": None}
REDUCED = {"subfiletype": 1}


@dataclass(frozen=True)
class Layout:
    """A file, how many lower levels it has, and a word of every warning."""

    write: Callable[[Path], Path]
    levels: tuple[int, ...] = (1,)
    said: tuple[str, ...] = ()


def pages(*what, name: str = "a.tif") -> Callable[[Path], Path]:
    return lambda folder: write_pages(folder / name, *what)


def ome(*what, **metadata) -> Callable[[Path], Path]:
    return lambda folder: write_ome(folder / "a.ome.tif", *what, **metadata)


def level(factor: int, **options):
    return smaller(scene(), factor), options


def aperio(text: str, image: np.ndarray, **options):
    return image, {"description": APERIO.format(text), **options}


def aperio_other(word: str, image: np.ndarray, **options):
    size = f"{image.shape[1]}x{image.shape[0]}"
    text = f"Aperio Image Library v11.2.1\r\n{word} {size}"
    return image, {"tile": None, "description": text, **options}


def outside_the_xml(folder: Path) -> Path:
    """Write an OME-TIFF whose metadata know only its label."""
    path = folder / "a.ome.tif"
    with tifffile.TiffWriter(path, ome=False) as tiff:
        pixels = (
            '<Pixels ID="Pixels:0" DimensionOrder="XYCZT" Type="uint8" SizeX="300" SizeY="260" '
            'SizeC="3" SizeZ="1" SizeT="1"><Channel ID="Channel:0" SamplesPerPixel="3"/>'
            '<TiffData IFD="0" PlaneCount="1"/></Pixels>'
        )
        schema = "http://www.openmicroscopy.org/Schemas/OME/2016-06"
        xml = f'<OME xmlns="{schema}"><Image ID="Image:0" Name="label">{pixels}</Image></OME>'
        tiff.write(label(), description=xml, metadata=None, **TILED, **MPP)
        tiff.write(scene(), metadata=None, **TILED, **MPP)
    return path


SAME_SHAPE = macro(512, 384)
LAYOUTS = {
    "pyramid": Layout(pages(level(1), level(2, **REDUCED), level(4, **REDUCED)), (1, 2, 4)),
    "no flags": Layout(pages(level(1), level(2), level(4)), (1, 2, 4)),
    "smallest first": Layout(pages(level(4), level(2), level(1)), (1, 2, 4)),
    "thumbnail first": Layout(pages(level(8, **REDUCED), level(1), level(4, **REDUCED)), (1, 4, 8)),
    "all flagged reduced": Layout(pages(level(4, **REDUCED), level(1, **REDUCED)), (1, 4)),
    "nothing tiled": Layout(pages(level(1, **STRIPS), level(4, **STRIPS)), (1, 4)),
    "tiled thumbnail, scan in strips": Layout(pages(level(8), level(1, **STRIPS)), (1, 8)),
    "untiled label first": Layout(pages((label(), STRIPS), level(1), level(2)), (1, 2)),
    "named label first": Layout(pages((label(), {"description": "label"}), level(1))),
    "unnamed label first": Layout(pages((label(), {}), level(1)), said=("image 0",)),
    "label larger than the scan": Layout(
        pages((label(1400, 1300), {"description": "Label image"}), level(1))
    ),
    "macro in strips, larger than the scan": Layout(pages((macro(1800, 600), STRIPS), level(1))),
    "macro with a coarser resolution": Layout(
        pages(
            (macro(2000, 660), {"resolution": (1200, 1200), "resolutionunit": "CENTIMETER"}),
            level(1),
        ),
        said=("image 0",),
    ),
    "macro of the same shape": Layout(
        pages(level(1), (SAME_SHAPE, REDUCED), level(4)), (1, 4), said=("another picture",)
    ),
    "label of the same shape, last": Layout(
        pages(level(1), level(2), (label(256, 192), {})), (1, 2), said=("another picture",)
    ),
    "other tissue of the same shape": Layout(
        pages(level(1), (smaller(scene(seed=3), 4), REDUCED)), said=("another picture",)
    ),
    "the same tissue mirrored": Layout(
        pages(level(1), (smaller(scene(), 4)[:, ::-1].copy(), REDUCED)),
        said=("another picture",),
    ),
    "levels by leaving out pixels": Layout(
        pages(level(1), (scene()[::4, ::4].copy(), {}), (scene()[::16, ::16].copy(), {})),
        (1, 4, 16),
    ),
    "a transparency mask": Layout(
        pages(
            level(1),
            (
                np.ones((768, 1024), bool),
                {"subfiletype": 4, "photometric": "minisblack"},
            ),
            level(2),
        ),
        (1, 2),
    ),
    "no resolution on the scan": Layout(
        pages((label(), {}), level(1, resolution=(1, 1), resolutionunit="NONE")),
        said=("image 0",),
    ),
    "two scans": Layout(
        pages((scene(700, 500, 1), {}), level(1), level(2)), (1, 2), said=("image 0",)
    ),
    "aperio": Layout(
        pages(
            aperio("1024x768 [0,0 1024x768] (128x128) Label = macro", scene()),
            aperio("1024x768 -> 256x192 -", smaller(scene(), 4), tile=None),
            aperio("1024x768 -> 512x384", smaller(scene(), 2)),
            aperio_other("label", label(), **REDUCED),
            aperio_other("macro", macro(), subfiletype=9),
            name="a.svs",
        ),
        (1, 2),
    ),
    "aperio, macro first": Layout(
        pages(
            aperio_other("macro", macro(1400, 600), subfiletype=9),
            aperio_other("label", label(), tile=(128, 128)),
            aperio("1024x768 (128x128)", scene()),
            name="a.svs",
        )
    ),
    "ome": Layout(ome(("scan", scene(), [smaller(scene(), 4)])), (1, 4)),
    "ome, label first": Layout(
        ome(("label", label(), []), ("scan", scene(), [smaller(scene(), 4)])), (1, 4)
    ),
    "ome, label with a pyramid first": Layout(
        ome(("label image", label(512, 384), [smaller(label(512, 384), 2)]), ("", scene(), []))
    ),
    "ome, larger macro": Layout(ome(("macro image", macro(1600, 900), []), ("a.svs", scene(), []))),
    "ome, unnamed label first": Layout(
        ome(("", label(), []), ("", scene(), [])), said=("image 0",)
    ),
    "ome, two scans": Layout(
        ome(("first", scene(700, 500, 1), []), ("second", scene(), [])), said=("'first'",)
    ),
    "ome, each level an image": Layout(
        ome(("", smaller(scene(), 4), []), ("", scene(), []), ("", smaller(scene(), 2), [])),
        (1, 2, 4),
    ),
    "ome, macro as a reduced copy": Layout(
        ome(("", scene(), [SAME_SHAPE, smaller(scene(), 4)])), (1, 4), said=("another picture",)
    ),
    "ome, scan not in the metadata": Layout(outside_the_xml),
    "ome, all called overview": Layout(ome(("overview", scene(), [])), said=("overview",)),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_the_largest_scan_is_level_0(tmp_path, name):
    layout = LAYOUTS[name]
    with Slide.open(layout.write(tmp_path), slide_mpp=0.5) as slide:
        assert slide.size == SIZE
        assert np.array_equal(slide.reader.read(0, 0, 0, *SIZE), scene())
        got = [round(SIZE[0] / width) for width, _ in slide.reader.metadata.level_sizes]
        assert tuple(got) == layout.levels
        said = slide.reader.metadata.warnings
        assert len(said) == len(layout.said), said
        assert all(word in one for word, one in zip(layout.said, said, strict=True))


@pytest.mark.parametrize("reader", ["openslide", "tiffslide"])
@pytest.mark.parametrize("name", LAYOUTS)
def test_no_reader_takes_another_page_for_the_slide(tmp_path, name, reader):
    """They are refused, or read level 0 and levels that show the same."""
    path = LAYOUTS[name].write(tmp_path)
    try:
        slide = Slide.open(path, slide_mpp=0.5, reader=reader)
    except WsiError as error:
        assert error.reason == "unreadable"  # noqa: PT017 - refusing is one of two right ways
        return
    with slide:
        assert slide.size == SIZE
        assert np.array_equal(slide.reader.read(0, 0, 0, *SIZE), scene())
        for index, (width, height) in enumerate(slide.reader.metadata.level_sizes):
            factor = round(SIZE[0] / width)
            shown = slide.reader.read(index, 0, 0, width, height).astype(int)
            assert np.abs(shown - smaller(scene(), factor)).mean() < 12


def test_a_scan_in_strips_is_not_given_up_for_its_lower_levels_in_tiles(tmp_path):
    path = write_pages(
        tmp_path / "a.tif",
        (scene(), {**STRIPS, "rowsperstrip": 64}),
        (smaller(scene(), 2), {**REDUCED}),
        (smaller(scene(), 4), {**REDUCED}),
    )
    with Slide.open(path) as slide:
        assert (slide.size, len(slide.levels), slide.warnings) == (SIZE, 3, ())


def test_a_scan_in_a_sub_page_of_its_thumbnail_is_level_0(tmp_path):
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as tiff:
        tiff.write(smaller(scene(), 4), subifds=1, metadata=None, **TILED, **MPP)
        tiff.write(scene(), metadata=None, **TILED, **MPP)
    with Slide.open(path) as slide:
        assert (slide.size, len(slide.levels)) == (SIZE, 2)


def test_an_image_can_be_picked(tmp_path):
    path = write_ome(
        tmp_path / "a.ome.tif",
        ("label", label(), []),
        ("left", scene(700, 500, 1), [smaller(scene(700, 500, 1), 2)]),
        ("right", scene(), []),
    )
    with Slide.open(path, image=1) as slide:
        assert slide.reader.metadata.level_sizes == ((700, 500), (350, 250))
        assert np.array_equal(slide.reader.read(0, 0, 0, 700, 500), scene(700, 500, 1))
    with Slide.open(path, image=0) as slide:
        assert slide.size == (300, 260)
    with pytest.raises(WsiError, match=r"no image 3; the file holds image 0 \(300 x 260, 'label'"):
        Slide.open(path, image=3)


def test_images_of_one_size_are_told_apart_by_number(tmp_path):
    path = write_pages(tmp_path / "a.tif", (scene(), {}), (scene(seed=1), {}))
    with Slide.open(path) as slide:
        assert np.array_equal(slide.reader.read(0, 0, 0, *SIZE), scene())
        assert "image 1 (1024 x 768)" in slide.warnings[0]
    with Slide.open(path, image=1) as slide:
        assert np.array_equal(slide.reader.read(0, 0, 0, *SIZE), scene(seed=1))
    with pytest.raises(WsiError, match="pixels differ"):
        Slide.open(path, image=1, reader="openslide")


def test_one_plane_of_a_focal_stack_is_analysed_and_said(tmp_path):
    stack = np.stack([scene(256, 256, seed) for seed in range(3)])
    path = tmp_path / "a.ome.tif"
    tifffile.imwrite(path, stack, ome=True, metadata={"axes": "ZYXS"}, **TILED, **MPP)
    with Slide.open(path) as slide:
        assert np.array_equal(slide.reader.read(0, 0, 0, 256, 256), stack[1])
        assert "Z 1 of 3" in slide.warnings[0]


def test_a_stack_of_many_pages_is_refused(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as tiff:
        for seed in range(120):
            tiff.write(scene(64, 64, seed % 3), metadata=None, photometric="rgb", tile=(64, 64))
    with pytest.raises(WsiError, match="120 pages are a stack"):
        Slide.open(tmp_path / "a.tif", slide_mpp=0.5)
