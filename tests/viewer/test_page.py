"""The page in a browser: seen, clicked, killed and seen again."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from wsi_sampath.outputs.qupath.rules import judge_geojson

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium to drive the page")

# In names of files, classes and annotations; whatever of it were taken as HTML would be an element.
MARKUP = "<img src=x onerror=document.title='taken'>"
PAINTED = f"painted {MARKUP.replace('/', '')}.svs"
CLICKED = "clicked.svs"
# A nucleus of CMU-1-Small-Region, level-0 px.
NUCLEUS = (1401, 1200)
PATIENCE_MS = 120_000
START = "import sys; from wsi_sampath.cli.view import main; main()"


class Server:
    """A wsi-view of its own, in a process that can be killed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.start()

    def start(self) -> None:
        words = [self.folder, "--model", "nuclei-mini", "--device", "cpu", "--no-browser"]
        self.process = subprocess.Popen(
            [sys.executable, "-c", START, *map(str, words)],
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
        assert self.process.stdout is not None
        lines = iter(self.process.stdout.readline, "")
        self.link = next(line for line in lines if "#token=" in line).split()[-1]

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


class Seen:
    """A tab, and what it asked for and complained about."""

    def __init__(self, page) -> None:
        self.page, self.asked, self.complaints = page, [], []
        self.ended = 0
        page.set_default_timeout(PATIENCE_MS)
        page.on("request", lambda one: self.asked.append(one.url))
        page.on("requestfinished", lambda _: self._end())
        page.on("requestfailed", lambda _: self._end())
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("console", lambda one: self._hear(one))

    def _hear(self, message) -> None:
        if message.type == "error":
            self.complaints.append(message.text)

    def _end(self) -> None:
        self.ended += 1

    def quiet(self) -> None:
        """Wait until everything asked for is there, and nothing more is asked for."""
        before = -1
        while before != len(self.asked) or self.ended < len(self.asked):
            before = len(self.asked)
            self.page.wait_for_timeout(500)

    def open(self, link: str) -> None:
        self.page.goto("about:blank")
        self.page.goto(link)
        self.page.wait_for_selector("#page[data-ready]")

    def shown(self, sheet: str) -> int:
        """How many px of an overlay are not clear, once this no longer changes."""
        before, now = -1, self._shown(sheet)
        while before != now:
            self.page.wait_for_timeout(300)
            before, now = now, self._shown(sheet)
        return now

    def _shown(self, sheet: str) -> int:
        return self.page.evaluate(
            """(sheet) => {
                const canvas = document.querySelector(`.${sheet}`);
                const { width, height } = canvas;
                const { data } = canvas.getContext("2d").getImageData(0, 0, width, height);
                return data.filter((value, at) => at % 4 === 3 && value > 0).length;
            }""",
            sheet,
        )


@pytest.fixture(scope="module")
def folder(viewed, tmp_path_factory) -> Path:
    """A painted slide with a result, and one to be clicked on."""
    folder = tmp_path_factory.mktemp("page") / "slides"
    shutil.copytree(viewed.slide.parent, folder)
    (folder / viewed.slide.name).rename(folder / PAINTED)
    attributes = folder / "painted.zarr" / ".zattrs"
    told = json.loads(attributes.read_text(encoding="utf-8"))
    told["wsi_sampath"]["slide"]["name"] = PAINTED
    attributes.write_text(json.dumps(told), encoding="utf-8")
    data = os.environ.get("WSI_SAMPATH_DATA")
    real = Path(data or "nowhere", "slides", "CMU-1-Small-Region.svs")
    shutil.copy(real if real.is_file() else viewed.slide, folder / CLICKED)
    return folder


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    with sync_api.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=CHROMIUM, args=["--disable-gpu"])
        yield started
        started.close()


@pytest.fixture(scope="module")
def server(folder) -> Iterator[Server]:
    started = Server(folder)
    yield started
    started.kill()


@pytest.fixture
def seen(browser) -> Iterator[Seen]:
    context = browser.new_context(viewport={"width": 1000, "height": 640}, reduced_motion="reduce")
    tab = Seen(context.new_page())
    yield tab
    assert tab.complaints == []
    context.close()


def test_slides_and_results_are_seen(server, seen):
    page = seen.page
    seen.open(server.link)
    assert page.locator(".card h2").all_text_contents() == [CLICKED, PAINTED]
    assert page.locator(".card img").count() == 2, "the pictures, and none that a name asked for"
    page.get_by_label("Filter by name").fill("painted")
    page.locator(".card a").click()
    page.wait_for_selector(".slide-page[data-ready] .classes input")
    assert page.locator("h1").text_content() == PAINTED
    assert page.locator("h1 img").count() == 0
    assert "token" not in page.url

    for _ in range(2):
        page.keyboard.press("+")
    page.locator(".classes td", has_text="m²").first.wait_for()
    seen.quiet()
    filled = seen.shown("fills")
    assert filled > 0
    assert re.fullmatch(r"[\d.]+ µm", page.locator(".scale-length").text_content())

    before = len(seen.asked)
    page.locator(".classes input").first.uncheck()
    assert seen.shown("fills") < filled, "a class is gone"
    page.keyboard.press("k")
    assert seen.shown("fills") == 0, "contours alone"
    assert seen.shown("lines") > 0
    assert seen.asked[before:] == [], "no toggle asks the server"
    page.keyboard.press("k")
    page.locator(".classes input").first.check()

    page.mouse.move(400, 330)
    page.wait_for_selector(".tip:not([hidden]) .tip-class")
    where = page.url
    assert "&zoom=" in where
    assert "&results=" in where
    page.goto("about:blank")
    page.goto(where)
    page.wait_for_selector("#page[data-ready]")
    assert seen.shown("fills") > 0
    assert page.url == where, "the link brings the view back"


def test_what_is_clicked_outlives_a_killed_server(server, seen, tmp_path):
    page = seen.page
    seen.open(server.link)
    page.locator(".card a").first.click()
    page.wait_for_selector(".slide-page[data-ready]")
    slide = re.search(r"slide=(\w+)", page.url)[1]
    seen.open(f"{server.link}&slide={slide}&x={NUCLEUS[0]}&y={NUCLEUS[1]}&zoom=2")

    page.get_by_label("Name of a new class, or of one to recolour").fill(MARKUP)
    page.keyboard.press("Enter")
    page.wait_for_selector(f".chip:has-text({json.dumps(MARKUP)}) input:checked", state="attached")
    page.locator(".surface").evaluate("() => document.activeElement.blur()")
    page.keyboard.press("p")
    page.keyboard.press("x")  # A click in the middle of the view.
    page.wait_for_selector(".prompt-bar .primary:not([hidden])")
    assert "IoU" in page.locator(".prompt-text").text_content()
    page.keyboard.press("Enter")
    rows = page.locator(".objects li")
    rows.first.wait_for()
    page.keyboard.press("Control+z")
    rows.first.wait_for(state="detached")
    page.keyboard.press("Control+Shift+Z")
    rows.first.wait_for()
    assert page.locator(".objects img, .chips img").count() == 0

    server.kill()
    server.start()
    seen.complaints.clear()  # That the connection broke.
    seen.open(f"{server.link}&slide={slide}")
    rows.first.wait_for()
    assert page.locator(".object-name").all_text_contents() == [MARKUP]
    assert page.title() != "taken"
    with page.expect_download() as download:
        page.get_by_role("link", name="Export").click()
    saved = tmp_path / "saved.geojson"
    download.value.save_as(saved)
    (feature,) = json.loads(saved.read_bytes())["features"]
    assert feature["properties"]["classification"]["name"] == MARKUP
    assert [str(one) for one in judge_geojson(saved)] == []
