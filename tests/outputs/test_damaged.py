"""A damaged result ends in one line, soon, whatever is wrong with it."""

from __future__ import annotations

import copy
import json
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wsi_sampath.errors import WsiError
from wsi_sampath.outputs.attributes import damage_of, read_attributes
from wsi_sampath.outputs.result import open_result

CUT = [b"", b"{", b"[]", b'"x"', b"\xff\xfe", b"[" * 100_000, bytes(300)]
NONSENSE = [None, True, -1, 0, 10**9, 1e300, "x", "", [], {}, [1], {"x": 1}, "../..", "NaN"]


def change(path, *keys, value):
    content = json.loads(path.read_text())
    inside = content
    for key in keys[:-1]:
        inside = inside[key]
    inside[keys[-1]] = value
    path.write_text(json.dumps(content))


def read_all(path):
    result = open_result(path)
    for level in range(len(result.levels)):
        result.read_labels(level)
        result.labels(level).compute()
        result.probabilities(level)[:, :50].compute()
    result.areas()
    return result


def is_refused(path):
    tracemalloc.start()
    with pytest.raises(WsiError) as caught:
        read_all(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert caught.value.reason == "bad-input"
    assert "\n" not in caught.value.line()
    assert peak < 100e6
    return caught.value


@pytest.mark.parametrize("array", ["labels/classes/0", "labels/classes/1", "0", "1"])
@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("shape", [10**9, 10**9]),
        ("shape", [-5, 3]),
        ("shape", [1300]),
        ("shape", "x"),
        ("chunks", [10**9, 10**9]),
        ("chunks", [0, 0]),
        ("dtype", "<f8"),
        ("dtype", "|i1"),
        ("dtype", "|O"),
        ("fill_value", 3),
        ("order", "F"),
        ("compressor", {"id": "nothing"}),
        ("compressor", None),
        ("filters", [{"id": "delta", "dtype": "|u1"}]),
        ("zarr_format", 7),
    ],
)
def test_arrays_that_are_not_ours(make_result, array, key, value):
    path = make_result()
    change(path / array / ".zarray", key, value=value)
    is_refused(path)


@pytest.mark.parametrize("name", [".zarray", ".zattrs", ".zgroup"])
@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"\xff\xfe", b"[" * 100_000, bytes(300), None]
)
def test_metadata_that_are_cut_or_gone(make_result, name, content):
    path = make_result()
    place = path / "labels" / "classes" / ("0" if name == ".zarray" else "") / name
    if content is None:
        place.unlink()
    else:
        place.write_bytes(content)
    is_refused(path)


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"{}", b'"x"', b"[" * 100_000, bytes(300), b"\xff"]
)
def test_root_attributes_that_are_cut(make_result, content):
    path = make_result()
    (path / ".zattrs").write_bytes(content)
    is_refused(path)
    assert read_attributes(path) is None


@pytest.mark.parametrize("content", [b"", b"x" * 10, bytes(2000), b"\2\1\1\1" + b"\xff" * 60])
def test_a_torn_chunk(make_result, content):
    path = make_result()
    (path / "labels" / "classes" / "0" / "0" / "0").write_bytes(content)
    is_refused(path)


def test_a_label_beyond_the_classes(make_result):
    import zarr

    path = make_result()
    zarr.open_array(str(path / "labels" / "classes" / "0"), mode="r+")[5, 5] = 9
    assert "a label of 9" in is_refused(path).message


@pytest.mark.parametrize("value", [10**9, -4])
def test_a_slide_of_another_size(make_result, value):
    path = make_result()
    change(path / ".zattrs", "wsi_sampath", "slide_size", value=[value, value])
    is_refused(path)


def test_a_level_elsewhere(make_result):
    path = make_result()
    attributes = path / "labels" / "classes" / ".zattrs"
    change(attributes, "multiscales", 0, "datasets", 0, "path", value="../../../../etc")
    is_refused(path)


NEEDED = [
    *("version", "model", "slide", "settings", "reader", "slide_size", "bounds_offset", "mpp"),
    *("tiles", "area_mm2", "coverage", "seconds", "complete"),
]


@pytest.mark.parametrize("key", NEEDED)
def test_attributes_that_are_missing(make_result, key):
    path = make_result()
    content = json.loads((path / ".zattrs").read_text())
    del content["wsi_sampath"][key]
    (path / ".zattrs").write_text(json.dumps(content))
    is_refused(path)


def places(value, where=()):
    if isinstance(value, dict):
        for key, inner in value.items():
            yield (*where, key)
            yield from places(inner, (*where, key))
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from places(inner, (*where, number))


@pytest.fixture(scope="module")
def shared_result(tmp_path_factory, write_result):
    return write_result(tmp_path_factory.mktemp("shared"))


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_whatever_is_changed_reads_or_is_refused(shared_result, data):
    path = shared_result
    file = path / data.draw(st.sampled_from([".zattrs", "labels/classes/.zattrs", "0/.zarray"]))
    before = file.read_text()
    content = json.loads(before)
    try:
        for _ in range(data.draw(st.integers(1, 2))):
            inside = content
            *way, last = data.draw(st.sampled_from(sorted(places(content), key=str)))
            try:
                for key in way:
                    inside = inside[key]
                inside[last] = copy.deepcopy(data.draw(st.sampled_from(NONSENSE)))
            except (LookupError, TypeError):
                continue
        file.write_text(json.dumps(content))
        try:
            result = read_all(path)
        except WsiError as error:
            assert error.reason == "bad-input"  # noqa: PT017 - either is right
        else:
            assert result.read_labels().shape == (1300, 1100)
    finally:
        file.write_text(before)


def test_numbers_that_are_none_are_damage(make_result):
    attributes = open_result(make_result()).attributes
    assert damage_of(attributes) is None
    for key, value in (("x", float("nan")), ("y", float("inf")), ("x", 0), ("x", True), ("x", "1")):
        wrong = copy.deepcopy(attributes)
        wrong["mpp"][key] = value
        assert damage_of(wrong).startswith(f"mpp.{key}")
    for region in ([1.0, 2.0, 3.0], [0.0, 0.0, float("inf"), 1.0], "0 0 1 1"):
        assert damage_of({**attributes, "region": region}).startswith("region")
    assert "device" not in (damage_of(attributes) or "")
    assert damage_of(attributes, of_run=True) is not None
    assert np.isfinite(attributes["mpp"]["x"])
