from __future__ import annotations

import errno
import json
import platform
import sys
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import shapely
import zarr
from ome_zarr_models.v04.image import Image as Image04
from ome_zarr_models.v04.image_label import ImageLabel as ImageLabel04
from stub_network import FailingNetwork, StubNetwork, dense_reference, make_stub

from wsi_sampath.errors import UsageError, WsiError
from wsi_sampath.inference import segmenter as run_module
from wsi_sampath.inference.segmenter import segment_slide
from wsi_sampath.inference.settings import SegmentSettings
from wsi_sampath.inference.summary import circumstances
from wsi_sampath.outputs.omezarr.pyramid import PyramidWriter
from wsi_sampath.outputs.qupath.rules import check_geojson
from wsi_sampath.slides.readers.open import TileError
from wsi_sampath.slides.slide import Slide
from wsi_sampath.synthetic.painted import paint_slide


def settings(**values) -> SegmentSettings:
    return SegmentSettings.build({"workers": 2, "device": "cpu", "report": False, **values})


def leftovers(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture(scope="module")
def result(painted, tmp_path_factory):
    """One run on everything, shared by the tests that only look."""
    out = tmp_path_factory.mktemp("run") / "painted.zarr"
    return segment_slide(painted.path, out, settings=settings(tissue="none"), model=make_stub())


@pytest.fixture(scope="module")
def whole(painted):
    """The network's answer on the whole plane at once."""
    with Slide.open(painted.path) as slide:
        plane = slide.read(x0=0, y0=0, width=3000, height=2300, mpp=0.5)
    return dense_reference(make_stub(), plane)


def test_maps_equal_one_pass_over_the_whole_plane(result, whole):
    root = zarr.open_group(result.zarr, mode="r")
    probabilities, labels = root["0"][:], root["labels/classes/0"][:]
    assert probabilities.shape == (3, 575, 750)
    assert np.abs(probabilities / 255 - whole).max() < 1 / 255
    sure = np.diff(np.sort(whole, axis=0)[-2:], axis=0)[0] > 1e-3
    assert np.array_equal(labels[sure], (whole.argmax(0) + 1)[sure])


@pytest.mark.parametrize("overlap", [0, 3, 64, 200, 244])
def test_overlap_changes_nothing_for_a_network_without_context(painted, tmp_path, whole, overlap):
    made = segment_slide(
        painted.path,
        tmp_path / "o.zarr",
        settings=settings(
            tissue="none", overlap=overlap, polygons=False, region=(200, 300, 520, 400)
        ),
        model=make_stub(),
    )
    probabilities = zarr.open_group(made.zarr, mode="r")["0"][:]
    inside = np.s_[:, 75:175, 50:180]
    assert np.abs(probabilities[inside] / 255 - whole[inside]).max() < 1 / 255
    probabilities[inside] = 0
    assert not probabilities.any()


def test_batch_size_and_workers_change_nothing(painted, tmp_path, result):
    other = segment_slide(
        painted.path,
        tmp_path / "b.zarr",
        settings=settings(tissue="none", batch_size=7, workers=1),
        model=make_stub(),
    )
    for name in ("0", "labels/classes/0"):
        a, b = (zarr.open_group(r.zarr, mode="r")[name][:] for r in (result, other))
        assert np.array_equal(a, b)
    assert result.geojson.read_bytes() == other.geojson.read_bytes()


def test_zarr_is_valid_ngff(result):
    root = zarr.open_group(result.zarr, mode="r")
    image = Image04.from_zarr(root)
    assert [axis.name for axis in image.attributes.multiscales[0].axes] == ["c", "y", "x"]
    label = ImageLabel04.from_zarr(root["labels/classes"])
    names = [p.model_extra["class"] for p in label.attributes.image_label.properties]
    assert names == ["not analysed", "class 1", "class 2", "class 3"]


def test_polygons_agree_with_the_label_plane(result):
    labels = zarr.open_group(result.zarr, mode="r")["labels/classes/0"][:]
    collection = json.loads(result.geojson.read_text())
    area = dict.fromkeys(range(1, 4), 0.0)
    for feature in collection["features"]:
        value = int(feature["properties"]["classification"]["name"].split()[-1])
        geometry = shapely.geometry.shape(feature["geometry"])
        assert geometry.is_valid
        area[value] += geometry.area
        stated = feature["properties"]["measurements"]["Area µm^2"]
        assert stated == pytest.approx(geometry.area * 0.25, rel=1e-3, abs=0.02)
    for value in area:
        assert area[value] == pytest.approx((labels == value).sum() * 16)
    assert check_geojson(result.geojson) == []


def test_attributes_tell_everything(result, painted):
    run = result.attributes
    assert run["complete"] is True
    assert run["reader"] == "tiff"
    assert run["mpp"]["source"] == "metadata"
    assert run["mpp"]["output"] == [2.0, 2.0]
    assert run["tiles"]["analysed"] > 100
    assert run["tiles"]["failed"] == 0
    assert sum(run["area_mm2"].values()) == pytest.approx(750 * 575 * 4e-6)
    assert run["polygon_area_mm2"] == pytest.approx(run["area_mm2"])
    assert {"read", "network", "blend", "write", "vectorise", "total"} <= set(run["seconds"])
    assert run["peak_memory_mb"] > 50
    assert run["quality"]["blurred"] == 0
    assert run["quality"]["doubts"] == []
    made = run["made"]
    assert datetime.now(UTC) - datetime.fromisoformat(made["finished"]) < timedelta(hours=1)
    assert made["host"] == platform.node()
    assert made["versions"]["torch"] == version("torch")
    assert made["command"]
    stored = zarr.open_group(result.zarr, mode="r").attrs["wsi_sampath"]
    assert stored == run


def test_the_command_of_a_result_holds_no_signature(monkeypatch):
    words = ["/bin/wsi-segment", "https://h/my slide.svs?sig=hidden", "--out", "my a.zarr"]
    monkeypatch.setattr(sys, "argv", words)
    told = "wsi-segment 'https://h/my slide.svs' --out 'my a.zarr'"
    assert circumstances()["command"] == told


def test_places_fall_together(painted, tmp_path):
    """A point in the slide, in the zarr at every level and in the GeoJSON is the same point."""
    made = segment_slide(
        painted.path,
        tmp_path / "p.zarr",
        settings=settings(tissue="none", mpp=0.7),
        model=make_stub(mpp=0.7),
    )
    root = zarr.open_group(made.zarr, mode="r")
    for data in root.attrs["multiscales"][0]["datasets"]:
        (_, sy, sx), (_, ty, tx) = (
            t.get("scale") or t["translation"] for t in data["coordinateTransformations"]
        )
        height, width = root[data["path"]].shape[1:]
        left, right = tx - sx / 2, tx + sx * (width - 0.5)
        top, bottom = ty - sy / 2, ty + sy * (height - 0.5)
        half = 0.7 / 2 * 2 ** int(data["path"])
        assert left == pytest.approx(-0.25, abs=1e-6)
        assert top == pytest.approx(-0.25, abs=1e-6)
        assert -half <= right - (3000 * 0.5 - 0.25) <= 4 * 2 * half + half
        assert -half <= bottom - (2300 * 0.5 - 0.25) <= 4 * 2 * half + half
    features = json.loads(made.geojson.read_text())["features"]
    bounds = shapely.total_bounds([shapely.geometry.shape(f["geometry"]) for f in features])
    assert bounds.tolist() == [0, 0, 3000, 2300]


def test_only_tissue_is_analysed(painted, tmp_path):
    made = segment_slide(painted.path, tmp_path / "t.zarr", settings=settings(), model=make_stub())
    labels = zarr.open_group(made.zarr, mode="r")["labels/classes/0"][:] > 0
    truth = painted.truth.label_at(2.0) > 0
    truth = truth[: labels.shape[0], : labels.shape[1]]
    labels = labels[: truth.shape[0], : truth.shape[1]]
    assert (labels & truth).sum() / truth.sum() > 0.97
    assert (labels & ~truth).sum() / truth.sum() < 0.15
    assert made.attributes["tiles"]["skipped"] > 0


@pytest.mark.parametrize("kind", ["png", "geojson"])
def test_a_given_mask_is_what_is_analysed(painted, tmp_path, kind):
    path = tmp_path / f"mask.{kind}"
    if kind == "png":
        mask = np.zeros((230, 300), np.uint8)
        mask[60:140, 100:220] = 255
        PIL.Image.fromarray(mask).save(path)
    else:
        shape = shapely.box(1000, 600, 2200, 1400)
        feature = {"type": "Feature", "geometry": shapely.geometry.mapping(shape), "properties": {}}
        path.write_text(json.dumps({"type": "FeatureCollection", "features": [feature]}))
    made = segment_slide(
        painted.path, tmp_path / "m.zarr", settings=settings(tissue=str(path)), model=make_stub()
    )
    analysed = zarr.open_group(made.zarr, mode="r")["labels/classes/0"][:] > 0
    want = np.zeros_like(analysed)
    want[150:350, 250:550] = True
    assert (analysed & want).sum() / (analysed | want).sum() > 0.97
    assert made.attributes["tiles"]["analysed"] < made.attributes["tiles"]["skipped"]


def test_variants_of_the_output(painted, tmp_path, whole):
    made = segment_slide(
        painted.path,
        tmp_path / "v.zarr",
        settings=settings(
            tissue="none",
            zarr_format=3,
            probabilities=False,
            geojson=str(tmp_path / "v.geojson.gz"),
            region=(0, 0, 1000, 800),
            output_mpp=4.0,
        ),
        model=make_stub(),
    )
    root = zarr.open_group(made.zarr, mode="r")
    assert root.metadata.zarr_format == 3
    assert root.attrs["ome"]["version"] == "0.5"
    assert root["0"].ndim == 2
    assert root["0"].shape == (288, 375)
    assert np.array_equal(root["0"][:], root["labels/classes/0"][:])
    assert check_geojson(made.geojson) == []
    fine = segment_slide(
        painted.path,
        tmp_path / "f.zarr",
        settings=settings(tissue="none", polygons=False, region=(0, 0, 400, 400), output_mpp=0.5),
        model=make_stub(),
    )
    assert fine.geojson is None
    assert zarr.open_group(fine.zarr, mode="r")["0"].shape == (3, 2300, 3000)


def test_the_same_run_again_does_nothing(painted, tmp_path):
    model = make_stub()
    arguments = {"settings": settings(region=(900, 700, 600, 600), tissue="none"), "model": model}
    first = segment_slide(painted.path, tmp_path / "a.zarr", **arguments)
    calls = len(model.module.calls)
    again = segment_slide(painted.path, tmp_path / "a.zarr", **arguments)
    assert again.reused
    assert again.attributes == first.attributes
    assert len(model.module.calls) == calls


def test_other_settings_need_force(painted, tmp_path):
    out = tmp_path / "a.zarr"
    base = {"region": (900, 700, 600, 600), "tissue": "none"}
    segment_slide(painted.path, out, settings=settings(**base), model=make_stub())
    with pytest.raises(WsiError, match="overlap was None, now 32") as caught:
        segment_slide(painted.path, out, settings=settings(overlap=32, **base), model=make_stub())
    assert caught.value.reason == "bad-input"
    made = segment_slide(
        painted.path, out, settings=settings(overlap=32, force=True, **base), model=make_stub()
    )
    assert made.attributes["settings"]["overlap"] == 32
    assert leftovers(tmp_path) == ["a.geojson", "a.zarr"]


@pytest.mark.parametrize("force", [False, True])
def test_what_is_not_ours_is_never_touched(painted, tmp_path, force):
    out = tmp_path / "a.zarr"
    out.mkdir()
    (out / "precious.txt").write_text("mine")
    with pytest.raises(WsiError, match="not a result of ours"):
        segment_slide(painted.path, out, settings=settings(force=force), model=make_stub())
    assert (out / "precious.txt").read_text() == "mine"


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (KeyboardInterrupt(), "interrupted"),
        (MemoryError(), "out-of-memory"),
        (RuntimeError("CUDA out of memory. Tried to allocate"), "out-of-memory"),
        (OSError(errno.ENOSPC, "No space left on device"), "disk-full"),
        (PermissionError(errno.EACCES, "Permission denied", "/x"), "bad-input"),
    ],
)
def test_a_run_that_fails_leaves_nothing_that_looks_finished(painted, tmp_path, error, reason):
    out = tmp_path / "a.zarr"
    with pytest.raises(WsiError) as caught:
        segment_slide(
            painted.path,
            out,
            settings=settings(tissue="none", batch_size=1),
            model=make_stub(network=FailingNetwork(error, after=3)),
        )
    assert caught.value.reason == reason
    assert caught.value.subject == str(painted.path)
    assert "\n" not in caught.value.line()
    assert not out.exists()
    assert not (tmp_path / "a.geojson").exists()
    assert not (tmp_path / "a.zarr.claim").exists()
    made = segment_slide(
        painted.path, out, settings=settings(tissue="none", batch_size=1), model=make_stub()
    )
    assert made.attributes["complete"]
    assert leftovers(tmp_path) == ["a.geojson", "a.zarr"]


def test_memory_shortage_halves_the_batch(painted, tmp_path):
    class Small(StubNetwork):
        def forward(self, images):
            if len(images) > 2:
                raise RuntimeError("CUDA out of memory")
            return super().forward(images)

    network = Small()
    made = segment_slide(
        painted.path,
        tmp_path / "a.zarr",
        settings=settings(tissue="none", batch_size=8, polygons=False),
        model=make_stub(network=network),
    )
    assert max(network.calls) == 2
    assert sum(network.calls) == made.attributes["tiles"]["analysed"]


def test_an_error_of_the_program_is_not_dressed_up(painted, tmp_path):
    with pytest.raises(RuntimeError, match="shape mismatch"):
        segment_slide(
            painted.path,
            tmp_path / "a.zarr",
            settings=settings(),
            model=make_stub(network=FailingNetwork(RuntimeError("shape mismatch"), after=3)),
        )


def test_bad_tiles_are_counted_located_and_left_out(painted, tmp_path, monkeypatch):
    read = Slide.read_sampled

    def fail_somewhere(self, plan, x, y, width, height):
        if plan.mpp_x < 1 and (x, y) == (1024, 512):
            raise TileError("cosmic ray")
        return read(self, plan, x, y, width, height)

    monkeypatch.setattr(Slide, "read_sampled", fail_somewhere)
    arguments = {
        "model": make_stub(),
        "settings": settings(tissue="none", overlap=0, max_bad_tiles=0.05),
    }
    made = segment_slide(painted.path, tmp_path / "a.zarr", **arguments)
    tiles = made.attributes["tiles"]
    assert tiles["failed"] == 1
    assert tiles["failures"] == [{"box": [1024, 512, 256, 256], "reason": "cosmic ray"}]
    labels = zarr.open_group(made.zarr, mode="r")["labels/classes/0"][:]
    hole = np.s_[128:192, 256:320]
    assert not labels[hole].any()
    labels[hole] = 1
    assert labels.all()
    with pytest.raises(WsiError, match="cosmic ray") as caught:
        segment_slide(
            painted.path,
            tmp_path / "b.zarr",
            model=make_stub(),
            settings=settings(tissue="none", overlap=0, max_bad_tiles=0.001),
        )
    assert caught.value.reason == "unreadable"
    assert not (tmp_path / "b.zarr").exists()


def test_a_network_that_answers_nan_is_counted(painted, tmp_path):
    class Sick(StubNetwork):
        def maps(self, images, side):
            answer = super().maps(images, side)
            if len(self.calls) == 5:
                answer[0, 0, 0, 0] = float("nan")
            return answer

    made = segment_slide(
        painted.path,
        tmp_path / "a.zarr",
        settings=settings(tissue="none", max_bad_tiles=0.05, batch_size=4),
        model=make_stub(network=Sick()),
    )
    assert made.attributes["tiles"]["failed"] == 1
    assert "not finite" in made.attributes["tiles"]["failures"][0]["reason"]


def test_full_disk_while_writing(painted, tmp_path, monkeypatch):
    def full(self, image, y, rows):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(PyramidWriter, "append", full)
    with pytest.raises(WsiError) as caught:
        segment_slide(painted.path, tmp_path / "a.zarr", settings=settings(), model=make_stub())
    assert caught.value.reason == "disk-full"
    assert not (tmp_path / "a.zarr").exists()


def test_busy_output(painted, tmp_path):
    out = tmp_path / "a.zarr"
    with run_module.Claim(tmp_path / "a.zarr.claim"), pytest.raises(WsiError) as caught:
        segment_slide(painted.path, out, settings=settings(), model=make_stub())
    assert caught.value.reason == "busy"
    dead = {"host": __import__("socket").gethostname(), "pid": 2**22 + 1}
    (tmp_path / "a.zarr.claim").write_text(json.dumps(dead))
    assert segment_slide(painted.path, out, settings=settings(), model=make_stub()).zarr == out


def test_no_tissue(tmp_path):
    path = tmp_path / "glass.svs"
    paint_slide(path, width=1024, height=1024, pieces=0)
    with pytest.raises(WsiError) as caught:
        segment_slide(path, tmp_path / "a.zarr", settings=settings(), model=make_stub())
    assert caught.value.reason == "no-tissue"
    assert leftovers(tmp_path) == ["glass.svs"]


@pytest.mark.parametrize(
    "values",
    [
        {"overlap": 256},
        {"tile": 130},
        {"region": (90000, 0, 10, 10)},
        {"tissue": "none.png"},
        {"device": "cuda:99"},
        {"device": "abacus"},
        {"geojson": "polygons.txt"},
    ],
)
def test_settings_that_do_not_fit(painted, tmp_path, values):
    with pytest.raises(WsiError) as caught:
        segment_slide(
            painted.path, tmp_path / "a.zarr", settings=settings(**values), model=make_stub()
        )
    assert caught.value.reason == "bad-input"
    assert not (tmp_path / "a.zarr").exists()


def test_output_name(painted, tmp_path):
    with pytest.raises(UsageError):
        segment_slide(painted.path, tmp_path / "a", settings=settings(), model=make_stub())


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"overlp": 3}, "did you mean 'overlap'"),
        ({"mpp": -1}, "setting mpp"),
        ({"zarr_format": 4}, "setting zarr_format"),
        ({"precision": "fp8"}, "setting precision"),
    ],
)
def test_wrong_settings_are_named(values, words):
    with pytest.raises(UsageError, match=words):
        SegmentSettings.build(values)
