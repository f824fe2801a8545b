"""Names of results: they do not depend on who is there, and what is done stays."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wsi_sampath.batch.discover import plan_batch, plan_jobs
from wsi_sampath.batch.found import Found
from wsi_sampath.batch.names import name_results
from wsi_sampath.batch.record.journal import Journal, Record, journal_folder
from wsi_sampath.errors import UsageError


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "in").mkdir()
    return tmp_path / "in"


@pytest.fixture
def out(tmp_path) -> Path:
    return tmp_path / "out"


def put(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * len(path.as_posix()))


def named(inputs: list[Path], out: Path) -> dict[str, str]:
    return {job.slide.name: job.zarr.relative_to(out).as_posix() for job in plan_jobs(inputs, out)}


def finish(out: Path, zarr: str, slide: str) -> None:
    """Leave a result as far as names are concerned."""
    (out / zarr).mkdir(parents=True)
    (out / zarr / ".zattrs").write_text(json.dumps({"wsi_sampath": {"slide": {"name": slide}}}))


def begin(out: Path, zarr: str, slide: str) -> None:
    ledger = out / f"{zarr}.partial" / "ledger"
    ledger.mkdir(parents=True)
    (ledger / "identity.json").write_text(json.dumps({"slide": {"name": slide}}))


def record(out: Path, zarr: str, slide: Path, status: str = "failed") -> None:
    Journal(journal_folder(out)).add(Record(str(slide), zarr, status, "key", time.time(), "host"))


@pytest.mark.parametrize("leave", [finish, begin])
def test_a_newcomer_takes_nothing_from_a_slide_of_the_same_stem(folder, out, leave):
    put(folder / "slide001.tiff")
    assert named([folder], out) == {"slide001.tiff": "slide001.zarr"}
    leave(out, "slide001.zarr", "slide001.tiff")
    put(folder / "slide001.svs")
    assert named([folder], out) == {
        "slide001.svs": "slide001.svs.zarr",
        "slide001.tiff": "slide001.zarr",
    }


def test_a_failed_slide_keeps_its_name_too(folder, out):
    put(folder / "a.tiff", folder / "a.svs")
    record(out, "a.zarr", folder / "a.tiff")
    assert named([folder], out) == {"a.svs": "a.svs.zarr", "a.tiff": "a.zarr"}


def test_a_name_stays_taken_when_its_slide_is_not_in_the_batch(folder, out):
    put(folder / "a.svs")
    finish(out, "a.zarr", "a.tiff")
    assert named([folder], out) == {"a.svs": "a.svs.zarr"}
    assert named([folder / "a.svs"], out) == {"a.svs": "a.svs.zarr"}


def test_what_is_done_under_its_full_name_stays_when_the_other_leaves(folder, out):
    put(folder / "a.svs", folder / "a.tiff")
    names = named([folder], out)
    assert names == {"a.svs": "a.zarr", "a.tiff": "a.tiff.zarr"}
    finish(out, "a.tiff.zarr", "a.tiff")
    (folder / "a.svs").unlink()
    assert named([folder], out) == {"a.tiff": "a.tiff.zarr"}


def test_a_zarr_that_is_not_ours_is_left_to_fail_by_itself(folder, out):
    put(folder / "a.svs")
    (out / "a.zarr").mkdir(parents=True)
    assert named([folder], out) == {"a.svs": "a.zarr"}


def test_a_moved_folder_finds_its_results(folder, out, tmp_path):
    put(folder / "a.svs", folder / "a.tiff")
    record(out, "a.zarr", folder / "a.svs", "done")
    record(out, "a.tiff.zarr", folder / "a.tiff", "done")
    folder.rename(tmp_path / "moved")
    assert named([tmp_path / "moved"], out) == {"a.svs": "a.zarr", "a.tiff": "a.tiff.zarr"}


def test_slides_of_one_name_from_two_folders_keep_theirs_in_any_order(tmp_path, out):
    slides = [tmp_path / one / "a.svs" for one in ("p", "q", "longer")]
    put(*slides)
    listed = tmp_path / "l.txt"

    def by_folder(order) -> dict[str, str]:
        listed.write_text("\n".join(str(slides[number]) for number in order))
        return {job.slide.parent.name: job.zarr.name for job in plan_jobs([listed], out)}

    assert by_folder([0, 1]) == {"p": "a.zarr", "q": "a.svs.zarr"}
    record(out, "a.zarr", slides[0], "done")
    record(out, "a.svs.zarr", slides[1], "done")
    assert by_folder([2, 1, 0]) == {"p": "a.zarr", "q": "a.svs.zarr", "longer": "a-2.zarr"}
    assert by_folder([1]) == {"q": "a.svs.zarr"}
    assert by_folder([2]) == {"longer": "a-2.zarr"}


def test_names_that_are_one_file_on_other_systems_are_kept_apart(folder, out):
    put(folder / "A.svs", folder / "a.svs", folder / "e\u0301.svs", folder / "\u00e9.svs")
    names = named([folder], out)
    assert len({name.casefold() for name in names.values()}) == 4
    assert names["A.svs"] == "A.zarr"
    assert names["a.svs"] == "a.svs.zarr"


@pytest.mark.parametrize("name", ["report.svs", "slides.svs", "REPORT.tiff", "Slides.ndpi"])
def test_the_batchs_own_pages_keep_their_names(folder, out, name):
    put(folder / name, folder / "sub" / name)
    zarrs = [job.zarr.relative_to(out).as_posix() for job in plan_jobs([folder], out)]
    stem = Path(name).stem
    assert sorted(zarrs) == sorted([f"{name}.zarr", f"sub/{stem}.zarr"])


def test_names_too_long_for_what_is_written_beside_are_shortened(folder, out):
    put(
        folder / ("x" * 240 + ".svs"), folder / ("x" * 239 + "y.svs"), folder / ("µ" * 120 + ".svs")
    )
    names = named([folder], out).values()
    assert len(set(names)) == 3
    assert all(len(name.encode()) < 230 for name in names)
    assert list(names) == list(named([folder], out).values())


@pytest.mark.parametrize(
    ("output", "words"),
    [
        ("report", "batch's own page"),
        ("slides.zarr", "batch's own page"),
        (".", "not the name"),
        ("C:\\x", "below --out"),
        ("a\\..\\..\\x", "below --out"),
        (".wsi_sampath/journal/x", "among files of the batch"),
        ("a.zarr/b", "within another zarr"),
    ],
)
def test_outputs_of_a_list_that_cannot_be(tmp_path, output, words):
    (tmp_path / "l.csv").write_text(f"slide,output\na.svs,{output}\n")
    with pytest.raises(UsageError, match=words):
        plan_batch([tmp_path / "l.csv"], tmp_path / "out")


def test_outputs_that_differ_in_capitals_are_one(tmp_path):
    (tmp_path / "l.csv").write_text("slide,output\na.svs,X\nb.svs,x\n")
    with pytest.raises(UsageError, match="more than one"):
        plan_batch([tmp_path / "l.csv"], tmp_path / "out")


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["a", "A", "b", "report"]), st.sampled_from(["svs", "tiff", "ndpi"])
        ),
        unique=True,
        min_size=1,
    ),
    st.data(),
)
def test_slides_that_join_change_no_name_of_those_that_are_done(tmp_path_factory, slides, data):
    out = tmp_path_factory.mktemp("out")
    found = [Found(Path(f"/in/{s}.{e}"), Path(f"{s}.{e}")) for s, e in slides]
    first = data.draw(st.lists(st.sampled_from(found), unique=True))
    before = dict(zip(first, name_results(first, out), strict=True))
    for one, name in before.items():
        record(out, name.as_posix(), one.slide, "done")
    after = dict(zip(found, name_results(found, out), strict=True))
    assert {one: after[one] for one in before} == before
    assert len({name.as_posix().casefold() for name in after.values()}) == len(found)
