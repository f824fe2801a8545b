"""A batch folder as a gallery, a plain folder, and results that find their slides."""

from __future__ import annotations

import os
import shutil

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from wsi_sampath.batch.record.journal import Journal, Record, journal_folder, thumbnail_of
from wsi_sampath.batch.record.table import write_table
from wsi_sampath.classes import color_of
from wsi_sampath.errors import UsageError, WsiError
from wsi_sampath.outputs.result import open_result
from wsi_sampath.viewer import gallery
from wsi_sampath.viewer.finding import find, slide_of
from wsi_sampath.viewer.gallery import BatchEntries, folder_entries
from wsi_sampath.viewer.settings import ViewSettings
from wsi_sampath.viewer.shelf import Missing, Shelf

SETTINGS = ViewSettings()


def record(slide, zarr, status="done", **values):
    return Record(str(slide), zarr, status, "key", values.pop("time", 1.0), "host", **values)


def first_class(viewed):
    return open_result(viewed.zarr).classes[0]


@pytest.fixture
def batch(viewed, tmp_path):
    """One slide done, one failed, one waiting."""
    out = tmp_path / "out"
    shutil.copytree(viewed.zarr, out / "case 1" / "a.zarr")
    done = record(
        *(viewed.slide, "case 1/a.zarr"),
        analysed_mm2=2.5,
        area_mm2={"<b>Tumor": 1.5, first_class(viewed).name: 1.0},
        nuclei={"<b>Tumor": 7},
    )
    failed = record("/gone/b.svs", "b.zarr", "failed", reason="unreadable", message="it is cut")
    Journal(journal_folder(out)).add(done)
    Journal(journal_folder(out)).add(failed)
    write_table(out / "slides.csv", [done, failed], [("=c.svs", "c.zarr")])
    picture = thumbnail_of(out, "case 1/a.zarr")
    picture.parent.mkdir(parents=True)
    picture.write_bytes(b"jpeg")
    return out


def client_of(shelf, **how):
    return TestClient(Starlette(routes=gallery.routes(shelf, "a <title>", **how)))


def test_a_batch_is_told_with_failures_first(batch, viewed):
    found = find([batch], SETTINGS)
    shelf = Shelf(found.entries, SETTINGS)
    client = client_of(shelf, renew=found.renew)
    told = client.get("/api/shelf").json()
    assert [(one["name"], one["status"]) for one in told["entries"]] == [
        ("b", "failed"),
        ("case 1/a", "done"),
        ("c", "waiting"),
    ]
    failed, done, waiting = told["entries"]
    assert (failed["reason"], failed["message"]) == ("unreadable", "it is cut")
    assert failed["thumbnail"] is None
    known = first_class(viewed)
    assert done["areas_mm2"] == {"<b>Tumor": 1.5, known.name: 1.0}
    assert (done["counts"], done["analysed_mm2"]) == ({"<b>Tumor": 7}, 2.5)
    assert client.get(done["thumbnail"]).content == b"jpeg"
    assert told["classes"][1] == {"name": known.name, "color": known.color}
    assert told["classes"][0] == {"name": "<b>Tumor", "color": color_of("<b>Tumor")}
    assert waiting["analysed_mm2"] is None
    # Whatever is said, no folder of this machine is.
    assert str(batch.parent) not in str(told)
    assert "/gone" not in str(told)
    shown = shelf.slide(done["id"])
    assert [one.id for one in shown.results] == [done["results"][0]["id"]]
    shelf.close()


def test_a_gallery_grows_while_its_batch_runs(batch, monkeypatch):
    monkeypatch.setattr(gallery, "_RENEW_S", 0.0)
    found = find([batch], SETTINGS)
    client = client_of(Shelf(found.entries, SETTINGS), renew=found.renew)
    before = {one["name"]: one for one in client.get("/api/shelf").json()["entries"]}
    Journal(journal_folder(batch)).add(record("=c.svs", "c.zarr", "failed", reason="no-tissue"))
    after = {one["name"]: one for one in client.get("/api/shelf").json()["entries"]}
    assert after["c"]["status"] == "failed"
    assert after["case 1/a"] == before["case 1/a"]


@pytest.mark.parametrize("zarr", ["../../x.zarr", "/etc/x.zarr", "a/../../x.zarr", "a\0.zarr"])
def test_a_journal_leads_nowhere_else(batch, zarr):
    Journal(journal_folder(batch)).add(record("/x.svs", zarr, time=2.0))
    Journal(journal_folder(batch)).add(record("/z\0.svs", "z.zarr", time=2.0))
    write_table(batch / "slides.csv", [], [("/y.svs", "../y.zarr")])
    names = [one.name for one in BatchEntries(batch, SETTINGS)()]
    assert names == ["b", "case 1/a"]


def test_a_plain_folder_shows_slides_with_their_results(viewed, tmp_path):
    os.link(viewed.slide, tmp_path / "painted.svs")
    shutil.copytree(viewed.zarr, tmp_path / "results" / "one.zarr")
    (tmp_path / "broken.svs").symlink_to(tmp_path / "nowhere.svs")
    entries = {one.name: one for one in folder_entries(tmp_path, SETTINGS)}
    assert [one.name for one in entries["painted.svs"].results] == ["one"]
    assert entries["painted.svs"].status == "slide"
    assert (entries["broken.svs"].status, entries["broken.svs"].reason) == ("failed", "unreadable")


def test_any_name_of_a_file_reaches_the_page(viewed, tmp_path):
    folder = os.path.join(os.fsencode(tmp_path), b"\xe2\x80\xae\xff")
    os.mkdir(folder)
    os.link(viewed.slide, os.path.join(folder, b'<img src=x onerror="a">\n\xfe\xc3\xa9.svs'))
    shelf = Shelf(find([tmp_path], SETTINGS).entries, SETTINGS)
    (told,) = client_of(shelf).get("/api/shelf").json()["entries"]
    assert told["name"] == '\\u202e\\xff/<img src=x onerror="a">\\n\\xfe\xe9.svs'
    assert shelf.slide(told["id"]).slide.size == (1500, 1100)
    shelf.close()


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(UsageError, match="no slides and no results"):
        find([tmp_path], SETTINGS)


def test_a_slide_and_its_result(viewed):
    found = find([viewed.slide, viewed.zarr], SETTINGS)
    (entry,) = found.entries
    assert found.title == "painted.svs"
    assert [one.path for one in entry.results] == [viewed.zarr]


def test_a_result_that_is_written_anew_is_another_one(viewed, tmp_path, monkeypatch):
    monkeypatch.setattr(gallery, "_RENEW_S", 0.0)
    zarr = shutil.copytree(viewed.zarr, tmp_path / "a.zarr")
    found = find([viewed.slide, zarr], SETTINGS)
    shelf = Shelf(found.entries, SETTINGS)
    client = client_of(shelf, renew=found.renew)
    (before,) = shelf.slide(found.entries[0].id).results
    attributes = zarr / ("zarr.json" if (zarr / "zarr.json").exists() else ".zattrs")
    content = attributes.read_bytes()
    attributes.write_text("{}")
    with pytest.raises(Missing, match="written anew"):
        shelf.result(before.id)
    # As long as it cannot be read nothing else is shown in its place.
    assert client.get("/api/shelf").json()["entries"][0]["results"][0]["id"] == before.id
    attributes.write_bytes(content)
    (told,) = client.get("/api/shelf").json()["entries"][0]["results"]
    assert told["id"] != before.id
    assert [one.id for one in shelf.slide(found.entries[0].id).results] == [told["id"]]
    shelf.close()


def test_a_result_finds_its_slide_beside_it_and_above(viewed, tmp_path):
    (entry,) = find([viewed.zarr], SETTINGS).entries
    assert entry.path == viewed.slide.resolve()
    os.link(viewed.slide, tmp_path / "painted.svs")
    below = shutil.copytree(viewed.zarr, tmp_path / "results" / "x.zarr")
    assert slide_of(open_result(below)) == tmp_path / "painted.svs"


def test_a_result_finds_the_slide_of_its_batch(batch, viewed, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    result = open_result(batch / "case 1" / "a.zarr")
    assert slide_of(result) == viewed.slide


def test_a_result_without_its_slide_is_one_clear_line(viewed, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    alone = shutil.copytree(viewed.zarr, tmp_path / "x" / "y" / "alone.zarr")
    with pytest.raises(UsageError, match="its slide painted.svs is not beside it; give both"):
        find([alone], SETTINGS)
    (tmp_path / "painted.svs").write_bytes(b"another")
    with pytest.raises(UsageError, match="painted.svs is another one"):
        find([alone], SETTINGS)


@pytest.mark.parametrize("name", ["../painted.svs", "/etc/passwd", "", "a\0b"])
def test_the_name_that_a_result_records_leads_nowhere_else(viewed, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    result = open_result(shutil.copytree(viewed.zarr, tmp_path / "alone.zarr"))
    result.attributes["slide"]["name"] = name
    with pytest.raises(WsiError, match="not beside it"):
        slide_of(result)


def test_what_does_not_belong_together_is_refused(viewed, tmp_path):
    other = tmp_path / "other.svs"
    other.write_bytes(b"other")
    with pytest.raises(UsageError, match="made of another slide"):
        find([other, viewed.zarr], SETTINGS)
    with pytest.raises(UsageError, match="give a folder alone"):
        find([viewed.slide, tmp_path], SETTINGS)
    with pytest.raises(UsageError, match="no such slide"):
        find([tmp_path / "none.svs"], SETTINGS)
