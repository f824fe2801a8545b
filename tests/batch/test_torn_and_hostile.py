# ruff: noqa: F811 - fixtures are named as arguments
"""The batch's own files: torn, full, somebody else's, or with names that act."""

from __future__ import annotations

import csv
import dataclasses
import errno
import json
import os
import shutil
from pathlib import Path

import pytest
from batch_stub import cohort, load_stub, settings, two  # noqa: F401 - fixtures
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from wsi_sampath.batch.batch import Batch
from wsi_sampath.batch.discover import plan_jobs
from wsi_sampath.batch.progress import SilentBatch
from wsi_sampath.batch.record import folder as folder_module
from wsi_sampath.batch.record import journal as journal_module
from wsi_sampath.batch.record import table
from wsi_sampath.batch.record.folder import BatchFolder
from wsi_sampath.batch.record.journal import Journal, Record
from wsi_sampath.batch.record.page import render_page
from wsi_sampath.batch.record.table import quoted, unquoted
from wsi_sampath.batch.runner import run_batch
from wsi_sampath.errors import UsageError, WsiError
from wsi_sampath.synthetic.painted import paint_slide

RECORD = Record("a.svs", "a.zarr", "done", "key", 1.7e9, "host", area_mm2={"x": 1.0})


class Warned(SilentBatch):
    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warn(self, message: str) -> None:
        self.warnings.append(message)


def batch(folder: Path, out: Path, progress=None):
    jobs = plan_jobs([folder], out)
    values = settings(report=False, polygons=False)
    return run_batch(Batch(jobs, values, out, progress=progress or SilentBatch()), load_stub())


@pytest.fixture
def one(cohort, tmp_path) -> Path:
    """A folder of one slide."""
    (tmp_path / "in").mkdir()
    shutil.copy(cohort / "uuid-0" / "slide.svs", tmp_path / "in" / "a.svs")
    return tmp_path / "in"


TORN = [
    bytes(200),
    b'{"slide": "a.svs", "zarr": "a.z',
    b"[]",
    b"null",
    b"{}",
    b"\xff\xfe\x00",
    json.dumps(RECORD.as_json() | {"time": 1e300}).encode(),
    json.dumps(RECORD.as_json() | {"time": float("nan")}).encode(),
    json.dumps(RECORD.as_json() | {"zarr": 7}).encode(),
    json.dumps(RECORD.as_json() | {"area_mm2": {"x": "much"}}).encode(),
    json.dumps(RECORD.as_json() | {"mpp_x": []}).encode(),
    b"[" * 100_000,
]


@pytest.mark.parametrize("line", TORN, ids=range(len(TORN)))
def test_a_torn_line_is_passed_over_and_counted(tmp_path, line):
    good = json.dumps(RECORD.as_json()).encode()
    (tmp_path / "x.jsonl").write_bytes(line + b"\n" + good + b"\n")
    journal = Journal(tmp_path)
    assert list(journal.latest().values()) == [RECORD]
    assert sum(journal.torn.values()) == 1


@hypothesis_settings(max_examples=80, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_are_a_journal(tmp_path_factory, content):
    folder = tmp_path_factory.mktemp("journal")
    (folder / "x.jsonl").write_bytes(content + b"\n")
    assert all(isinstance(record, Record) for record in Journal(folder).latest().values())


def test_a_journal_that_is_no_file_is_passed_over(tmp_path):
    (tmp_path / "x.jsonl").mkdir()
    (tmp_path / "x.jsonl" / "inside").touch()
    journal = Journal(tmp_path)
    assert journal.latest() == {}
    assert len(journal.torn) == 1


def test_after_a_line_that_a_full_disk_cut_the_next_one_is_whole(tmp_path, monkeypatch):
    journal = Journal(tmp_path)
    original = os.fsync

    def full(_descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(journal_module.os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        journal.add(RECORD)
    monkeypatch.setattr(journal_module.os, "fsync", original)
    (own,) = tmp_path.glob("*.jsonl")
    own.write_bytes(own.read_bytes()[:30])
    journal.add(RECORD)
    assert list(Journal(tmp_path).latest().values()) == [RECORD]


def test_a_batch_goes_on_over_a_torn_journal_and_says_so(one, tmp_path):
    out = tmp_path / "out"
    batch(one, out)
    (out / ".wsi_sampath" / "journal" / "x.jsonl").write_bytes(bytes(200) + b"\n")
    warned = Warned()
    (outcome,) = batch(one, out, warned)
    assert outcome.result.reused
    assert "1 line of the batch's journal" in warned.warnings[0]


def test_names_that_are_not_utf8_come_back_from_the_journal(tmp_path):
    record = Record(os.fsdecode(b"bad\xff.svs"), "bad\udcff.zarr", "done", "key", 1.7e9, "host")
    Journal(tmp_path).add(record)
    assert list(Journal(tmp_path).latest().values()) == [record]


def test_a_slide_whose_name_is_not_utf8_is_done_like_any_other(one, tmp_path):
    name = os.fsdecode(b"bad\xff.svs")
    shutil.copy(one / "a.svs", one / name)
    out = tmp_path / "out"
    assert [outcome.done for outcome in batch(one, out)] == [True, True]
    assert r"bad\xff.svs" in (out / "slides.csv").read_text()
    assert "thumbnails/bad%FF.zarr.jpg" in (out / "report.html").read_text()
    assert all(outcome.result.reused for outcome in batch(one, out))


EVIL = [
    "=1+1.svs",
    "+a.svs",
    "-a.svs",
    "@a.svs",
    "\ta.svs",
    "a\nb.svs",
    "a\x1b[2J.svs",
    "\uff1da.svs",
]


@pytest.mark.parametrize("name", EVIL)
def test_evil_names_are_text_in_the_table_and_on_the_page(tmp_path, name):
    record = Record(name, name, "failed", "key", 1.7e9, "host", "unreadable", message=name)
    table.write_table(tmp_path / "slides.csv", [record], [(name, "z")])
    text = (tmp_path / "slides.csv").read_text(encoding="utf-8")
    assert "\x1b" not in text
    assert len(text.splitlines()) == 3
    rows = list(csv.DictReader(text.splitlines()))
    for row in rows:
        assert not row["slide"].startswith(("=", "+", "-", "@", "\t", "\uff1d"))
    page = render_page([record], [(name, "z")], lambda _: None)
    assert "\x1b" not in page


def test_slides_of_doubtful_quality_come_first_with_the_reason(tmp_path):
    doubts = {
        "clean": {"blurred": 0.0},
        "much": {"blurred": 0.6, "doubts": "60 % out of focus"},
        "little": {"blurred": 0.2, "doubts": "20 % out of focus"},
        "twice": {"blurred": 0.1, "doubts": "10 % out of focus; looks like <i>a grey image"},
        "old": {},
    }
    records = [
        Record(name, f"{name}.zarr", "done", "key", 1.7e9, "host", **known)
        for name, known in doubts.items()
    ]
    page = render_page(records, [], lambda _: None)
    places = [page.index(f">{name}<") for name in ("twice", "much", "little", "clean", "old")]
    assert places == sorted(places)
    assert "3 slides of doubtful quality" in page
    assert '<span class="doubt">looks like &lt;i&gt;a grey image</span>' in page
    assert "doubtful" not in render_page(records[:1], [], lambda _: None)
    table.write_table(tmp_path / "slides.csv", records, [])
    with (tmp_path / "slides.csv").open(newline="") as file:
        rows = {row["slide"]: row for row in csv.DictReader(file)}
    assert (rows["much"]["blurred"], rows["old"]["blurred"]) == ("0.6", "")
    assert rows["much"]["doubts"] == "60 % out of focus"


def test_the_record_of_a_result_keeps_its_quality(one, tmp_path):
    out = tmp_path / "out"
    values = settings(report=False, polygons=False)
    run_batch(Batch(plan_jobs([one], out), values, out), load_stub())
    with (out / "slides.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert float(row["blurred"]) == 0
    assert float(row["saturation"]) > 0.1


@pytest.mark.parametrize("name", ["=1.svs", "-a.svs", "a.svs", "'a.svs", "''", "="])
def test_quoted_cells_are_read_back(name):
    assert unquoted(quoted(name)) == name


def test_a_page_with_names_of_tags_holds_no_tags(tmp_path):
    record = Record("<b>.svs", "<script>.zarr", "done", "key", 1.7e9, "host", has_report=True)
    page = render_page([record], [], lambda _: "x/<img>.jpg")
    assert "<script>" not in page
    assert "<img>" not in page


@pytest.mark.parametrize("name", ["slides.csv", "report.html"])
def test_pages_that_are_not_ours_are_never_replaced(one, tmp_path, name):
    out = tmp_path / "out"
    out.mkdir()
    (out / name).write_text("wsi,stain\na.svs,HE\n")
    with pytest.raises(UsageError, match="not of a batch"):
        batch(one, out)
    assert (out / name).read_text() == "wsi,stain\na.svs,HE\n"
    assert not (out / "a.zarr").exists()


def test_our_own_pages_are_replaced(one, tmp_path):
    batch(one, tmp_path / "out")
    batch(one, tmp_path / "out")
    assert "1 done" in (tmp_path / "out" / "report.html").read_text()


@pytest.mark.parametrize(
    ("code", "reason"),
    [(errno.ENOSPC, "disk-full"), (errno.EROFS, "bad-input"), (errno.EDQUOT, "disk-full")],
)
@pytest.mark.parametrize("when", ["write_table", "write_page", "add"])
def test_a_disk_that_takes_nothing_ends_the_batch_in_one_line(
    one, tmp_path, monkeypatch, code, reason, when
):
    def fail(*_arguments):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(*((Journal, when) if when == "add" else (folder_module, when)), fail)
    with pytest.raises(WsiError) as told:
        batch(one, tmp_path / "out")
    assert told.value.reason == reason
    assert str(tmp_path / "out") in told.value.line()


def test_a_thumbnail_that_cannot_be_drawn_costs_nothing(one, tmp_path, monkeypatch):
    def fail(*_arguments):
        raise ValueError("not a picture")

    monkeypatch.setattr(folder_module, "write_thumbnail", fail)
    (outcome,) = batch(one, tmp_path / "out")
    assert outcome.done


def test_slides_named_as_the_batchs_pages_collide_with_nothing(cohort, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("report.svs", "slides.svs"):
        shutil.copy(cohort / "uuid-0" / "slide.svs", folder / name)
    out = tmp_path / "out"
    jobs = plan_jobs([folder], out)
    run_batch(Batch(jobs, settings(polygons=False), out), load_stub())
    assert "2 done" in (out / "report.html").read_text()
    assert (out / "report.svs.html").exists()
    assert "report.svs.html" in (out / "report.html").read_text()


def test_faulty_slides_fail_and_the_others_run(one, tmp_path):
    os.symlink(tmp_path / "gone.svs", one / "dangling.svs")
    os.mkfifo(one / "pipe.svs")
    (one / ("x" * 240 + ".svs")).write_bytes(b"x")
    outcomes = batch(one, tmp_path / "out")
    assert [outcome.reason for outcome in outcomes] == ["", *["unreadable"] * 3]
    again = batch(one, tmp_path / "out")
    assert [outcome.done for outcome in again] == [True, False, False, False]
    with (tmp_path / "out" / "slides.csv").open(newline="") as stream:
        statuses = [row["status"] for row in csv.DictReader(stream)]
    assert sorted(statuses) == ["done", "failed", "failed", "failed"]


def test_a_half_copied_slide_recovers_once_its_file_has_changed(tmp_path):
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    whole = tmp_path / "whole.svs"
    paint_slide(whole, width=1600, height=1600, mpp=0.5, seed=4)
    data = whole.read_bytes()
    for part in (0.05, 0.12):
        (folder / "scan.svs").write_bytes(data[: int(len(data) * part)])
        (outcome,) = batch(folder, out)
        assert not outcome.done
    shutil.copy(whole, folder / "scan.svs")
    (outcome,) = batch(folder, out)
    assert outcome.done, outcome.line()


def test_a_newcomer_of_the_same_stem_costs_nothing_that_is_done(one, cohort, tmp_path):
    out = tmp_path / "out"
    (one / "a.svs").rename(one / "a.tiff")
    batch(one, out)
    before = (out / "a.zarr" / ".zattrs").stat().st_mtime_ns
    shutil.copy(cohort / "uuid-1" / "slide.svs", one / "a.svs")
    outcomes = {outcome.job.slide.name: outcome for outcome in batch(one, out)}
    assert outcomes["a.tiff"].result.reused
    assert outcomes["a.svs"].job.zarr.name == "a.svs.zarr"
    assert outcomes["a.svs"].done
    assert (out / "a.zarr" / ".zattrs").stat().st_mtime_ns == before


def test_an_output_inside_the_input_is_not_read_as_slides(one):
    for _ in range(2):
        outcomes = batch(one, one / "out")
        assert [outcome.job.slide.name for outcome in outcomes] == ["a.svs"]


def test_the_folder_of_a_cluster_task_has_no_pages(tmp_path):
    folder = BatchFolder(tmp_path / "out", [], pages=False)
    folder.write_pages_if_due()
    assert not (tmp_path / "out").exists()


def test_what_a_result_warns_of_is_in_the_table_and_on_the_page(one, tmp_path):
    doubtful = dataclasses.replace(load_stub(), warnings=("its weights are <random>",))
    values = settings(report=False, polygons=False)
    out = tmp_path / "out"
    run_batch(Batch(plan_jobs([one], out), values, out), doubtful)
    with (out / "slides.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert "its weights are <random>" in row["warnings"]
    assert "its weights are &lt;random&gt;" in (out / "report.html").read_text()


@pytest.mark.parametrize("loss", ["chunk", "end of the report"])
def test_a_done_slide_that_lost_something_is_not_taken_for_done(one, tmp_path, loss):
    out = tmp_path / "out"
    jobs = plan_jobs([one], out)
    (first,) = run_batch(Batch(jobs, settings(report=True), out), load_stub())
    result = first.result
    if loss == "chunk":
        lost = result.zarr / "labels" / "classes" / "0" / "0" / "0"
    else:
        lost = result.report
    whole = lost.read_bytes()
    lost.unlink() if loss == "chunk" else lost.write_bytes(whole[:300])
    (again,) = run_batch(Batch(jobs, settings(report=True), out), load_stub())
    assert again.result.reused == (loss != "chunk")
    assert lost.read_bytes().endswith(whole[-10:])
    (third,) = run_batch(Batch(jobs, settings(report=True), out), load_stub())
    assert third.result.reused
