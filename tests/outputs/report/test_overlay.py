"""The overlay shows what it is given, with a legible scale and the right areas."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from wsi_sampath.outputs.report import overlay
from wsi_sampath.outputs.report.overlay import draw_overlay, render_overlay
from wsi_sampath.outputs.report.region import REGION, shares_of
from wsi_sampath.outputs.report.sheet import round_length_um

NAMES, COLOURS = ("other", "gland"), ("#e8a23a", (36, 86, 200))


def render(path, rgb, labels, **options):
    settings = {"class_names": NAMES, "class_colors": COLOURS, "um_per_px": 2.0} | options
    written = render_overlay(rgb, labels, path=path, **settings)
    with Image.open(written) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB"))


@pytest.fixture
def scene():
    rgb = np.full((400, 600, 3), 200, np.uint8)
    labels = np.zeros((400, 600), np.uint8)
    labels[50:250, 100:300] = 1
    labels[50:250, 300:500] = 2
    return rgb, labels


def test_classes_are_tinted_and_the_rest_is_untouched(tmp_path, scene):
    rgb, labels = scene
    sheet = render(tmp_path / "o.png", rgb, labels)
    assert sheet.shape[1] == 600
    assert sheet.shape[0] > 400
    np.testing.assert_array_equal(sheet[:40, :], 200)
    orange, blue = sheet[150, 200].astype(int), sheet[150, 400].astype(int)
    assert orange[0] > orange[2] + 30
    assert blue[2] > blue[0] + 30
    assert (sheet[150, 200] > 0.5 * 200).any(), "the slide still shows through"


def test_outlines_are_stronger_than_the_tint(tmp_path, scene):
    sheet = render(tmp_path / "o.png", *scene).astype(int)
    assert sheet[150, 100].sum() < sheet[150, 150].sum() - 60
    assert sheet[150, 300].sum() < sheet[150, 400].sum() - 60
    np.testing.assert_array_equal(sheet[150, 98], 200)


def test_the_scale_bar_has_its_length(tmp_path):
    rgb = np.full((400, 600, 3), 200, np.uint8)
    sheet = render(tmp_path / "o.png", rgb, np.zeros((400, 600), np.uint8)).astype(int)
    rows = (sheet[:400].max(2) < 120).sum(1)
    # 22 % of 1200 um is 264 um, so the bar says 200 um: 100 pixels.
    assert rows.max() == 100


def test_areas_are_in_square_millimetres(tmp_path, scene, monkeypatch):
    seen = []
    compose = overlay.compose

    def spy(picture, title, entries, text):
        seen.extend(entries)
        return compose(picture, title, entries, text)

    monkeypatch.setattr(overlay, "compose", spy)
    render(tmp_path / "o.png", *scene)
    assert [(entry.name, entry.area) for entry in seen] == [
        ("other", "0.160 mm²"),
        ("gland", "0.160 mm²"),
    ]


def test_the_legend_shows_the_pure_colours(tmp_path, scene):
    sheet = render(tmp_path / "o.png", *scene)
    legend = sheet[400:].reshape(-1, 3)
    for colour in ((0xE8, 0xA2, 0x3A), (36, 86, 200)):
        assert (legend == colour).all(1).sum() > 50


def test_the_region_is_a_box_around_what_was_analysed(tmp_path, scene):
    rgb, labels = scene
    region = np.array([100 / 600, 50 / 400, 500 / 600, 250 / 400])
    sheet = render(tmp_path / "r.png", rgb, labels, region=region)
    plain = render(tmp_path / "p.png", rgb, labels)
    is_line = (sheet == REGION).all(2)
    assert is_line[46:50, 98:502].all()
    assert is_line[250:254, 98:502].all()
    assert is_line[46:254, [97, 98, 99, 500, 501, 502]].all()
    np.testing.assert_array_equal(sheet[50:250, 100:500], plain[50:250, 100:500])
    assert is_line[400:].sum() > 50, "in the legend"
    assert not (plain == REGION).all(2).any()


@pytest.mark.parametrize(
    "region", [(0, 0, 1, 1), (0.5, 0.5, 0.5, 0.5), (1, 1, 1, 1), (0, 0, 1e-9, 1)]
)
def test_a_region_at_the_edge_or_of_no_pixel_is_seen(scene, region):
    rgb, labels = scene
    options = {"class_colors": COLOURS, "um_per_px": 2.0, "region": np.array(region, float)}
    picture = np.asarray(draw_overlay(rgb, labels, **options))
    assert picture.shape == rgb.shape
    assert (picture == REGION).all(2).sum() >= 9


def test_a_region_is_cut_at_the_edges_of_the_slide():
    assert shares_of(None, (600, 400)) is None
    assert shares_of([-30, 100, 60, 900], (600, 400)).tolist() == [0, 0.25, 0.05, 1]


def test_a_title_makes_room_above(tmp_path, scene):
    plain = render(tmp_path / "a.png", *scene)
    titled = render(tmp_path / "b.png", *scene, title="A slide " * 40)
    assert titled.shape[0] > plain.shape[0]
    assert titled.shape[1] == plain.shape[1]
    extra = titled.shape[0] - plain.shape[0]
    np.testing.assert_array_equal(titled[extra : extra + 400], plain[:400])
    assert titled[:extra].min() < 100


def test_small_pictures_are_enlarged(tmp_path):
    rgb, labels = np.full((30, 40, 3), 200, np.uint8), np.ones((30, 40), np.uint8)
    assert render(tmp_path / "o.png", rgb, labels).shape[1] >= 360


@pytest.mark.parametrize("size", [(1600, 33), (1600, 1), (16000, 2)])
def test_very_tall_pictures_take_no_more_memory_than_others(size):
    rgb, labels = np.full((*size, 3), 200, np.uint8), np.ones(size, np.uint8)
    picture = draw_overlay(rgb, labels, class_colors=["#ff0000"], um_per_px=3.0)
    assert picture.width * picture.height <= 4_000_000
    assert max(picture.size) <= 65_500


def test_many_classes_wrap(tmp_path, scene):
    rgb, labels = scene
    names = [f"a class called {n}" for n in range(21)]
    few = render(tmp_path / "a.png", rgb, labels)
    many = render(tmp_path / "b.png", rgb, labels, class_names=names, class_colors=["#102030"] * 21)
    assert many.shape[0] > few.shape[0] + 60


def test_the_same_input_gives_the_same_file(tmp_path, scene):
    for name in "ab":
        render(tmp_path / f"{name}.png", *scene)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


@pytest.mark.parametrize(
    ("labels", "options", "message"),
    [
        (np.zeros((4, 5), np.uint8), {}, "do not match"),
        (np.full((400, 600), 3, np.uint8), {}, "no class"),
        (np.zeros((400, 600), np.uint8), {"class_names": ("one",)}, "colours"),
        (np.zeros((400, 600), np.uint8), {"um_per_px": 0.0}, "positive"),
        (np.zeros((400, 600), np.uint8), {"class_colors": ("#12", "red")}, "color"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path, scene, labels, options, message):
    with pytest.raises(ValueError, match=message):
        render(tmp_path / "o.png", scene[0], labels, **options)
    assert not (tmp_path / "o.png").exists()


@given(st.floats(1e-3, 1e7))
def test_bar_lengths_are_round_and_fit(longest):
    length = round_length_um(longest)
    assert length <= longest * (1 + 1e-6)
    assert length > longest / 2.6
    mantissa = length / 10 ** np.floor(np.log10(length) + 1e-9)
    assert min(abs(mantissa - step) for step in (1, 2, 5)) < 1e-6


@pytest.mark.parametrize(
    ("value", "words"), [(0, "0"), (12.345, "12.3"), (1234.5, "1234"), (0.00123, "0.0012")]
)
def test_numbers_have_no_exponents(value, words):
    assert overlay.number(value) == words
