"""Folders: what is linked, dangling, unreadable or odd is analysed or named, never dropped."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from wsi_sampath.batch.discover import plan_batch
from wsi_sampath.batch.walk import search
from wsi_sampath.errors import UsageError


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "in").mkdir()
    return tmp_path / "in"


def put(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x")
    return path


def found(folder: Path) -> dict[str, str]:
    return {one.relative.as_posix(): one.fault for one in search(folder).found}


def test_links_to_slides_and_to_folders_are_followed(folder, tmp_path):
    os.symlink(put(tmp_path / "store" / "a.svs"), folder / "linked.svs")
    put(tmp_path / "store" / "case" / "deep" / "b.svs")
    os.symlink(tmp_path / "store" / "case", folder / "case")
    assert found(folder) == {"linked.svs": "", "case/deep/b.svs": ""}


@pytest.mark.timeout(20)
def test_loops_of_links_end(folder):
    put(folder / "a" / "s.svs")
    put(folder / "b" / "t.svs")
    os.symlink("..", folder / "a" / "up")
    os.symlink("../b", folder / "a" / "other")
    os.symlink("../a", folder / "b" / "other")
    os.symlink(".", folder / "self")
    assert found(folder) == {"a/s.svs": "", "b/t.svs": ""}


@pytest.mark.timeout(20)
def test_many_folders_that_all_lead_to_each_other_are_entered_once(folder):
    for number in range(12):
        put(folder / str(number) / "s.svs")
        for other in range(12):
            os.symlink(f"../{other}", folder / str(number) / f"to{other}")
    assert len(found(folder)) == 12


def test_a_folder_goes_by_its_own_name_rather_than_by_that_of_a_link(folder):
    put(folder / "z" / "s.svs")
    os.symlink("z", folder / "a")
    searched = search(folder)
    assert [one.relative.as_posix() for one in searched.found] == ["z/s.svs"]
    assert "is searched by its own name" in searched.notes[0]


def test_dangling_links_are_failures_with_a_reason(folder, tmp_path):
    os.symlink(tmp_path / "gone" / "c.svs", folder / "c.svs")
    os.symlink(tmp_path / "gone" / "case3", folder / "case3")
    os.symlink("loop.svs", folder / "loop.svs")
    os.symlink(tmp_path / "gone.txt", folder / "notes.txt")
    os.symlink("pid", folder / ".#lock.svs")
    faults = found(folder)
    assert set(faults) == {"c.svs", "case3", "loop.svs"}
    assert "is its disk mounted?" in faults["c.svs"]
    assert "in a circle" in faults["loop.svs"]


def test_pipes_and_sockets_are_named_and_never_opened(folder):
    os.mkfifo(folder / "pipe.svs")
    os.mkfifo(folder / "pipe")
    assert list(found(folder)) == ["pipe.svs"]
    assert "not a regular file" in found(folder)["pipe.svs"]


def test_folders_that_cannot_be_read_are_failures(folder, monkeypatch):
    put(folder / "closed" / "s.svs")
    put(folder / "open" / "t.svs")
    original = os.scandir

    def scandir(path):
        if Path(path).name == "closed":
            raise PermissionError(13, "Permission denied")
        return original(path)

    monkeypatch.setattr(os, "scandir", scandir)
    assert found(folder) == {
        "closed": "the folder cannot be read: Permission denied",
        "open/t.svs": "",
    }
    plan = plan_batch([folder / "closed"], folder.parent / "out")
    assert [job.fault for job in plan.jobs] == ["the folder cannot be read: Permission denied"]


def test_capitals_companions_and_other_programs_files(folder):
    for name in ("A.SVS", "b.Ndpi", "c.mrxs", "c/Data0001.dat", "c/Slidedat.ini", "d.vms", "d.opt"):
        put(folder / name)
    for name in ("d-1.jpg", "._A.SVS", ".hidden.svs", "e.svs.partial", "f.svs.parcel", "x.czi"):
        put(folder / name)
    assert list(found(folder)) == ["A.SVS", "b.Ndpi", "c.mrxs", "d.vms", "x.czi"]
    assert dict(search(folder).others) == {
        ".dat": 1,
        ".ini": 1,
        ".opt": 1,
        ".jpg": 1,
        ".partial": 1,
        ".parcel": 1,
    }


def test_other_files_are_counted_and_ours_are_not(folder):
    put(folder / "a.svs")
    put(folder / "notes.txt")
    put(folder / "out" / "a.html")
    put(folder / "out" / "a.zarr" / "0" / "0.0.0")
    plan = plan_batch([folder], folder / "out")
    assert plan.notes == ("1 slide found; 1 other file left out (1 .txt)",)
    with pytest.raises(UsageError, match="no slides were found among 2 files"):
        plan_batch(
            [put(folder / "only" / "b.md").parent, put(folder / "two" / "c.md").parent], folder
        )


def test_slides_in_a_folder_that_is_passed_over_are_named(folder):
    put(folder / "logs" / "s.svs")
    put(folder / "logs" / "s.svs.parcel")
    put(folder / "t.svs")
    searched = search(folder)
    assert len(searched.found) == 1
    assert "passed over with 1 slide" in searched.notes[0]


def test_the_same_file_twice_is_analysed_once_and_said(folder):
    put(folder / "sub" / "a.svs")
    plan = plan_batch([folder, folder / "sub", folder / "sub" / "a.svs"], folder.parent / "out")
    assert [job.zarr.name for job in plan.jobs] == ["a.zarr"]
    assert sum("analysed once" in note for note in plan.notes) == 2


def test_a_link_beside_its_slide_is_said(folder):
    put(folder / "a.svs")
    os.symlink("a.svs", folder / "alias.svs")
    plan = plan_batch([folder], folder.parent / "out")
    assert len(plan.jobs) == 2
    assert "alias.svs is a link to" in plan.notes[0]


@pytest.mark.parametrize("name", ["results", "results.d"])
def test_one_slide_into_a_folder(tmp_path, name):
    slide = put(tmp_path / "s.svs")
    with pytest.raises(UsageError, match=rf"give .*{name}.zarr, or .*{name}/s.zarr"):
        plan_batch([slide], tmp_path / name)
    (job,) = plan_batch([slide], tmp_path / name, into_folder=True).jobs
    assert job.zarr == tmp_path / name / "s.zarr"
    (tmp_path / name).mkdir()
    plan = plan_batch([slide], tmp_path / name)
    assert plan.is_single
    assert plan.jobs[0].zarr == tmp_path / name / "s.zarr"


def test_an_input_that_is_not_there_is_said_first(tmp_path):
    with pytest.raises(UsageError, match="there is no such slide, folder or list"):
        plan_batch([tmp_path / "gone"], tmp_path / "results")
    with pytest.raises(UsageError, match="--out is a file"):
        plan_batch([tmp_path / "a.svs", put(tmp_path / "b.svs")], put(tmp_path / "out"))
