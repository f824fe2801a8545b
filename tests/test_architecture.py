"""The examples of docs/architecture.md do what the page says."""

from __future__ import annotations

import re
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from stub_network import make_stub

from wsi_sampath import SegmentSettings, segment_slide
from wsi_sampath.inference import run as run_module
from wsi_sampath.inference import semantic
from wsi_sampath.inference.semantic import open_class_layer
from wsi_sampath.slides.grid import plan_grid
from wsi_sampath.slides.readers import open as open_module
from wsi_sampath.slides.slide import Slide
from wsi_sampath.slides.stream import TileStream
from wsi_sampath.synthetic.painted import paint_slide

PAGE = Path(__file__).parents[1] / "docs" / "architecture.md"
EXAMPLES = dict(
    re.findall(r"^```python title=\"(\w+)\"\n(.*?)^```", PAGE.read_text("utf-8"), re.M | re.S)
)
SETTINGS = SegmentSettings(tissue="none", report=False, polygons=False, tile=128, workers=1)


def example(name: str) -> dict:
    names: dict = {}
    exec(compile(EXAMPLES[name], f"{PAGE.name}:{name}", "exec"), names)  # noqa: S102
    return names


@pytest.fixture(scope="module")
def painted(tmp_path_factory):
    path = tmp_path_factory.mktemp("architecture") / "a.svs"
    paint_slide(path, width=512, height=512)
    return path


def test_no_example_is_longer_than_it_says():
    assert set(EXAMPLES) == {"network", "output", "reader", "measurement"}
    assert all(len(text.splitlines()) <= 32 for text in EXAMPLES.values())


def test_another_network(painted, tmp_path):
    model = make_stub()
    network = example("network")["Darkness"]()
    spec = model.spec.model_copy(update={"classes": model.spec.classes[:2]})
    made = segment_slide(
        painted,
        tmp_path / "a.zarr",
        settings=SETTINGS,
        model=replace(model, module=network, spec=spec),
    )
    assert set(made.attributes["area_mm2"]) == {one.name for one in spec.classes}
    assert set(np.unique(made.read_labels())) <= {1, 2}


def test_another_output(painted, tmp_path, monkeypatch):
    layer = example("output")["Profile"]

    @contextmanager
    def opened(run, last):
        with open_class_layer(run, last) as plain:
            yield layer(plain.plan, plain.class_names, plain.pyramid, plain.tracer, plain.geojson)

    monkeypatch.setattr(run_module, "open_layer", opened)
    made = segment_slide(painted, tmp_path / "a.zarr", settings=SETTINGS, model=make_stub())
    labels = made.read_labels()
    assert made.attributes["profile"] == (labels > 0).mean(axis=1).tolist()


def test_another_reader(tmp_path, monkeypatch):
    reader = example("reader")["NumpyReader"]
    monkeypatch.setitem(open_module.READERS, reader.name, reader)
    pixels = np.random.default_rng(0).integers(0, 255, (300, 400, 3), np.uint8)
    np.save(tmp_path / "a.npy", pixels)
    with closing(open_module.open_reader(tmp_path / "a.npy")) as found:
        assert found.name == "numpy"
        assert np.array_equal(found.read(0, 10, 20, 30, 40), pixels[20:60, 10:40])
    with Slide.open(tmp_path / "a.npy") as slide:
        sampling = slide.sampling(0.5)
        grid = plan_grid(sampling, tile=256, overlap=0, stride=1)
        (first, *_) = TileStream(slide, sampling, grid, batch_size=1)
    assert np.array_equal(first.images[0], pixels[:256, :256])


def test_another_measurement(painted, tmp_path, monkeypatch):
    monkeypatch.setitem(semantic.MEASUREMENTS, "Circularity", example("measurement")["circularity"])
    settings = SETTINGS.model_copy(update={"polygons": True})
    made = segment_slide(painted, tmp_path / "a.zarr", settings=settings, model=make_stub())
    found = [region.measurements["Circularity"] for region in made.polygons()]
    assert found
    assert all(0 < value <= 1 for value in found)
