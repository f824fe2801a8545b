"""What the samples of a page mean: taken rightly, or refused saying what they are."""

from __future__ import annotations

from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
from layouts import MPP, SIZE, TILED, scene, smaller, write_pages

from wsi_sampath.errors import WsiError
from wsi_sampath.slides.slide import Slide

WIDTH, HEIGHT = SIZE
PHYSICAL = {"PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5}


def read(path: Path, **options) -> tuple[np.ndarray, tuple[str, ...]]:
    with Slide.open(path, **options) as slide:
        assert slide.size == SIZE
        return slide.reader.read(0, 0, 0, *SIZE), slide.warnings


def one(path: Path, image: np.ndarray, **options) -> Path:
    usual = {"metadata": None, "photometric": "rgb", "tile": (128, 128), **MPP}
    tifffile.imwrite(path, image, **{**usual, **options})
    return path


def with_alpha(alpha: np.ndarray | int, rgb: np.ndarray | None = None) -> np.ndarray:
    rgb = scene() if rgb is None else rgb
    plane = np.broadcast_to(np.asarray(alpha, np.uint8), (HEIGHT, WIDTH))
    return np.dstack([rgb, plane])


# --- taken as they are --------------------------------------------------------------------------


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("bigtiff", [False, True])
@pytest.mark.parametrize("cut", ["tiles", "odd tiles", "strips", "one strip", "rows"])
@pytest.mark.parametrize("planes", ["contig", "separate"])
def test_planes_tiles_and_strips(tmp_path, cut, planes, bigtiff, byteorder):
    image = scene() if planes == "contig" else np.moveaxis(scene(), -1, 0)
    cuts = {
        "tiles": {"tile": (128, 128)},
        "odd tiles": {"tile": (176, 208)},
        "strips": {"tile": None, "rowsperstrip": 50, "compression": "deflate"},
        "one strip": {"tile": None, "rowsperstrip": HEIGHT},
        "rows": {"tile": None, "rowsperstrip": 1},
    }
    path = one(
        tmp_path / "a.tif",
        image,
        planarconfig=planes,
        bigtiff=bigtiff,
        byteorder=byteorder,
        **cuts[cut],
    )
    got, said = read(path)
    assert np.array_equal(got, scene())
    assert said == ()


@pytest.mark.parametrize(
    "compression",
    ["zstd", "lzw", "packbits", "lzma", "jpegxl", "webp", "jpeg2000", "lerc", "png", "jpegxr"],
)
@pytest.mark.parametrize("bits", [8, 16])
def test_every_lossless_compression(tmp_path, compression, bits):
    if bits == 16 and compression == "webp":
        pytest.skip("WebP has 8 bits")
    image = scene() if bits == 8 else scene().astype(np.uint16) * 257
    lossless = {"webp": {"lossless": True}, "jpegxl": {"lossless": True}}
    path = one(
        tmp_path / "a.tif",
        image,
        compression=compression,
        compressionargs=lossless.get(compression),
    )
    got, said = read(path)
    assert np.array_equal(got, scene())
    assert said == ()


@pytest.mark.parametrize("bits", [10, 12, 14])
def test_fewer_bits_than_are_stored_are_scaled_and_said(tmp_path, bits):
    image = (scene().astype(np.uint32) * ((1 << bits) - 1) // 255).astype(np.uint16)
    got, said = read(one(tmp_path / "a.tif", image))
    assert np.abs(got.astype(int) - scene()).max() <= 1
    assert f"of which {bits} are used" in said[0]


def test_a_brighter_place_that_was_not_sampled_is_not_cut_off_in_silence(tmp_path):
    image = scene(3072, 3072).astype(np.uint16) * 16
    image[1500:1510, 1500:1510] = 60000
    with (
        Slide.open(one(tmp_path / "a.tif", image)) as slide,
        pytest.raises(Exception, match="larger than the 12 bits"),
    ):
        slide.reader.read(0, 1400, 1400, 200, 200)


def test_palette(tmp_path):
    coarse = scene() // 52
    indices = coarse[..., 0] * 25 + coarse[..., 1] * 5 + coarse[..., 2]
    colours = np.zeros((3, 256), np.uint16)
    for index in range(125):
        colours[:, index] = np.array([index // 25, index // 5 % 5, index % 5]) * 52 * 257
    got, _ = read(
        one(tmp_path / "a.tif", indices.astype(np.uint8), photometric="palette", colormap=colours)
    )
    assert np.array_equal(got, coarse * 52)


@pytest.mark.parametrize("photometric", ["minisblack", "miniswhite"])
@pytest.mark.parametrize("bits", [8, 16])
def test_grey_is_said(tmp_path, photometric, bits):
    grey = scene()[..., 1]
    stored = grey if photometric == "minisblack" else 255 - grey
    if bits == 16:
        stored = stored.astype(np.uint16) * 257
    got, said = read(one(tmp_path / "a.tif", stored, photometric=photometric))
    assert np.array_equal(got, np.repeat(grey[..., None], 3, -1))
    assert "one channel" in said[0]


def test_ycbcr_that_is_not_jpeg(tmp_path):
    from PIL import Image

    image = np.asarray(Image.fromarray(scene()).convert("YCbCr"))
    path = one(tmp_path / "a.tif", image, photometric="ycbcr", subsampling=(1, 1))
    got, _ = read(path)
    assert np.abs(got.astype(int) - scene()).max() <= 3


def test_printing_inks_are_turned_into_rgb_and_said(tmp_path):
    black = 255 - scene().max(-1).astype(int)
    ink = 255 - scene().astype(int) * 255 // np.maximum(1, 255 - black)[..., None]
    cmyk = np.dstack([ink, black]).clip(0, 255).astype(np.uint8)
    got, said = read(one(tmp_path / "a.tif", cmyk, photometric="separated"))
    assert np.abs(got.astype(int) - scene()).mean() < 2
    assert "inks" in said[0]


# --- alpha and what is none ---------------------------------------------------------------------


@pytest.mark.parametrize("tile", [(128, 128), None])
@pytest.mark.parametrize("kind", ["unassalpha", "assocalpha"])
def test_transparent_parts_are_background(tmp_path, kind, tile):
    alpha = np.full((HEIGHT, WIDTH), 255, np.uint8)
    alpha[:, :300] = 0
    rgb = scene().copy()
    rgb[:, :300] = 0
    path = one(tmp_path / "a.tif", with_alpha(alpha, rgb), extrasamples=[kind], tile=tile)
    got, said = read(path)
    assert (got[:, :300] == 255).all()
    assert np.array_equal(got[:, 300:], scene()[:, 300:])
    assert said == ()


@pytest.mark.parametrize("kind", ["unassalpha", "assocalpha"])
@pytest.mark.parametrize("alpha", [0, 1, 77])
def test_an_alpha_that_says_nothing_is_left_out(tmp_path, kind, alpha):
    got, said = read(one(tmp_path / "a.tif", with_alpha(alpha), extrasamples=[kind]))
    assert np.array_equal(got, scene())
    assert "alpha channel" in said[0]


def test_nothing_to_see_is_said(tmp_path):
    nothing = np.zeros((HEIGHT, WIDTH, 4), np.uint8)
    got, said = read(one(tmp_path / "a.tif", nothing, extrasamples=["unassalpha"]))
    assert (got == 255).all()
    assert "transparent" in said[0]


@pytest.mark.parametrize("n", [4, 5])
def test_samples_that_are_not_colours_are_left_out_and_said(tmp_path, n):
    extra = [scene()[..., 0] // 3] * (n - 3)
    path = one(
        tmp_path / "a.tif", np.dstack([scene(), *extra]), extrasamples=["unspecified"] * (n - 3)
    )
    got, said = read(path)
    assert np.array_equal(got, scene())
    assert f"{n} samples" in said[0]


# --- the colours of JPEG ------------------------------------------------------------------------


@pytest.mark.parametrize("tag", [2, 6])
@pytest.mark.parametrize("stored", ["rgb", "ycbcr"])
def test_jpeg_tiles_are_believed_over_their_tag(tmp_path, stored, tag):
    path = tmp_path / "a.tif"
    space = {"rgb": "rgb", "ycbcr": "ycbcr"}[stored]
    one(path, scene(), compression="jpeg", compressionargs={"level": 95, "outcolorspace": space})
    with tifffile.TiffFile(path, mode="r+b") as tiff:
        tiff.pages[0].tags["PhotometricInterpretation"].overwrite(tag)
    got, _ = read(path)
    assert np.abs(got.astype(int) - scene()).mean() < 4


@pytest.mark.parametrize("tag", [2, 6])
@pytest.mark.parametrize("transform", [0, 1])
def test_adobes_marker_is_believed_over_the_tag(tmp_path, transform, tag):
    def tiles():
        for y in range(0, HEIGHT, 128):
            for x in range(0, WIDTH, 128):
                data = imagecodecs.jpeg8_encode(
                    scene()[y : y + 128, x : x + 128],
                    level=95,
                    outcolorspace="YCBCR" if transform else "RGB",
                )
                marker = b"\xff\xee\x00\x0eAdobe\x00\x64\0\0\0\0" + bytes([transform])
                end = 2 if data[2:4] != b"\xff\xe0" else 4 + int.from_bytes(data[4:6], "big")
                body = data[end:]
                if body[:2] == b"\xff\xee":
                    body = body[2 + int.from_bytes(body[2:4], "big") :]
                yield data[:2] + marker + body

    path = tmp_path / "a.tif"
    tifffile.imwrite(
        path,
        tiles(),
        shape=scene().shape,
        dtype=np.uint8,
        tile=(128, 128),
        photometric="rgb",
        compression="jpeg",
        metadata=None,
        **MPP,
    )
    with tifffile.TiffFile(path, mode="r+b") as tiff:
        tiff.pages[0].tags["PhotometricInterpretation"].overwrite(tag)
    got, _ = read(path)
    assert np.abs(got.astype(int) - scene()).mean() < 4


# --- channels of OME ----------------------------------------------------------------------------


def channels(path: Path, planes: list[np.ndarray], *, copies: bool = True, **channel) -> Path:
    metadata = {"axes": "CYX", **PHYSICAL}
    if channel:
        metadata["Channel"] = channel
    grey = {"photometric": "minisblack", "tile": (128, 128), "compression": "deflate"}
    with tifffile.TiffWriter(path, ome=True) as tiff:
        tiff.write(np.stack(planes), subifds=int(copies), metadata=metadata, **grey)
        if copies:
            small = np.stack([smaller(plane[..., None], 4)[..., 0] for plane in planes])
            tiff.write(small, subfiletype=1, **grey)
    return path


RGB = list(np.moveaxis(scene(), -1, 0))


@pytest.mark.parametrize("copies", [False, True])
def test_three_grey_channels_without_names_are_assembled_and_said(tmp_path, copies):
    got, said = read(channels(tmp_path / "a.ome.tif", RGB, copies=copies))
    assert np.array_equal(got, scene())
    assert "no names" in said[0]


@pytest.mark.parametrize("names", [["Red", "Green", "Blue"], ["r", "g", "b"]])
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_channels_are_put_in_the_order_of_their_names(tmp_path, names, order):
    path = channels(tmp_path / "a.ome.tif", [RGB[i] for i in order], Name=[names[i] for i in order])
    got, said = read(path)
    assert np.array_equal(got, scene())
    assert said == ()


def test_channels_are_put_in_the_order_of_their_colours(tmp_path):
    blue, green, red = 65535, 16711935, -16776961
    got, said = read(
        channels(tmp_path / "a.ome.tif", RGB[::-1], Color=[blue, green, red], Name=["C:0"] * 3)
    )
    assert np.array_equal(got, scene())
    assert said == ()


def interleaved(path: Path, rgb: np.ndarray, names: list[str], samples: int) -> Path:
    """One RGB page; its channels are stated as three of one sample, or as three of three."""
    schema = "http://www.openmicroscopy.org/Schemas/OME/2016-06"
    channel = "".join(
        f'<Channel ID="Channel:0:{i}" Name="{name}" SamplesPerPixel="{samples}"/>'
        for i, name in enumerate(names)
    )
    pixels = (
        '<Pixels DimensionOrder="XYCZT" ID="Pixels:0" SizeC="3" SizeT="1" SizeX="1024" '
        'SizeY="768" SizeZ="1" Type="uint8" PhysicalSizeX="0.5" PhysicalSizeY="0.5">'
        f'{channel}<TiffData IFD="0" PlaneCount="1"/></Pixels>'
    )
    xml = f'<OME xmlns="{schema}"><Image ID="Image:0">{pixels}</Image></OME>'
    with tifffile.TiffWriter(path, ome=False) as tiff:
        tiff.write(rgb, photometric="rgb", tile=(128, 128), compression="deflate", description=xml)
    return path


@pytest.mark.parametrize("samples", [1, 3])
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_the_samples_of_a_page_are_put_in_the_order_of_their_names(tmp_path, samples, order):
    names = [("Red", "Green", "Blue")[i] for i in order]
    rgb = np.ascontiguousarray(scene()[..., list(order)])
    got, said = read(interleaved(tmp_path / "a.ome.tif", rgb, names, samples))
    assert np.array_equal(got, scene())
    assert said == ()


@pytest.mark.parametrize("samples", [1, 3])
def test_samples_with_other_names_are_said(tmp_path, samples):
    names = ["Alpha", "Beta", "Gamma"]
    got, said = read(interleaved(tmp_path / "a.ome.tif", scene(), names, samples))
    assert np.array_equal(got, scene())
    assert any("Alpha, Beta, Gamma" in one for one in said)


def test_ome_xml_that_is_cut_short_is_said(tmp_path):
    path = interleaved(tmp_path / "a.ome.tif", scene(), ["Red", "Green", "Blue"], 3)
    path.write_bytes(path.read_bytes().replace(b"</OME>", b"      "))
    with Slide.open(path, slide_mpp=0.5) as slide:
        assert any("OME-XML is damaged" in one for one in slide.warnings)


def test_channels_whose_pages_the_metadata_do_not_place(tmp_path):
    """As written from recipes for libvips."""
    pixels = (
        '<Pixels DimensionOrder="XYCZT" ID="Pixels:0" SizeC="3" SizeT="1" SizeX="1024" '
        'SizeY="768" SizeZ="1" Type="uint8" PhysicalSizeX="0.5" PhysicalSizeY="0.5"></Pixels>'
    )
    schema = "http://www.openmicroscopy.org/Schemas/OME/2016-06"
    xml = f'<OME xmlns="{schema}"><Image ID="Image:0">{pixels}</Image></OME>'
    grey = {"photometric": "minisblack", "tile": (128, 128), "metadata": None}
    with tifffile.TiffWriter(tmp_path / "a.ome.tif", ome=False) as tiff:
        for plane in RGB:
            tiff.write(plane, subifds=1, description=xml, **grey)
            tiff.write(smaller(plane[..., None], 4)[..., 0], subfiletype=1, **grey)
    with Slide.open(tmp_path / "a.ome.tif") as slide:
        assert len(slide.levels) == 2
        assert np.array_equal(slide.reader.read(0, 0, 0, *SIZE), scene())
        assert "no names" in slide.warnings[0]


@pytest.mark.parametrize(
    "channel",
    [
        {"Name": ["DAPI", "FITC", "TRITC"]},
        {"Name": ["DAPI", "FITC", "TRITC"], "Color": [65535, 16711935, -16776961]},
        {"Name": ["Red", "Green", "DAPI"]},
        {"EmissionWavelength": [460, 520, 600]},
        {"Fluor": ["DAPI", "FITC", "TRITC"]},
    ],
)
def test_fluorescence_is_refused_by_name(tmp_path, channel):
    path = channels(tmp_path / "a.ome.tif", RGB, **channel)
    for reader in ("auto", "openslide", "tiffslide"):
        with pytest.raises(WsiError, match=r"fluorescence|grey channels \(") as caught:
            Slide.open(path, reader=reader)
        assert caught.value.reason == "unreadable"


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_dark_channels_are_refused(tmp_path, n):
    dark = [(255 - scene()[..., 1]) // 4] * n
    with pytest.raises(WsiError, match=r"fluorescence|grey channels"):
        Slide.open(channels(tmp_path / "a.ome.tif", dark))


# --- refused ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("image", "options", "said"),
    [
        (scene().astype(np.float32) / 255, {}, "32-bit floating-point"),
        (scene().astype(np.float16), {}, "floating-point"),
        (scene().astype(np.int16), {}, "int16"),
        (scene().astype(np.uint32), {}, "uint32"),
        (scene()[..., 1] > 200, {"photometric": "minisblack"}, "1 bit"),
        (scene(), {"photometric": "cielab"}, "CIELab"),
        (np.dstack([scene(), scene()[..., :2]]), {"photometric": "minisblack"}, "5 grey channels"),
    ],
    ids=["float", "half", "signed", "32-bit", "1-bit", "CIELab", "5 channels"],
)
@pytest.mark.parametrize("reader", ["auto", "openslide", "tiffslide"])
def test_what_cannot_be_rgb_is_refused_by_its_name(tmp_path, image, options, said, reader):
    if options.get("photometric") == "minisblack" and image.ndim == 3:
        options = {**options, "planarconfig": "contig"}
    path = one(tmp_path / "a.tif", image, **options)
    with pytest.raises(WsiError, match=said) as caught:
        Slide.open(path, slide_mpp=0.5, reader=reader)
    assert caught.value.reason == "unreadable"


def test_grey_pages_of_one_size_are_refused(tmp_path):
    grey = {"photometric": "minisblack"}
    path = write_pages(tmp_path / "a.tif", *((plane, grey) for plane in RGB))
    with pytest.raises(WsiError, match="3 grey pictures"):
        Slide.open(path)


@pytest.mark.parametrize("reader", ["openslide", "tiffslide"])
@pytest.mark.parametrize("kind", ["16-bit", "12 in 16", "4 samples", "alpha 0", "planar"])
def test_the_other_readers_read_the_same_or_are_refused(tmp_path, kind, reader):
    image, options = {
        "16-bit": (scene().astype(np.uint16) * 257, {}),
        "12 in 16": (scene().astype(np.uint16) * 16, {}),
        "4 samples": (with_alpha(scene()[..., 0] // 3), {"extrasamples": ["unspecified"]}),
        "alpha 0": (with_alpha(0), {"extrasamples": ["unassalpha"]}),
        "planar": (np.moveaxis(scene(), -1, 0), {"planarconfig": "separate"}),
    }[kind]
    path = one(tmp_path / "a.tif", image, **options)
    try:
        got, _ = read(path, reader=reader)
    except WsiError as error:
        assert error.reason == "unreadable"  # noqa: PT017 - refusing is one of two right ways
    else:
        assert np.abs(got.astype(int) - scene()).mean() < 2


@pytest.mark.parametrize("options", [TILED, {"photometric": "rgb", "compression": "deflate"}])
def test_a_pyramid_of_16_bit_samples_has_one_scale(tmp_path, options):
    image = scene().astype(np.uint16) * 16
    path = write_pages(
        tmp_path / "a.tif", (image, options), (smaller(image, 4), {**options, "subfiletype": 1})
    )
    with Slide.open(path) as slide:
        assert len(slide.levels) == 2
        lower = slide.reader.read(1, 0, 0, 256, 192).astype(int)
    assert np.abs(lower - smaller(scene(), 4)).max() <= 2
