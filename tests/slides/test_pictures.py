from __future__ import annotations

import os
import struct
import zlib

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from wsi_sampath.errors import WsiError
from wsi_sampath.slides.pictures import picture_size, read_picture, rgb_of

RGB = np.random.default_rng(3).integers(64, 255, (6, 9, 3), np.uint8)
ORIENTATION = 0x0112


def saved(path, image, **options):
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    image.save(path, **options)
    return path


def read_rgb(path):
    return rgb_of(read_picture(path), subject=str(path))


def exif(orientation):
    tags = Image.Exif()
    tags[ORIENTATION] = orientation
    return tags


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["png", "tif", "webp"])
def test_every_orientation_is_turned_upright(tmp_path, suffix, orientation):
    options = {"lossless": True} if suffix == "webp" else {}
    tags = exif(orientation)
    path = saved(tmp_path / f"a.{suffix}", RGB, exif=tags, **options)
    shown = Image.fromarray(RGB)
    shown.getexif()[ORIENTATION] = orientation
    expected = np.asarray(ImageOps.exif_transpose(shown))
    picture = read_picture(path)
    assert np.array_equal(rgb_of(picture)[0], expected)
    assert picture.turned == (orientation > 1)
    assert not (picture.turned and picture.plain)
    assert picture_size(path) == expected.shape[1::-1]


@pytest.mark.parametrize("orientation", [0, 9, 300])
def test_an_orientation_that_is_none_turns_nothing(tmp_path, orientation):
    path = saved(tmp_path / "a.png", RGB, exif=exif(orientation))
    assert np.array_equal(read_rgb(path)[0], RGB)


def test_broken_exif_data_do_not_hide_the_pixels(tmp_path):
    path = saved(tmp_path / "a.png", RGB, exif=b"Exif\x00\x00MM\x00\x2a\xff\xff\xff\xff")
    assert np.array_equal(read_rgb(path)[0], RGB)


def test_a_plain_file_can_be_passed_on_and_others_cannot(tmp_path):
    assert read_picture(saved(tmp_path / "a.png", RGB)).plain
    assert read_picture(saved(tmp_path / "a.jpg", RGB)).plain
    for mode in ("L", "P", "RGBA"):
        image = Image.fromarray(RGB).convert(mode)
        assert not read_picture(saved(tmp_path / f"{mode}.png", image)).plain
    transparent = saved(tmp_path / "t.png", RGB, transparency=tuple(map(int, RGB[0, 0])))
    assert not read_picture(transparent).plain


@pytest.mark.parametrize("mode", ["L", "LA", "P", "1"])
def test_pictures_without_three_channels_become_rgb(tmp_path, mode):
    image = Image.fromarray(RGB).convert("L").convert(mode)
    rgb, notes = read_rgb(saved(tmp_path / "a.png", image))
    assert np.array_equal(rgb, np.asarray(image.convert("RGB")))
    assert notes == ()


def test_cmyk_is_converted_and_said_as_adobe_stores_it_too(tmp_path):
    flat = Image.new("RGB", (16, 16), (200, 40, 120))
    rgb, notes = read_rgb(saved(tmp_path / "a.jpg", flat.convert("CMYK"), quality=95))
    assert np.abs(rgb.astype(int) - (200, 40, 120)).max() < 8
    assert notes == ("converted from CMYK to RGB without a colour profile",)


def test_transparent_parts_of_a_picture_are_laid_on_white(tmp_path):
    alpha = np.full((6, 9, 1), 255, np.uint8)
    opaque = saved(tmp_path / "o.png", np.dstack([RGB, alpha]))
    assert np.array_equal(read_rgb(opaque)[0], RGB)
    assert read_rgb(opaque)[1] == ()
    alpha[:3] = 0
    rgb, notes = read_rgb(saved(tmp_path / "t.png", np.dstack([RGB, alpha])))
    assert (rgb[:3] == 255).all()
    assert np.array_equal(rgb[3:], RGB[3:])
    assert notes == ("transparent parts laid on white",)
    hidden = saved(tmp_path / "h.png", np.dstack([RGB, 0 * alpha]))
    with pytest.raises(WsiError, match="transparent all over"):
        read_rgb(hidden)


def png(path, pixels):
    """Write a PNG of 16 bits a channel, which Pillow does not."""

    def chunk(kind, data):
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    height, width = pixels.shape[:2]
    colour = {1: 0, 2: 4, 3: 2, 4: 6}[pixels.shape[2]]
    head = struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    parts = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + parts)
    return path


@pytest.mark.parametrize("write", ["png", "tif"])
def test_sixteen_bits_a_channel_are_scaled_or_refused_but_never_black(tmp_path, write):
    def stored(name, pixels):
        if write == "png":
            return png(tmp_path / f"{name}.png", pixels)
        tifffile.imwrite(tmp_path / f"{name}.tif", pixels, photometric="rgb")
        return tmp_path / f"{name}.tif"

    rgb, notes = read_rgb(stored("full", RGB.astype(np.uint16) * 257))
    assert np.array_equal(rgb, RGB)
    assert notes == ("brought from 16 to 8 bits per channel",)
    with pytest.raises(WsiError, match="only the lower ones seem to be used"):
        read_rgb(stored("twelve", RGB.astype(np.uint16) * 16))


def test_several_pages_are_refused_with_their_number(tmp_path):
    frames = [Image.fromarray(np.roll(RGB, n, axis=0)) for n in range(3)]
    for suffix in ("tif", "gif", "webp", "png"):
        path = tmp_path / f"a.{suffix}"
        frames[0].save(path, save_all=True, append_images=frames[1:])
        with pytest.raises(WsiError, match="holds 3 pages or frames; save the one") as caught:
            read_picture(path)
        assert caught.value.subject == str(path)


def test_smaller_copies_of_the_first_page_are_no_pages(tmp_path):
    path = tmp_path / "pyramid.tif"
    with tifffile.TiffWriter(path) as writer:
        writer.write(RGB, photometric="rgb")
        writer.write(RGB[::2, ::2], photometric="rgb", subfiletype=1)
    assert np.array_equal(read_rgb(path)[0], RGB)


@pytest.mark.parametrize("kind", ["int64", "uint64", "float64", "float16", "int8", "bool"])
def test_kinds_of_numbers_that_only_tiff_has(tmp_path, kind):
    values = (RGB[..., 0] > 150).astype(kind)
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="minisblack")
    pixels = read_picture(tmp_path / "a.tif").pixels
    assert np.array_equal(pixels > 0, values > 0)


def test_lossy_files_are_known_by_their_content(tmp_path):
    jpeg = saved(tmp_path / "a.jpg", RGB)
    jpeg.rename(tmp_path / "really_jpeg.png")
    cases = {
        "really_jpeg.png": True,
        "b.png": False,
        "lossless.webp": False,
        "lossy.webp": True,
        "plain.tif": False,
        "jpeg.tif": True,
    }
    saved(tmp_path / "b.png", RGB)
    saved(tmp_path / "lossless.webp", RGB, lossless=True)
    saved(tmp_path / "lossy.webp", RGB)
    saved(tmp_path / "plain.tif", RGB)
    saved(tmp_path / "jpeg.tif", RGB, compression="jpeg")
    assert {name: read_picture(tmp_path / name).lossy for name in cases} == cases


def test_a_picture_that_claims_too_much_is_one_line(tmp_path):
    path = saved(tmp_path / "bomb.png", RGB)
    head = bytearray(path.read_bytes())
    head[16:24] = struct.pack(">II", 60_000, 60_000)
    head[29:33] = struct.pack(">I", zlib.crc32(bytes(head[12:29])))
    path.write_bytes(head)
    with pytest.raises(WsiError, match="claims over 178 million pixels"):
        read_picture(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes")
def test_what_is_not_a_file_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    for path in (tmp_path / "pipe.png", tmp_path):
        with pytest.raises(WsiError, match="not a file"):
            read_picture(path)
    with pytest.raises(WsiError, match="readable image"):
        read_picture(tmp_path / "missing.png")


KINDS = {
    "png": ("PNG", "RGB"),
    "indexed": ("PNG", "P"),
    "jpg": ("JPEG", "RGB"),
    "tif": ("TIFF", "L"),
    "gif": ("GIF", "P"),
    "bmp": ("BMP", "1"),
    "webp": ("WEBP", "RGBA"),
}


def test_a_tiff_without_pixels_is_refused(tmp_path):
    path = tmp_path / "a.tif"
    Image.fromarray(RGB).convert("L").save(path)
    raw = bytearray(path.read_bytes())
    raw[0] = 11
    path.write_bytes(raw[:119])
    with pytest.raises(WsiError, match="cannot be read"):
        read_rgb(path)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(sorted(KINDS)), st.data())
def test_damaged_files_are_one_line(tmp_path, name, data):
    kind, mode = KINDS[name]
    path = tmp_path / f"{name}.img"
    Image.fromarray(RGB).convert(mode).save(path, kind)
    raw = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(raw[: data.draw(st.integers(0, len(raw)))])
    caught = None
    try:
        rgb, _ = read_rgb(path)
    except WsiError as error:
        caught = error
    if caught is None:
        assert rgb.ndim == 3
        assert rgb.dtype == np.uint8
    else:
        assert "\n" not in caught.line()
        assert caught.subject == str(path)
