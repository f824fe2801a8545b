"""A zip holds what the plain file holds, in members that QuPath can swallow."""

import contextlib
import json
import re
import zipfile

import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

from wsi_sampath.classes import ClassSpec
from wsi_sampath.outputs.qupath import geojson, packing
from wsi_sampath.outputs.qupath.geojson import GeoJSONWriter, PlaneObject, PlaneToSlide
from wsi_sampath.outputs.qupath.packing import HEAD, TAIL, pack, read_members, unpack
from wsi_sampath.outputs.qupath.rules import check_geojson

CLASSES = [
    ClassSpec(name="Tumor, no {brackets}", color="#c80000"),
    ClassSpec(name="Stroma\n", color="#96c896"),
]


def squares(count):
    return [
        PlaneObject(1 + n % 2, shapely.box(3 * n, 0, 3 * n + 2, 2), (200 / 255,))
        for n in range(count)
    ]


def make(path, **options):
    transform = PlaneToSlide(4, 4, 0, 0, 0.5, 0.5)
    return GeoJSONWriter(
        path,
        classes=CLASSES,
        transform=transform,
        namespace="s",
        measurements=("Mean probability",),
        **options,
    )


def write(path, count):
    with make(path) as writer:
        writer.write(squares(count))
    return writer


def features(path):
    return [one for _, text in read_members(path) for one in json.loads(text)["features"]]


@pytest.mark.parametrize(
    ("count", "sizes"), [(0, [0]), (1, [1]), (7, [7]), (8, [7, 1]), (20, [7, 7, 6])]
)
def test_members_have_at_most_so_many_features(tmp_path, monkeypatch, count, sizes):
    monkeypatch.setattr(packing, "MEMBER_FEATURES", 7)
    write(tmp_path / "a.geojson", count)
    write(tmp_path / "a.geojson.zip", count)
    members = list(read_members(tmp_path / "a.geojson.zip"))
    assert [name for name, _ in members] == [f"a-{n + 1:04d}.geojson" for n in range(len(sizes))]
    assert [len(json.loads(text)["features"]) for _, text in members] == sizes
    assert features(tmp_path / "a.geojson.zip") == features(tmp_path / "a.geojson")
    assert check_geojson(tmp_path / "a.geojson.zip") == []
    assert sorted(one.name for one in tmp_path.iterdir()) == ["a.geojson", "a.geojson.zip"]


def test_members_have_at_most_so_many_bytes(tmp_path, monkeypatch):
    monkeypatch.setattr(packing, "MEMBER_BYTES", 1000)
    write(tmp_path / "a.geojson.zip", 20)
    texts = [text for _, text in read_members(tmp_path / "a.geojson.zip")]
    assert len(texts) > 3
    assert max(map(len, texts)) < 1500
    assert len(features(tmp_path / "a.geojson.zip")) == 20


def test_the_limit_is_that_of_qupath():
    assert packing.MEMBER_FEATURES == 100_000


def test_the_same_polygons_give_the_same_zip(tmp_path, monkeypatch):
    write(tmp_path / "a.geojson.zip", 9)
    first = (tmp_path / "a.geojson.zip").read_bytes()
    monkeypatch.setattr("time.time", lambda: 1.7e9)
    write(tmp_path / "a.geojson.zip", 9)
    assert (tmp_path / "a.geojson.zip").read_bytes() == first


@given(st.integers(0, 12), st.integers(1, 5), st.sampled_from(["", ".gz", ".zip"]))
def test_unpacking_gives_the_plain_bytes(tmp_path_factory, count, most, suffix):
    folder = tmp_path_factory.mktemp("p")
    lines = ",".join(f'\n{{"n":{n},"text":"],}}\\n"}}' for n in range(count))
    plain = HEAD + lines.encode() + TAIL
    (folder / "plain").write_bytes(plain)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packing, "MEMBER_FEATURES", most)
        pack(folder / "plain", folder / f"a.geojson{suffix}")
    assert not (folder / "plain").exists()
    unpack(folder / f"a.geojson{suffix}", folder / "again")
    assert (folder / "again").read_bytes() == plain


@pytest.mark.parametrize("closed", [False, True])
def test_going_on_after_a_stop_gives_the_same_zip(tmp_path, monkeypatch, closed):
    monkeypatch.setattr(packing, "MEMBER_FEATURES", 4)
    path, polygons, states = tmp_path / "a.geojson.zip", squares(15), []
    write(tmp_path / "whole.geojson.zip", 15)

    def stop():
        with make(path) as writer:
            writer.write(polygons[:6])
            states.append(writer.state())
            writer.write(polygons[6:9])
            if not closed:
                raise KeyboardInterrupt

    with contextlib.suppress(KeyboardInterrupt):
        stop()
    with make(path, resume=states[0]) as writer:
        writer.write(polygons[6:])
    assert writer.count == 15
    assert features(path) == features(tmp_path / "whole.geojson.zip")
    write(tmp_path / "b.geojson.zip", 15)
    names = [zipfile.ZipFile(tmp_path / f"{n}.geojson.zip").namelist() for n in "ab"]
    assert [n.replace("b-", "a-") for n in names[1]] == names[0]


def test_a_failing_disk_leaves_the_plain_file_to_go_on_with(tmp_path, monkeypatch):
    path = tmp_path / "a.geojson.zip"
    path.write_bytes(b"old")

    def refuse(*_):
        raise OSError(28, "No space left on device")

    with make(path) as writer:
        writer.write(squares(3))
        state = writer.state()
        monkeypatch.setattr(packing, "_write_member", refuse)
        with pytest.raises(Exception, match="disk-full"):
            writer.close()
    assert path.read_bytes() == b"old"
    monkeypatch.undo()
    with make(path, resume=state) as writer:
        pass
    assert len(features(path)) == 3


@pytest.mark.parametrize(
    ("name", "many", "heavy", "too_many", "words"),
    [
        ("a.geojson", 10, 10**9, 99, None),
        ("a.geojson", 9, 10**9, 99, r"10 polygons \(0 MB\) in a\.geojson.*--min-area.*\.zip"),
        ("a.geojson.gz", 10, 100, 99, "--simplify"),
        ("a.geojson.zip", 1, 1, 10, None),
        ("a.geojson.zip", 1, 1, 9, "--min-area"),
    ],
)
def test_a_file_that_is_too_much_for_qupath_is_named(
    tmp_path, monkeypatch, name, many, heavy, too_many, words
):
    monkeypatch.setattr(geojson, "MANY_FEATURES", many)
    monkeypatch.setattr(geojson, "MANY_BYTES", heavy)
    monkeypatch.setattr(geojson, "TOO_MANY_FEATURES", too_many)
    warning = write(tmp_path / name, 10).warning()
    if words is None:
        assert warning is None
    else:
        assert re.search(words, warning)


def test_rules_know_zips(tmp_path, monkeypatch):
    path = tmp_path / "a.geojson.zip"
    write(path, 3)
    text = next(read_members(path))[1]
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("one.geojson", text)
        archive.writestr("two.geojson", text.replace(b'"name"', b'"nane"', 1))
        archive.writestr("notes.txt", b"hello")
        archive.writestr("three.geojson", b"[")
    problems = check_geojson(path)
    assert "two.geojson: feature 0: classification has no name" in problems
    assert "notes.txt: a member that is no .geojson is passed over" in problems
    assert any(one.startswith("three.geojson: not readable as JSON") for one in problems)
    assert sum("is used 2 times" in one for one in problems) == 3
    monkeypatch.setattr("wsi_sampath.outputs.qupath.rules.MEMBER_FEATURES", 2)
    assert any("3 features are too many" in one for one in check_geojson(path))
    path.write_bytes(b"PK torn")
    assert check_geojson(path)[0].startswith("not readable")
    with zipfile.ZipFile(path, "w"):
        pass
    assert check_geojson(path) == ["the zip is empty"]


def test_a_large_file_is_split(tmp_path):
    plain = tmp_path / "plain"
    feature = b'{"type":"Feature","x":[' + b"1.25," * 40 + b"0]}"
    plain.write_bytes(HEAD + b",".join([b"\n" + feature] * 250_000) + TAIL)
    pack(plain, tmp_path / "a.geojson.zip")
    with zipfile.ZipFile(tmp_path / "a.geojson.zip") as archive:
        counts = [archive.read(name).count(b'"Feature"') for name in archive.namelist()]
    assert counts == [100_000, 100_000, 50_000]
