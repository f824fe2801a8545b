from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from made_result import append_both, class_images
from ome_zarr.io import parse_url
from ome_zarr.reader import Reader
from ome_zarr_models import open_ome_zarr
from zarr.storage import LocalStore

from wsi_sampath.classes import ClassSpec
from wsi_sampath.outputs.attributes import read_attributes
from wsi_sampath.outputs.omezarr.downsample import halve_mean, halve_mode, pyramid_shapes
from wsi_sampath.outputs.omezarr.images import ImageSpec, PyramidSpec
from wsi_sampath.outputs.omezarr.ngff import PlaneScale
from wsi_sampath.outputs.omezarr.pyramid import PyramidWriter
from wsi_sampath.outputs.omezarr.stored_chunks import count_chunks

CLASSES = (
    ClassSpec(name="Tumor", color="#c80000"),
    ClassSpec(name="Stroma: loose", color="#96c896"),
)
SCALE = PlaneScale(2.0, 3.0, 0.5, 0.75)


def make_maps(height: int, width: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, (height // 7 + 1, width // 7 + 1), np.uint8)
    labels = labels.repeat(7, 0).repeat(7, 1)[:height, :width]
    return labels, rng.integers(0, 256, (2, height, width), np.uint8)


def make_spec(height, width, *, probabilities=True, **options) -> PyramidSpec:
    images = class_images(CLASSES, probabilities=probabilities)
    return PyramidSpec("s.svs", height, width, SCALE, images, **options)


def write(path: Path, labels: np.ndarray, planes: np.ndarray, step: int, **options) -> Path:
    height, width = labels.shape
    writer = PyramidWriter(path, make_spec(height, width, **options))
    for y in range(0, height, step):
        append_both(writer, y, labels[y : y + step], planes[:, y : y + step])
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
    images = ["labels/classes", ""]
    chunks = count_chunks(path, images)
    assert read_attributes(path) == {"complete": True, "images": images, "chunks": chunks}


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
    writer = PyramidWriter(tmp_path / "a.zarr", make_spec(5000, 300))
    labels, planes = make_maps(100, 300)
    append_both(writer, 3000, labels, planes)
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
    spec = make_spec(4700, 21)
    first = PyramidWriter(folder / "a.zarr", spec)
    for y in range(0, min(stop * 192, 4700), 192):
        append_both(first, y, labels[y : y + 192], planes[:, y : y + 192])
    (folder / "a.zarr" / "0" / "x.partial").write_bytes(b"torn")
    y = first.flushed
    second = PyramidWriter(folder / "a.zarr", spec, resume_at=y)
    append_both(second, y, labels[y:], planes[:, y:])
    second.finish({"complete": True})
    contents = [
        {p.relative_to(root): p.read_bytes() for p in root.rglob("*") if p.is_file()}
        for root in (whole, folder / "a.zarr")
    ]
    assert contents[0] == contents[1]


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_of_rows_after_the_stop_nothing_stays(tmp_path, zarr_format):
    """Tiles that were answered before it may fail after it: their place is to be empty then."""
    spec = replace(make_spec(4700, 21), zarr_format=zarr_format)
    labels, planes = make_maps(4700, 21)
    first = PyramidWriter(tmp_path / "a.zarr", spec)
    append_both(first, 0, labels, planes)
    second = PyramidWriter(tmp_path / "a.zarr", spec, resume_at=2048)
    second.finish({})
    root = zarr.open_group(tmp_path / "a.zarr", mode="r")
    for level in range(len(spec.shapes)):
        for image in ("labels/classes", "0"):
            plane = root[f"{image}/{level}" if image != "0" else str(level)][..., :, :]
            assert plane[..., : 2048 >> level, :].any()
            assert not plane[..., 2048 >> level :, :].any()


def halved_by_hand(labels: np.ndarray) -> np.ndarray:
    """Take the commonest of every 2 x 2 pixels, read row by row; the first of equals."""
    height, width = ((side + 1) // 2 for side in labels.shape)
    half = np.zeros((height, width), labels.dtype)
    for y, x in np.ndindex(half.shape):
        rows, columns = (min(2 * y + 1, len(labels) - 1), min(2 * x + 1, labels.shape[1] - 1))
        corners = [labels[i, j] for i in (2 * y, rows) for j in (2 * x, columns)]
        half[y, x] = max(corners, key=corners.count)
    return half


@given(
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    dtype=st.sampled_from([np.uint8, np.uint32]),
    data=st.data(),
)
@settings(max_examples=150, deadline=None)
def test_labels_of_any_width_are_halved_by_mode(height, width, dtype, data):
    most = np.iinfo(dtype).max
    known = st.sampled_from([0, 1, 2, 255, most, most - 1])
    cells = data.draw(st.lists(known, min_size=height * width, max_size=height * width))
    labels = np.array(cells, dtype).reshape(height, width)
    half = halve_mode(labels)
    assert half.dtype == dtype
    assert np.array_equal(half, halved_by_hand(labels))


NUCLEI = ImageSpec("labels/nuclei", dtype="uint32")


def make_ids(height: int, width: int, seed: int) -> np.ndarray:
    """Blocks of 5 x 5 px whose ids need all 32 bits."""
    rng = np.random.default_rng(seed)
    ids = rng.integers(0, 2**32, (height // 5 + 1, width // 5 + 1), np.uint32)
    ids[rng.random(ids.shape) < 0.5] = 0
    return ids.repeat(5, 0).repeat(5, 1)[:height, :width]


@given(
    height=st.integers(1, 2300),
    width=st.integers(1, 30),
    step=st.integers(1, 1500),
    late=st.integers(0, 1200),
    stop=st.integers(0, 2300),
    seed=st.integers(0, 99),
)
@settings(max_examples=25, deadline=None)
def test_ids_beside_the_class_map_may_come_later_and_go_on_after_a_stop(
    tmp_path_factory, height, width, step, late, stop, seed
):
    labels, planes = make_maps(height, width, seed)
    ids = make_ids(height, width, seed)
    spec = replace(make_spec(height, width), images=(*class_images(CLASSES), NUCLEI))
    path = tmp_path_factory.mktemp("n") / "a.zarr"
    first, y = PyramidWriter(path, spec), 0
    while y < min(stop, height):
        append_both(first, y, labels[y : y + step], planes[:, y : y + step])
        y += step
        known = slice(max(0, y - step - late), max(0, y - late))
        first.append("labels/nuclei", known.start, ids[known])
    flushed, digest = first.flushed, first.stored_digest()
    writer = PyramidWriter(path, spec, resume_at=flushed)
    assert writer.stored_digest() == digest
    append_both(writer, flushed, labels[flushed:], planes[:, flushed:])
    writer.append("labels/nuclei", flushed, ids[flushed:])
    writer.finish({})
    root = zarr.open_group(path, mode="r")
    assert read_attributes(path)["images"] == ["labels/classes", "", "labels/nuclei"]
    for level in range(len(spec.shapes)):
        stored = root[f"labels/nuclei/{level}"]
        assert stored.dtype == np.uint32
        assert np.array_equal(stored[:], ids)
        assert np.array_equal(root[f"labels/classes/{level}"][:], labels)
        assert np.array_equal(root[str(level)][:], planes)
        labels, planes, ids = halve_mode(labels), halve_mean(planes), halve_mode(ids)


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_every_chunk_is_written_once(tmp_path, monkeypatch, zarr_format):
    spec = replace(
        make_spec(2100, 1500, zarr_format=zarr_format), images=(*class_images(CLASSES), NUCLEI)
    )
    writer = PyramidWriter(tmp_path / "a.zarr", spec)
    labels, planes = make_maps(2100, 1500)
    written = Counter()
    put = LocalStore.set

    def counting(self, key, value, *arguments):
        written[key] += 1
        return put(self, key, value, *arguments)

    monkeypatch.setattr(LocalStore, "set", counting)
    for y in range(0, 2100, 300):
        append_both(writer, y, labels[y : y + 300], planes[:, y : y + 300])
        writer.append("labels/nuclei", y, make_ids(300, 1500, y))
    writer.finish({})
    chunks = {key: times for key, times in written.items() if key[-1].isdecimal()}
    assert len(chunks) == 4 * (3 * 2 + 2 + 1)
    assert set(chunks.values()) == {1}


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_ids_without_names_are_valid_labels(tmp_path, zarr_format):
    images = (*class_images(CLASSES), NUCLEI)
    spec = replace(make_spec(1100, 40, zarr_format=zarr_format), images=images)
    writer = PyramidWriter(tmp_path / "a.zarr", spec)
    writer.append("labels/nuclei", 0, make_ids(1100, 40, 0))
    writer.finish({})
    root = zarr.open_group(tmp_path / "a.zarr", mode="r")
    for label in ("classes", "nuclei"):
        open_ome_zarr(root[f"labels/{label}"])
    members = root["labels"].attrs
    assert members.get("ome", members)["labels"] == ["classes", "nuclei"]


@pytest.mark.parametrize(
    "make",
    [
        lambda: ImageSpec("classes"),
        lambda: ImageSpec("labels/"),
        lambda: ImageSpec("labels/a/b"),
        lambda: ImageSpec("labels/a", channels=CLASSES),
        lambda: ImageSpec("labels/a", dtype="uint32", halving="mean"),
        lambda: replace(make_spec(1, 1), images=(NUCLEI,)),
        lambda: replace(make_spec(1, 1), images=(ImageSpec(""), NUCLEI, NUCLEI)),
    ],
)
def test_images_that_make_no_zarr_are_refused(make):
    with pytest.raises(ValueError, match="image|label|halved"):
        make()
