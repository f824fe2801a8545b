"""Tissue is found where it is, on painted slides with their truth and on real images."""

import gzip
import json
import os
from pathlib import Path

import numpy as np
import openslide
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage

from wsi_sampath.errors import WsiError
from wsi_sampath.slides.regions.drawn import load_mask
from wsi_sampath.slides.regions.tissue import stained_tissue, tissue_mask
from wsi_sampath.synthetic.painted import paint_slide

GLASS = (243, 241, 244)


@pytest.fixture(scope="module")
def data():
    folder = os.environ.get("WSI_SAMPATH_DATA")
    if not folder:
        pytest.skip("WSI_SAMPATH_DATA is not set")
    return Path(folder)


def shrink(rgb, factor):
    """Average down by a factor that need not be whole."""
    image = Image.fromarray(rgb)
    size = [max(1, round(n / factor)) for n in image.size]
    return np.asarray(image.resize(size, Image.Resampling.BOX))


def mask_of(rgb, mpp, **options):
    return tissue_mask(rgb, mpp_x=mpp, mpp_y=mpp, **options)


@pytest.mark.parametrize(
    ("pen", "border", "pieces"),
    [
        (None, False, 1),
        ("blue", True, 1),
        ("green", False, 2),
        ("black", True, 2),
        ("red", True, 1),
    ],
)
def test_painted_tissue_is_found(tmp_path, pen, border, pieces):
    truth = paint_slide(
        tmp_path / "x.svs", width=3072, height=2048, mpp=2.0, pen=pen, border=border, pieces=pieces
    )
    with openslide.OpenSlide(truth.path) as slide:
        rgb = slide.read_region((0, 0), 1, slide.level_dimensions[1]).convert("RGB")
    found, tissue = mask_of(np.asarray(rgb), 8.0), truth.label_at(8.0) > 0
    assert found.shape == tissue.shape
    assert (found & tissue).sum() / (found | tissue).sum() >= 0.9
    assert (found & tissue).sum() / tissue.sum() >= 0.98


def test_a_threshold_takes_the_place_of_the_one_that_is_found():
    image = np.full((90, 80, 3), GLASS, np.uint8)
    image[10:40, 10:70], image[50:80, 10:70] = (150, 90, 170), (232, 226, 234)
    found = stained_tissue(image, mpp_x=8.0, mpp_y=8.0)
    pale = (slice(55, 75), slice(15, 65))
    assert found.mask[15:35, 15:65].all()
    assert not found.mask[pale].any()
    same = stained_tissue(image, mpp_x=8.0, mpp_y=8.0, threshold=found.threshold)
    assert np.array_equal(same.mask, found.mask)
    assert stained_tissue(image, mpp_x=8.0, mpp_y=8.0, threshold=0.01).mask[pale].all()
    assert not stained_tissue(image, mpp_x=8.0, mpp_y=8.0, threshold=0.4).mask.any()


@pytest.mark.parametrize(("pen", "border"), [(None, False), (None, True), ("black", True)])
def test_bare_glass_is_empty(tmp_path, pen, border):
    path = tmp_path / "x.svs"
    paint_slide(path, width=2048, height=1536, mpp=2.0, pieces=0, pen=pen, border=border)
    with openslide.OpenSlide(path) as slide:
        rgb = slide.read_region((0, 0), 1, slide.level_dimensions[1]).convert("RGB")
    assert not mask_of(np.asarray(rgb), 8.0).any()


@pytest.mark.parametrize("colour", [(0, 0, 0), (30, 30, 30), (243, 243, 243), (225, 224, 234)])
def test_flat_backgrounds_are_empty(colour):
    assert not mask_of(np.full((60, 80, 3), colour, np.uint8), 8.0).any()


def test_noise_on_near_black_is_not_tissue():
    noise = np.random.default_rng(0).integers(0, 12, (80, 80, 3)).astype(np.uint8)
    assert not mask_of(noise, 8.0).any()
    half = np.concatenate([noise, np.full((80, 80, 3), GLASS, np.uint8)], axis=1)
    assert not mask_of(half, 8.0).any()


@pytest.mark.parametrize(
    "colour",
    [(70, 40, 80), (150, 90, 60), (110, 90, 180), (228, 205, 222), (190, 60, 80), (165, 70, 65)],
    ids=["nuclei", "brown", "bluish purple", "pale stroma", "red cells", "dense eosin"],
)
def test_every_stain_is_tissue_alone_and_on_glass(colour):
    image = np.full((60, 80, 3), GLASS, np.uint8)
    image[15:45, 20:60] = colour
    found = mask_of(image, 8.0)
    assert found[15:45, 20:60].all()
    assert found.mean() < 0.4


@pytest.mark.parametrize("colour", [(70, 40, 80), (150, 90, 60), (110, 90, 180), (190, 90, 140)])
def test_tissue_throughout_gives_a_full_mask(colour):
    rng = np.random.default_rng(1)
    image = (np.array(colour) + rng.normal(0, 6, (40, 40, 3))).clip(0, 255).astype(np.uint8)
    assert mask_of(image, 8.0).all()


def square(image, side, colour=(200, 110, 160), at=(50, 50)):
    image[at[0] : at[0] + side, at[1] : at[1] + side] = colour


def test_specks_are_dropped_and_holes_filled_by_area():
    image = np.full((150, 150, 3), GLASS, np.uint8)
    square(image, 60)
    square(image, 10, GLASS, (72, 72))  # 80 um square
    square(image, 5, at=(10, 10))  # 40 um square
    found = mask_of(image, 8.0)
    assert found[75:79, 75:79].all()
    assert not found[8:17, 8:17].any()
    assert not mask_of(image, 8.0, max_hole_um2=1_000.0)[75:79, 75:79].any()
    assert mask_of(image, 8.0, min_area_um2=500.0)[11:14, 11:14].all()


@pytest.mark.parametrize(("diameter_um", "is_glass"), [(90, False), (130, True), (240, True)])
def test_a_hole_larger_than_a_disc_of_113_um_is_glass(diameter_um, is_glass):
    image = np.full((150, 150, 3), GLASS, np.uint8)
    square(image, 100, at=(25, 25))
    rows, columns = np.ogrid[:150, :150]
    image[(rows - 75) ** 2 + (columns - 75) ** 2 <= (diameter_um / 16) ** 2] = GLASS
    assert mask_of(image, 8.0)[75, 75] != is_glass
    assert mask_of(image, 8.0, max_hole_um2=1e6)[75, 75]


def test_a_bay_of_glass_is_not_tissue():
    image = np.full((150, 150, 3), GLASS, np.uint8)
    square(image, 100, at=(25, 25))
    image[60:70, 60:] = GLASS  # 80 um wide
    found = mask_of(image, 8.0)
    assert not found[63:67, 70:].any()
    assert found[30:55, 30:120].all()


@pytest.mark.parametrize(
    "glass", [(225, 224, 234), (200, 200, 208), (180, 178, 170), (150, 150, 150), (255, 255, 255)]
)
def test_tissue_is_found_on_glass_of_any_brightness_and_cast(glass):
    stain = np.array([0.45, 0.75, 0.5])
    density = np.zeros((120, 120))
    density[30:90, 30:90] = 0.05 + 0.2 * np.random.default_rng(2).random((60, 60))
    image = np.array(glass) * 10 ** (-density[..., None] * stain)
    found = mask_of(image.round().astype(np.uint8), 8.0)
    assert found[32:88, 32:88].all()
    assert found.mean() < 0.32


@pytest.mark.parametrize("filled", [False, True])
@pytest.mark.parametrize("glass", [(250, 240, 215), (215, 225, 245), (245, 225, 235)])
def test_tissue_is_found_on_glass_of_a_strong_tint(glass, filled):
    rng = np.random.default_rng(2)
    density = np.zeros((120, 150))
    density[30:90, 30:90] = 0.05 + 0.2 * rng.random((60, 60))
    image = np.array(glass) * 10 ** (-density[..., None] * np.array([0.45, 0.75, 0.5]))
    if filled:
        image[:, 130:] = 255
    found = mask_of(image.round().astype(np.uint8), 8.0)
    assert found[32:88, 32:88].all()
    assert found.mean() < 0.26


def test_pale_even_stain_that_fills_the_view_is_not_taken_for_glass():
    image = np.full((120, 120, 3), (228, 165, 190), np.uint8)
    assert mask_of(image, 8.0).all()


def test_what_scanners_fill_with_white_is_not_taken_for_the_glass():
    image = np.full((120, 160, 3), (224, 223, 233), np.uint8)
    image[:, 100:] = 255
    image[30:60, 30:60] = (180, 195, 205)
    found = mask_of(image, 8.0)
    assert found[30:60, 30:60].all()
    assert found.mean() < 0.08


def test_very_pale_stain_on_even_glass_is_found():
    rng = np.random.default_rng(3)
    image = np.full((120, 120, 3), (206, 205, 212), float)
    image[30:90, 30:90] -= rng.random((60, 60, 1)) * np.array([26, 18, 10])
    found = mask_of(image.round().astype(np.uint8), 8.0)
    assert found[32:88, 32:88].mean() > 0.95
    assert found.mean() < 0.32


def test_the_margin_is_about_one_pixel():
    image = np.full((100, 100, 3), GLASS, np.uint8)
    square(image, 30, at=(40, 40))
    rows = np.flatnonzero(mask_of(image, 8.0).any(1))
    assert 37 <= rows[0] <= 39
    assert 70 <= rows[-1] <= 72


def test_pixels_may_be_oblong():
    image = np.full((100, 200, 3), GLASS, np.uint8)
    image[30:70, 60:140] = (200, 110, 160)
    found = tissue_mask(image, mpp_x=4.0, mpp_y=8.0)
    assert found[30:70, 60:140].all()
    assert found.mean() < 0.25


def test_method_none_takes_everything():
    assert mask_of(np.full((5, 6, 3), 255, np.uint8), 8.0, method="none").all()


def test_other_arrays_are_refused():
    with pytest.raises(ValueError, match="uint8"):
        mask_of(np.zeros((5, 5), np.uint8), 8.0)


@settings(max_examples=25, deadline=None)
@given(
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    seed=st.integers(0, 99),
    mpp=st.floats(0.5, 40),
)
def test_any_image_gives_a_mask_of_its_size(height, width, seed, mpp):
    rgb = np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)
    found = mask_of(rgb, mpp)
    assert found.shape == (height, width)
    assert found.dtype == np.bool_


# Real images.


def test_cmu_small_region(data):
    with openslide.OpenSlide(data / "slides/CMU-1-Small-Region.svs") as slide:
        rgb = np.asarray(slide.read_region((0, 0), 0, slide.dimensions).convert("RGB"))
    found = mask_of(shrink(rgb, 16), 8.0)
    assert 0.25 < found.mean() < 0.46
    assert found[110:, 50:80].all()  # dermis
    assert not found[80:, :25].any()  # glass
    assert ndimage.label(found)[1] <= 3


def test_immunohistochemistry(data):
    image = tifffile.imread(data / "slides/OS-2-ndpi.ome.tif")
    found = mask_of(shrink(image, 8 / 0.2271), 8.0)
    assert found[:20, :15].mean() > 0.95
    assert found[35:60, 25:60].mean() > 0.9
    assert not found[40:48, :8].any()
    assert 0.7 < found.mean() < 0.92


@pytest.mark.parametrize("level", [3, 5])
def test_fluorescence_is_empty(data, level):
    with openslide.OpenSlide(data / "slides/test3-DAPI-2-387.ndpi") as slide:
        size = slide.level_dimensions[level]
        rgb = np.asarray(slide.read_region((0, 0), level, size).convert("RGB"))
    assert not mask_of(rgb, 0.2282 * 2**level).any()


@pytest.mark.parametrize(
    ("tile", "low", "high"),
    [
        ("BACK", 0, 0),
        ("STR", 0.98, 1),
        ("LYM", 0.98, 1),
        ("MUS", 0.98, 1),
        ("NORM", 0.98, 1),
        ("DEB", 0.98, 1),
        ("TUM", 0.35, 0.75),
    ],
)
def test_colorectal_tiles(data, tile, low, high):
    (path,) = (data / "nct_crc").glob(f"{tile}-*.tif")
    rgb = np.asarray(Image.open(path).convert("RGB"))
    found = mask_of(shrink(rgb, 16), 8.0, min_area_um2=1_000.0)
    assert low <= found.mean() <= high


def test_biopsies_of_many_colours_stay(data):
    paths = sorted((data / "ebhi_seg").glob("*/image/*.png"))[::5]
    shares = [
        mask_of(shrink(np.asarray(Image.open(p).convert("RGB")), 8), 8.0).mean() for p in paths
    ]
    assert len(shares) > 50
    # The lowest is a fold beside greenish glass, which is a fifth of its picture.
    assert min(shares) > 0.75
    assert np.mean(shares) > 0.98


# Masks from files.

SLIDE, MASK = (4000, 2000), (100, 50)


def load(path, **options):
    return load_mask(path, slide_size=SLIDE, mask_size=MASK, **options)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "I;16"])
@pytest.mark.parametrize("size", [(100, 50), (400, 200), (40, 20)])
def test_an_image_mask_of_any_size_and_mode(tmp_path, mode, size):
    values = np.zeros((size[1], size[0]), np.uint8)
    values[: size[1] // 2] = 255
    image = Image.fromarray(values)
    if mode == "I;16":
        image = Image.fromarray(values.astype(np.uint16))
    elif mode == "RGBA":
        image = Image.fromarray(np.dstack([np.full_like(values, 90)] * 3 + [values]))
    else:
        image = image.convert(mode)
    image.save(tmp_path / "mask.png")
    found = load(tmp_path / "mask.png")
    assert found.shape == (50, 100)
    assert found[:25].all()
    assert not found[26:].any()


def test_a_thin_line_in_a_large_image_mask_survives(tmp_path):
    values = np.zeros((1000, 2000), np.uint8)
    values[:, 1001] = 1
    Image.fromarray(values).save(tmp_path / "mask.png")
    assert load(tmp_path / "mask.png")[:, 50].all()


def box(x0, y0, x1, y1):
    return [[x0, y0], [x1, y0], [x1, y1], [x0, y1], [x0, y0]]


def feature(*rings, kind="Polygon"):
    return {"type": "Feature", "properties": {}, "geometry": {"type": kind, "coordinates": rings}}


def write_json(path, node):
    raw = json.dumps(node).encode()
    path.write_bytes(gzip.compress(raw) if path.suffix == ".gz" else raw)
    return path


HOLED = feature(box(400, 400, 2000, 1600), box(800, 800, 1200, 1200))


@pytest.mark.parametrize(
    "node",
    [
        HOLED,
        {"type": "FeatureCollection", "features": [HOLED]},
        [HOLED],
        HOLED["geometry"],
        feature(HOLED["geometry"]["coordinates"], kind="MultiPolygon"),
        {"type": "GeometryCollection", "geometries": [HOLED["geometry"]]},
    ],
    ids=["feature", "collection", "list", "geometry", "multi", "geometries"],
)
@pytest.mark.parametrize("name", ["mask.geojson", "mask.json", "mask.geojson.gz"])
def test_polygons_with_holes(tmp_path, node, name):
    found = load(write_json(tmp_path / name, node))
    expected = np.zeros((50, 100), bool)
    expected[10:40, 10:50] = True
    expected[20:30, 20:30] = False
    np.testing.assert_array_equal(found, expected)


def test_the_hole_of_one_polygon_spares_another(tmp_path):
    other = feature(box(840, 840, 1000, 1000))
    found = load(write_json(tmp_path / "m.geojson", [other, HOLED]))
    assert found[21:25, 21:25].all()
    assert not found[27, 27]


def test_the_bounds_offset_is_added(tmp_path):
    path = write_json(tmp_path / "m.geojson", feature(box(0, 0, 400, 400)))
    found = load(path, bounds_offset=(800, 400))
    assert found[10:20, 20:30].all()
    assert found.sum() == 100


def test_polygons_beyond_the_slide_are_clipped(tmp_path):
    path = write_json(tmp_path / "m.geojson", feature(box(-4000, -4000, 8000, 8000)))
    assert load(path).all()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.png", None, "readable image"),
        ("text.png", b"hello", "readable image"),
        ("none.geojson", None, "no such file"),
        ("broken.geojson", b"{", "read as GeoJSON"),
        ("binary.geojson", b"\xff\xfe\x00", "GeoJSON"),
        ("plain.geojson.gz", b"not gzip", "GeoJSON"),
        ("number.geojson", b"3", "GeoJSON"),
        ("nothing.geojson", b'{"type": "FeatureCollection", "features": []}', "no polygon"),
        ("null.geojson", b'{"type": "Feature", "geometry": null}', "GeoJSON"),
        ("point.geojson", b'{"type": "Point", "coordinates": [1, 2]}', "no polygon"),
        ("other.geojson", b'{"kind": "x"}', "GeoJSON"),
        ("ring.geojson", b'{"type": "Polygon", "coordinates": [[[0, 0], [1, 1]]]}', "GeoJSON"),
        ("odd.geojson", b'{"type": "Blob", "coordinates": []}', "GeoJSON"),
    ],
)
def test_unusable_masks_are_one_clear_error(tmp_path, name, content, message):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(WsiError, match=message) as caught:
        load(path)
    assert caught.value.reason == "bad-input"
    assert caught.value.subject == str(path)
    assert "\n" not in caught.value.line()


def test_an_image_of_another_shape_is_refused(tmp_path):
    Image.new("L", (100, 100), 255).save(tmp_path / "square.png")
    with pytest.raises(WsiError, match="whole slide"):
        load(tmp_path / "square.png")
