from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from ome_zarr.io import parse_url
from ome_zarr.reader import Reader
from ome_zarr_models import open_ome_zarr

from wsi_sampath.outputs.omezarr.downsample import halve_mean, halve_mode, pyramid_shapes
from wsi_sampath.outputs.omezarr.ngff import PlaneScale
from wsi_sampath.outputs.omezarr.pyramid import PyramidSpec, PyramidWriter, read_attributes
from wsi_sampath.outputs.omezarr.stored_chunks import count_chunks

CLASSES = (("Tumor", "#c80000"), ("Stroma: loose", "#96c896"))
SCALE = PlaneScale(2.0, 3.0, 0.5, 0.75)


def make_maps(height: int, width: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, (height // 7 + 1, width // 7 + 1), np.uint8)
    labels = labels.repeat(7, 0).repeat(7, 1)[:height, :width]
    return labels, rng.integers(0, 256, (2, height, width), np.uint8)


def write(path: Path, labels: np.ndarray, planes: np.ndarray, step: int, **spec) -> Path:
    height, width = labels.shape
    writer = PyramidWriter(path, PyramidSpec("s.svs", height, width, SCALE, CLASSES, **spec))
    for y in range(0, height, step):
        writer.append(y, labels[y : y + step], planes[:, y : y + step])
    writer.finish({"complete": True})
    return path


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("probabilities", [True, False])
def test_valid_and_complete(tmp_path, zarr_format, probabilities):
    labels, planes = make_maps(2100, 1500)
    path = write(
        tmp_path / "a.zarr",
        labels,
        planes,
        192,
        zarr_format=zarr_format,
        probabilities=probabilities,
    )
    root = zarr.open_group(path, mode="r")
    model = open_ome_zarr(root)
    assert model.ome_zarr_version == {2: "0.4", 3: "0.5"}[zarr_format]
    open_ome_zarr(root["labels/classes"])
    assert np.array_equal(root["labels/classes/0"][:], labels)
    assert np.array_equal(root["0"][:], planes if probabilities else labels)
    assert [root[f"labels/classes/{i}"].shape for i in range(3)] == [
        (2100, 1500),
        (1050, 750),
        (525, 375),
    ]
    assert "3" not in root
    assert root["0"].chunks == ((1, 1024, 1024) if probabilities else (1024, 1024))
    assert read_attributes(path) == {"complete": True, "chunks": count_chunks(path)}


@given(
    height=st.integers(1, 2300),
    width=st.integers(1, 40),
    step=st.integers(1, 1500),
    seed=st.integers(0, 99),
)
@settings(max_examples=25, deadline=None)
def test_levels_do_not_depend_on_how_rows_arrive(tmp_path_factory, height, width, step, seed):
    labels, planes = make_maps(height, width, seed)
    path = write(tmp_path_factory.mktemp("p") / "a.zarr", labels, planes, step)
    root = zarr.open_group(path, mode="r")
    for level, shape in enumerate(pyramid_shapes(height, width)):
        assert root[f"labels/classes/{level}"].shape == shape
        assert np.array_equal(root[f"labels/classes/{level}"][:], labels)
        assert np.array_equal(root[str(level)][:], planes)
        labels, planes = halve_mode(labels), halve_mean(planes)


def test_rows_left_out_are_zero_and_not_stored(tmp_path):
    spec = PyramidSpec("s", 5000, 300, SCALE, CLASSES)
    writer = PyramidWriter(tmp_path / "a.zarr", spec)
    labels, planes = make_maps(100, 300)
    writer.append(3000, labels, planes)
    writer.finish({})
    stored = zarr.open_group(tmp_path / "a.zarr", mode="r")["labels/classes/0"][:]
    assert np.array_equal(stored[3000:3100], labels)
    assert not stored[:3000].any()
    assert not stored[3100:].any()
    chunks = {
        p.relative_to(tmp_path / "a.zarr" / "0").as_posix()
        for p in (tmp_path / "a.zarr" / "0").rglob("*")
        if p.is_file() and not p.name.startswith(".")
    }
    assert chunks == {f"{c}/{y}/0" for c in range(2) for y in (2, 3)}


def test_halving_keeps_the_commonest_label():
    labels = np.array([[1, 1, 2, 3], [2, 3, 3, 3], [0, 0, 5, 6], [0, 1, 7, 8]], np.uint8)
    assert halve_mode(labels).tolist() == [[1, 3], [0, 5]]
    assert halve_mean(np.array([[0, 1], [1, 1]], np.uint8)).tolist() == [[1]]
    assert halve_mean(np.array([[200, 100, 50]], np.uint8)).tolist() == [[150, 50]]


@given(seed=st.integers(0, 200))
@settings(max_examples=40, deadline=None)
def test_mode_is_a_mode(seed):
    labels = np.random.default_rng(seed).integers(0, 4, (6, 8), np.uint8)
    half = halve_mode(labels)
    for y, x in np.ndindex(half.shape):
        counts = np.bincount(labels[2 * y : 2 * y + 2, 2 * x : 2 * x + 2].ravel(), minlength=4)
        assert counts[half[y, x]] == counts.max()


def test_every_level_shares_the_upper_left_corner():
    for level in range(5):
        (um_x, um_y), (off_x, off_y) = SCALE.at(level)
        assert off_x - um_x / 2 == pytest.approx(-0.25)
        assert off_y - um_y / 2 == pytest.approx(-0.375)


def test_readers_of_others_see_the_same(tmp_path):
    labels, planes = make_maps(1300, 1100)
    path = write(tmp_path / "a.zarr", labels, planes, 200)
    nodes = {Path(n.zarr.path).name: n for n in Reader(parse_url(str(path)))()}
    assert np.array_equal(np.asarray(nodes["a.zarr"].data[0]), planes)
    assert nodes["a.zarr"].metadata["channel_names"] == ["Tumor", "Stroma: loose"]
    assert np.array_equal(np.asarray(nodes["classes"].data[0]), labels)


def test_napari_places_the_layers_in_microns(tmp_path):
    reader = pytest.importorskip("napari_ome_zarr._reader")
    labels, planes = make_maps(1300, 1100)
    path = write(tmp_path / "a.zarr", labels, planes, 200)
    layers = reader.napari_get_reader(str(path))(str(path))
    image = next(layer for layer in layers if layer[2] == "image")
    label = next(layer for layer in layers if layer[2] == "labels")
    assert tuple(image[1]["scale"])[-2:] == (3.0, 2.0)
    assert tuple(label[1]["scale"])[-2:] == (3.0, 2.0)
    assert np.array_equal(np.asarray(label[0][0]), labels)


def test_quPath_finds_the_pixel_size(tmp_path):
    path = write(tmp_path / "a.zarr", *make_maps(50, 60), 50)
    tree = ElementTree.parse(path / "OME" / "METADATA.ome.xml")
    pixels = next(node for node in tree.iter() if node.tag.endswith("Pixels"))
    assert float(pixels.get("PhysicalSizeX")) == 2.0
    assert float(pixels.get("PhysicalSizeY")) == 3.0
    assert (pixels.get("SizeX"), pixels.get("SizeY"), pixels.get("SizeC")) == ("60", "50", "2")
    assert "Stroma: loose" in (path / "OME" / "METADATA.ome.xml").read_text()


def test_attributes_of_others_are_not_ours(tmp_path):
    assert read_attributes(tmp_path) is None
    zarr.open_group(tmp_path / "b.zarr", mode="w")
    assert read_attributes(tmp_path / "b.zarr") is None


@given(stop=st.integers(1, 25), seed=st.integers(0, 9))
@settings(max_examples=20, deadline=None)
def test_going_on_after_a_stop_gives_the_same(tmp_path_factory, stop, seed):
    labels, planes = make_maps(4700, 21, seed)
    folder = tmp_path_factory.mktemp("r")
    whole = write(folder / "whole.zarr", labels, planes, 192)
    spec = PyramidSpec("s.svs", 4700, 21, SCALE, CLASSES)
    first = PyramidWriter(folder / "a.zarr", spec)
    for y in range(0, min(stop * 192, 4700), 192):
        first.append(y, labels[y : y + 192], planes[:, y : y + 192])
    (folder / "a.zarr" / "0" / "x.partial").write_bytes(b"torn")
    y = first.flushed
    second = PyramidWriter.reopen(folder / "a.zarr", spec, y)
    second.append(y, labels[y:], planes[:, y:])
    second.finish({"complete": True})
    contents = [
        {p.relative_to(root): p.read_bytes() for p in root.rglob("*") if p.is_file()}
        for root in (whole, folder / "a.zarr")
    ]
    assert contents[0] == contents[1]
