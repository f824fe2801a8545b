"""Which slide it is: content of all its files, wherever they lie and whatever they are called."""

from __future__ import annotations

import os
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsi_sampath.errors import WsiError
from wsi_sampath.fingerprint import sampled_digest, whole_digest
from wsi_sampath.slides.slide_fingerprint import slide_files, slide_fingerprint


@given(st.integers(0, 999), st.integers(1, 1000))
def test_a_small_file_counts_byte_by_byte(tmp_path_factory, at, size):
    path = tmp_path_factory.mktemp("f") / "a"
    data = bytearray(size)
    path.write_bytes(data)
    before = sampled_digest(path)
    data[at % size] = 1
    path.write_bytes(data)
    assert sampled_digest(path) != before


def test_a_large_file_counts_by_its_ends_its_size_and_samples_between(tmp_path):
    path = tmp_path / "large"
    size = 200 << 20
    with path.open("wb") as file:
        file.truncate(size)
    known = {sampled_digest(path)}
    for start in (0, size // 3, size - 5):
        with path.open("r+b") as file:
            file.seek(start)
            file.write(b"x" * (4 << 20))
            file.truncate(size)
        assert sampled_digest(path) not in known
        known.add(sampled_digest(path))
    os.truncate(path, size - 1)
    assert sampled_digest(path) not in known


def test_three_gigabytes_take_a_moment(tmp_path):
    path = tmp_path / "huge"
    with path.open("wb") as file:
        file.truncate(3 << 30)
    started = time.perf_counter()
    sampled_digest(path)
    assert time.perf_counter() - started < 0.5


def test_a_whole_digest_follows_the_file(tmp_path):
    path = tmp_path / "m.png"
    path.write_bytes(b"one")
    first = whole_digest(path)
    path.write_bytes(b"two")
    assert whole_digest(path) != first


def mirax(folder, name="a"):
    (folder / name).mkdir(parents=True)
    (folder / f"{name}.mrxs").write_bytes(b"head")
    for number in range(3):
        (folder / name / f"Data{number}.dat").write_bytes(bytes([number]) * 50)
    return folder / f"{name}.mrxs"


def test_a_mirax_slide_is_its_folder_too(tmp_path):
    one, two = mirax(tmp_path / "1"), mirax(tmp_path / "2", "renamed")
    assert slide_fingerprint(one) == slide_fingerprint(two)
    (tmp_path / "1" / "a" / "Data1.dat").write_bytes(b"\1" * 49 + b"\2")
    assert slide_fingerprint(one) != slide_fingerprint(two)
    (tmp_path / "2" / "renamed" / "Data2.dat").unlink()
    assert slide_fingerprint(two) not in (
        slide_fingerprint(one),
        slide_fingerprint(mirax(tmp_path / "3")),
    )


def instance(path, series, content=b""):
    head = b"\x20\x00\x0e\x00UI" + len(series).to_bytes(2, "little") + series
    path.write_bytes(bytes(128) + b"DICM" + head + b"\0" + content)
    return path


def test_a_dicom_slide_is_its_series_and_no_other(tmp_path):
    one = instance(tmp_path / "1.dcm", b"1.2.3", b"a")
    two = instance(tmp_path / "2.dcm", b"1.2.3", b"b")
    before = slide_fingerprint(one)
    assert slide_fingerprint(two) == before
    instance(tmp_path / "3.dcm", b"1.2.4")
    (tmp_path / "notes.txt").write_text("x")
    assert slide_fingerprint(one) == before
    instance(two, b"1.2.3", b"c")
    assert slide_fingerprint(one) != before


def test_an_index_counts_with_the_images_that_it_names(tmp_path):
    (tmp_path / "a.vms").write_text("[Virtual Microscope Specimen]\nImageFile=a_0.jpg\nNo=1\n")
    (tmp_path / "a_0.jpg").write_bytes(b"one")
    (tmp_path / "b.jpg").write_bytes(b"other")
    assert [name for _, name in slide_files(tmp_path / "a.vms")] == ["", "a_0.jpg"]
    before = slide_fingerprint(tmp_path / "a.vms")
    (tmp_path / "a_0.jpg").write_bytes(b"two")
    assert slide_fingerprint(tmp_path / "a.vms") != before


def test_a_folder_is_all_its_files(tmp_path):
    instance(tmp_path / "1.dcm", b"1", b"a")
    before = slide_fingerprint(tmp_path)
    instance(tmp_path / "2.dcm", b"1", b"a")
    assert slide_fingerprint(tmp_path) != before


def test_what_cannot_be_read_is_named(tmp_path):
    with pytest.raises(WsiError, match="unreadable"):
        slide_fingerprint(tmp_path / "gone.svs")
