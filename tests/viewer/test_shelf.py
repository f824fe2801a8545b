"""What the shelf opens, keeps and closes, and what it refuses."""

from __future__ import annotations

import os
import shutil
import threading
from contextlib import ExitStack
from dataclasses import replace

import pytest
from viewer_slides import waves

from wsi_sampath.errors import WsiError
from wsi_sampath.slides.slide import Slide
from wsi_sampath.synthetic.svs_writer import write_svs
from wsi_sampath.viewer.settings import ViewSettings
from wsi_sampath.viewer.shelf import Missing, NamedResult, Shelf, ShelfEntry, opaque_id


@pytest.fixture
def counted(monkeypatch):
    """Count what is opened and closed, in order."""
    events, closed = [], Slide.close
    opened = Slide.open.__func__

    def open_(cls, path, **how):
        events.append(("open", path.name))
        return opened(cls, path, **how)

    def close(self):
        events.append(("close", self.path.name))
        closed(self)

    monkeypatch.setattr(Slide, "open", classmethod(open_))
    monkeypatch.setattr(Slide, "close", close)
    return events


def copies(viewed, folder, number):
    paths = [folder / f"{n}.svs" for n in range(number)]
    for path in paths:
        os.link(viewed.slide, path)
    return [ShelfEntry(f"id{n}", path.name, path) for n, path in enumerate(paths)]


def test_a_slide_comes_with_its_results(viewed):
    shelf = viewed.shelf()
    (entry,) = shelf.entries
    with shelf.open(entry.id) as shown:
        assert shown.slide.size == (1500, 1100)
        assert [one.name for one in shown.results] == ["painted"]
        assert shown.slide.reader.read(0, 0, 0, 8, 8).shape == (8, 8, 3)
        assert shelf.result(shown.results[0].id) is shown.results[0]
    shelf.close()


def test_slides_are_opened_once_and_the_longest_unused_is_closed(viewed, tmp_path, counted):
    entries = copies(viewed, tmp_path, 3)
    shelf = Shelf(entries, ViewSettings(), most_open=2)
    for id in ("id0", "id1", "id0", "id2"):
        assert shelf.slide(id).name == f"{id[-1]}.svs"
    assert counted == [("open", "0.svs"), ("open", "1.svs"), ("open", "2.svs"), ("close", "1.svs")]
    shelf.close()


def test_a_slide_in_use_is_never_closed(viewed, tmp_path, counted):
    shelf = Shelf(copies(viewed, tmp_path, 3), ViewSettings(), most_open=1)
    with ExitStack() as stack:
        for id in ("id0", "id1", "id2"):
            stack.enter_context(shelf.open(id))
        assert not [name for what, name in counted if what == "close"]
    assert [name for what, name in counted if what == "close"] == ["2.svs", "1.svs"]
    shelf.close()


def test_many_threads_open_a_slide_once(viewed, counted):
    shelf = viewed.shelf()
    id = shelf.entries[0].id
    threads = [threading.Thread(target=shelf.slide, args=(id,)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counted == [("open", "painted.svs")]
    shelf.close()


def test_unknown_ids_are_missing(viewed):
    shelf = viewed.shelf()
    with pytest.raises(Missing):
        shelf.slide("../painted.svs")
    with pytest.raises(Missing):
        shelf.result(shelf.entries[0].id)


def test_a_slide_that_cannot_be_opened_leaves_nothing_behind(tmp_path, counted):
    path = tmp_path / "broken.svs"
    path.write_bytes(b"no slide")
    shelf = Shelf([ShelfEntry("a", path.name, path)], ViewSettings())
    for _ in range(2):
        with pytest.raises(WsiError) as error:
            shelf.slide("a")
        assert error.value.reason == "unreadable"
    assert counted == [("open", "broken.svs")] * 2


def test_a_slide_without_mpp_is_for_those_who_ask_for_pixels_alone(tmp_path):
    path = tmp_path / "a.svs"
    write_svs(path, waves, width=300, height=200, mpp=None, levels=(1,), thumbnail=False)
    shelf = Shelf([ShelfEntry("a", path.name, path)], ViewSettings())
    shown = shelf.slide("a", unscaled=True)
    assert "scale is not known" in shown.warnings[0]
    with pytest.raises(WsiError) as error:
        shelf.slide("a")
    assert error.value.reason == "no-mpp"
    shelf.close()


@pytest.mark.parametrize("stated", [0.5, None])
def test_the_scale_that_a_list_states_counts_where_the_file_differs(tmp_path, stated):
    path = tmp_path / "a.svs"
    write_svs(path, waves, width=300, height=200, mpp=stated, levels=(1,), thumbnail=False)
    for mpp, source in (((0.5, 0.5), "metadata" if stated else "csv"), ((0.25, 0.25), "csv")):
        shelf = Shelf([ShelfEntry("a", path.name, path, mpp=mpp)], ViewSettings())
        found = shelf.slide("a").slide.mpp
        assert ((found.x, found.y), found.source) == (mpp, source)
        shelf.close()


def test_the_result_of_another_slide_is_not_shown(viewed, tmp_path):
    other = tmp_path / "other.svs"
    shutil.copyfile(viewed.slide, other)
    with other.open("ab") as stream:
        stream.write(b"\0")
    entry = replace(viewed.entry(), path=other)
    shelf = Shelf([entry], ViewSettings())
    shown = shelf.slide(entry.id)
    assert shown.results == ()
    assert "made of another slide" in shown.warnings[-1]
    assert str(tmp_path) not in " ".join(shown.warnings)
    with pytest.raises(WsiError, match="another slide"):
        shelf.result(entry.results[0].id)
    shelf.close()


def test_ids_change_with_the_file_and_tell_nothing(tmp_path):
    path = tmp_path / "secret-name.zarr"
    path.mkdir()
    ids = [NamedResult.at(path).id]
    (path / ".zattrs").write_text("{}")
    ids.append(NamedResult.at(path).id)
    (path / ".zattrs").write_text('{"a": 1}')
    ids.append(NamedResult.at(path).id)
    assert len({*ids}) == 3
    assert all(len(id) == 24 and set(id) <= set("0123456789abcdef") for id in ids)
    assert opaque_id("a", "b") != opaque_id("ab")


def test_a_slide_is_opened_anew_when_its_batch_brings_a_result(viewed, counted):
    waiting, done = viewed.entry(results=False), viewed.entry()
    shelf = Shelf([waiting], ViewSettings())
    with shelf.open(done.id) as before:
        shelf.renew([viewed.entry(results=False)])
        assert shelf.slide(done.id) is before
        shelf.renew([done])
        assert [one.id for one in shelf.slide(done.id).results] == [done.results[0].id]
        assert counted == [("open", "painted.svs")] * 2
    assert counted[2:] == [("close", "painted.svs")]
    shelf.renew([waiting])
    assert not shelf.slide(done.id).results
    assert counted[3:] == [("close", "painted.svs"), ("open", "painted.svs")]
    shelf.close()
