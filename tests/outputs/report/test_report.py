"""The report says what the result says, holds all it shows, and looks like something."""

import base64
import io
import re
import shutil
import subprocess
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from wsi_sampath.outputs.report.backdrop import Backdrop
from wsi_sampath.outputs.report.region import REGION
from wsi_sampath.outputs.report.report import (
    blank_backdrop,
    number,
    plain,
    render_report,
    sample_labels,
    write_report,
)
from wsi_sampath.outputs.result import open_result


class Page(HTMLParser):
    """Tags with their attributes, the words, and whether all tags are closed."""

    VOID = frozenset({"meta", "link", "img", "input", "br"})

    def __init__(self, text):
        super().__init__()
        self.tags, self.words, self.open = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())

    def images(self):
        sources = [a["src"] for tag, a in self.tags if tag == "img"]
        return [
            (source.split(";")[0], base64.b64decode(source.split(",")[1])) for source in sources
        ]


def backdrop(um=8.0):
    rng = np.random.default_rng(0)
    height, width = round(1300 * 3 / um), round(1100 * 2 / um)
    return Backdrop(rng.integers(180, 240, (height, width, 3), np.uint8), um, um)


def page(path, **options):
    return Page(render_report(open_result(path), zarr_name="s.zarr", **options))


def test_it_says_what_the_result_says(make_result):
    text = page(make_result(), backdrop=backdrop()).text
    for words in (
        "case 7 <x>.svs",
        "Segmented with a model, wsi_sampath 9.8.7",
        "Tumor <b> 1.92 49.6",
        "Stroma & co 1.95 50.4",
        "Absent 0 0",
        "0.500 × 0.750, from metadata",
        "Reader openslide",
        "1,234 analysed, 56 without tissue of their own, 0 failed",
        "Tissue (found by its stain) 4.50 52.4",
        "Architecture sam_path",
        "simplify um 0.5",
        "peak memory 812 MB",
        "cd" * 32,
    ):
        assert words in text, words
    assert "Warnings" not in text
    assert "Failed tiles" not in text
    assert "Settings tissue otsu simplify um 0.5 polygons yes" in text, "None says nothing"


def test_nothing_is_fetched_and_all_tags_close(make_result):
    made = page(make_result(), backdrop=backdrop())
    assert made.open == []
    links = [v for _, a in made.tags for k, v in a.items() if k in ("src", "href", "srcset")]
    assert [link for link in links if not link.startswith("data:")] == ["s.zarr", "s.geojson"]
    assert not {"script", "iframe", "object"} & {tag for tag, _ in made.tags}
    assert not re.search(r"url\(|@import", "".join(made.words))


def test_the_pictures_are_whole(make_result):
    images = page(make_result(), backdrop=backdrop()).images()
    assert [kind for kind, _ in images] == ["data:image/jpeg"] * 2
    overlay, slide = (np.asarray(Image.open(io.BytesIO(data))) for _, data in images)
    assert overlay.shape == slide.shape
    inside = np.s_[100:140, 120:180]
    assert overlay[inside].mean((0, 1))[0] > overlay[inside].mean((0, 1))[1] + 40
    assert abs(slide[inside].mean() - 210) < 3
    assert abs(overlay[:30, :30].mean() - slide[:30, :30].mean()) < 1


def test_the_region_is_shown_in_both_pictures_and_the_legend(make_result):
    made = page(make_result(region=[880.0, 1040.0, 2200.0, 2600.0]), backdrop=backdrop())
    assert "Absent region untinted" in made.text
    for _, data in made.images():
        picture = np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)
        height, width = picture.shape[:2]
        is_line = (abs(picture - REGION) < 60).all(2)
        left, right = round(0.2 * width), round(0.7 * width)
        top, bottom = round(0.2 * height), round(0.7 * height)
        assert is_line[top:bottom, [left - 2, right + 1]].all()
        assert is_line[[top - 2, bottom + 1], left:right].all()


def test_without_a_region_none_is_shown(make_result):
    assert "region" not in page(make_result(), backdrop=backdrop()).text.lower()


def test_the_table_of_nuclei_is_among_the_files(make_result):
    made = page(make_result(nuclei_table="a b.nuclei.parquet"))
    assert "a%20b.nuclei.parquet" in [a["href"] for tag, a in made.tags if tag == "a"]
    assert "a b.nuclei.parquet (table of nuclei)." in made.text


def test_bars_are_as_long_as_their_numbers(make_result):
    made = page(make_result(), backdrop=backdrop())
    styles = [a["style"] for tag, a in made.tags if tag == "span" and "width" in a.get("style", "")]
    widths = [float(style.partition("%")[0].removeprefix("width: ")) for style in styles]
    assert widths[:3] == [pytest.approx(75 * 1.92 / 1.95, abs=0.3), 75, 0]
    assert max(widths[3:]) == 75
    assert "Tumor <b> 1.92 mm² Stroma & co 1.95 mm² Absent 0 mm²" in made.text


def test_labels_fall_on_the_backdrop(make_result, labels):
    result = open_result(make_result())
    fine = Backdrop(np.zeros((3900, 2200, 3), np.uint8), 1.0, 1.0)
    np.testing.assert_array_equal(sample_labels(result, fine)[1::3, ::2], labels)
    wide = Backdrop(np.zeros((4000, 2300, 3), np.uint8), 1.0, 1.0)
    sampled = sample_labels(result, wide)
    assert not sampled[3900:].any()
    assert not sampled[:, 2200:].any()
    exact = Backdrop(np.zeros((1300, 1100, 3), np.uint8), 2.0, 3.0)
    np.testing.assert_array_equal(sample_labels(result, exact), labels)


def test_without_a_backdrop_the_map_stands_alone(make_result):
    path = make_result()
    made = page(path)
    assert len(made.images()) == 1
    assert "no small level" in made.text
    assert "input" not in {tag for tag, _ in made.tags}
    assert (blank_backdrop(open_result(path)).rgb == 255).all()


QUALITY = {
    "places": 41,
    "unstained": 0,
    "unread": 0,
    "judged": 40,
    "blurred": 0.25,
    "softness_um": 1.06,
    "pen": 0.02,
    "tissue_beside_pen": 0.035,
    "saturation": 0.41,
    "clipped": 0.0,
    "green_most": 0.97,
    "brown": 0.001,
    "looks_like": None,
    "doubts": ["25 % out of focus", "pen beside <3.5 %> of the tissue"],
}
UNKNOWN = dict.fromkeys(QUALITY) | {"places": 0, "unstained": 9, "unread": 0, "doubts": []}


def test_the_quality_is_told_with_its_doubts(make_result):
    text = page(make_result(quality=QUALITY)).text
    for words in (
        "Quality 25 % out of focus pen beside <3.5 %> of the tissue Focus",
        "25.0 % of 40 places blurred; edges 1.06 µm soft (median)",
        "on 2.00 % of the slide, beside 3.50 % of the tissue",
        "saturation 0.410 (median), 0 % clipped",
        "like H&E: 97.0 % absorb green most, 0.100 % brown",
    ):
        assert words in text, words


def test_what_of_the_quality_is_unknown_is_not_made_up(make_result):
    text = page(make_result(quality=UNKNOWN)).text
    told = "Focus slide too coarse to judge it Marker not looked for Colour not judged Stain too"
    assert told in text


def test_results_of_earlier_versions_have_no_quality(make_result):
    assert "Quality" not in page(make_result()).text


def test_warnings_and_failures_are_told(make_result):
    failures = [{"box": [n, 2, 3, 4], "reason": f"torn <{n}>"} for n in range(25)]
    tiles = {"analysed": 70, "skipped": 5, "failed": 30, "failures": failures}
    made = page(make_result(tiles=tiles, warnings=["mpp <differs>"], region=[1.0, 2, 3, 4.5]))
    assert "mpp <differs>" in made.text
    assert "30 of 100 tiles failed" in made.text
    assert "19, 2, 3, 4 torn <19>" in made.text
    assert "torn <20>" not in made.text
    assert "and 10 more" in made.text
    assert "1, 2, 3, 4.5 (x, y, width, height in level-0 px)" in made.text


def test_nothing_found_and_no_polygons(make_result):
    areas = {"Tumor <b>": 0.0, "Stroma & co": 0.0, "Absent": 0.0}
    made = page(make_result(area_mm2=areas, polygons=None, geojson=None))
    assert "polygons" not in made.text.replace("polygons yes", "")
    assert "Tumor <b> 0 0" in made.text


def test_an_interrupted_run_says_so(make_result):
    assert "An earlier run was stopped" in page(make_result(resumed_after_strip=3)).text


def test_writing_is_all_or_nothing(make_result, tmp_path, monkeypatch):
    result = open_result(make_result())
    target = tmp_path / "s.html"
    target.write_text("old")
    with monkeypatch.context() as patch:
        patch.setattr("pathlib.Path.replace", lambda *_: (_ for _ in ()).throw(OSError(28, "full")))
        with pytest.raises(OSError, match="full"):
            write_report(result, target, zarr_name="s.zarr")
    assert target.read_text() == "old"
    write_report(result, target, zarr_name="s.zarr")
    first = target.read_bytes()
    write_report(result, target, zarr_name="s.zarr")
    assert target.read_bytes() == first
    assert not list(tmp_path.glob("*.partial"))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.000123456, "0.000123"),
        (0.5, "0.500"),
        (12.345, "12.3"),
        (999.4, "999"),
        (1234567, "1,234,567"),
        (float("nan"), "–"),
    ],
)
def test_numbers_have_three_digits(value, text):
    assert number(value) == text


def test_settings_read_like_words():
    shown = [plain(one) for one in (True, False, 1.5, [1, 2.0], "otsu", 3)]
    assert shown == ["yes", "no", "1.5", "1, 2", "otsu", "3"]


def look(chromium, path, picture):
    """Take a picture of a page; return it, and what the page said on the console."""
    words = [chromium, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
    words += ["--enable-logging=stderr", "--window-size=1200,1800", f"--screenshot={picture}"]
    words += [f"--user-data-dir={picture.parent / 'profile'}", path.as_uri()]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120)
    assert picture.exists(), done.stderr
    said = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    return np.asarray(Image.open(picture).convert("RGB")), said


@pytest.fixture(scope="module")
def chromium():
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
    if found is None:
        pytest.skip("chromium is not installed")
    return found


def test_chromium_shows_it(chromium, make_result, tmp_path):
    target = tmp_path / "s.html"
    write_report(open_result(make_result()), target, zarr_name="s.zarr", backdrop=backdrop())
    shot, said = look(chromium, target, tmp_path / "shot.png")
    assert said == []
    assert shot.shape == (1800, 1200, 3)
    pixels = shot.reshape(-1, 3)
    assert (pixels == (0xC8, 0, 0)).all(1).sum() > 1000, "legend and chart in the class colour"
    assert (pixels == (0x1E, 0x78, 0xB4)).all(1).sum() > 1000
    assert (pixels == 255).all(1).sum() > 200_000
    assert len(np.unique(pixels, axis=0)) > 1000


def test_the_look_would_see_an_error(chromium, tmp_path):
    path = tmp_path / "bad.html"
    path.write_text("<script>console.error('broken')</script>")
    _, said = look(chromium, path, tmp_path / "shot.png")
    assert any("broken" in line for line in said)


def test_the_run_can_be_told_from_others(make_result):
    made = {
        "finished": "2026-11-27T22:10:00+00:00",
        "command": "wsi-segment '<x>.svs' --out s.zarr",
        "host": "reading-room",
        "versions": {"python": "3.12.1", "torch": "2.9.0"},
    }
    text = page(make_result(made=made, precision="fp32", tile=1024, overlap=256)).text
    for said in ("2026-11-27T22:10:00+00:00", "reading-room", "python 3.12.1, torch 2.9.0"):
        assert said in text
    assert "wsi-segment '<x>.svs' --out s.zarr" in text
    assert "1024 px, overlap 256 px" in text
