"""Lists in every spelling that programs and people write, and hostile ones: read, or one line."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wsi_sampath.batch.discover import plan_batch
from wsi_sampath.batch.lists import read_list
from wsi_sampath.errors import UsageError


@pytest.fixture
def slides(tmp_path) -> Path:
    for name in ("a.svs", "Müller.svs", "sub/b.svs", "#1.svs", "-c.svs"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x")
    return tmp_path


def listed(folder: Path, content: bytes, name: str = "list.txt") -> list[tuple[str, str]]:
    (folder / name).write_bytes(content)
    found = read_list(folder / name)
    return [(os.path.relpath(one.slide, folder), one.fault) for one in found]


@pytest.mark.parametrize(
    "content",
    [
        "a.svs\r\nMüller.svs\r\nsub/b.svs\r\n".encode(),
        "\ufeffa.svs\nMüller.svs\nsub/b.svs".encode(),
        "a.svs\nMüller.svs\nsub/b.svs\n".encode("utf-16"),
        "\ufeffa.svs\nMüller.svs\nsub/b.svs\n".encode("utf-16-be"),
        "a.svs\nMüller.svs\nsub/b.svs\n".encode("cp1252"),
        "  # a comment\n\n  a.svs  \n\t# more\nMüller.svs\nsub/b.svs\n".encode(),
        'a.svs\n"Müller.svs"\n"sub\\b.svs"\n'.encode(),
        "a.svs\nMüller.svs\nsub\\b.svs\n".encode(),
    ],
)
def test_spellings_of_a_plain_list(slides, content):
    assert listed(slides, content) == [("a.svs", ""), ("Müller.svs", ""), ("sub/b.svs", "")]


@pytest.mark.parametrize(
    "content",
    [
        "slide;mpp\na.svs;0.5\nsub/b.svs;0.25,0.5\n",
        'Slide , MPP\na.svs, 0.5\nsub/b.svs,"0.25,0.5"\n',
        'mpp,slide\n0.5,a.svs\n"0.25,0.5",sub/b.svs\n',
    ],
)
def test_spellings_of_a_table(slides, content):
    (slides / "list.csv").write_text(content)
    found = read_list(slides / "list.csv")
    assert [one.mpp for one in found] == [(0.5, 0.5), (0.25, 0.5)]


def test_a_name_that_begins_like_a_comment_is_a_slide_where_it_is_there(slides):
    assert listed(slides, b"#1.svs\n#2.svs\n") == [("#1.svs", "")]


def test_names_in_bytes_that_are_not_utf8_are_found_by_them(slides):
    name = os.fsdecode(b"bad\xff.svs")
    (slides / name).write_bytes(b"x")
    assert listed(slides, b"bad\xff.svs\n") == [(name, "")]


def test_cells_that_the_table_of_a_batch_quotes_are_read_back(slides):
    assert listed(slides, b"slide\n'-c.svs\n", "list.csv") == [("-c.svs", "")]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b"a\0b.svs", "NUL byte"),
        (b"a" * 5000 + b".svs", "longer than"),
        (b"..", "it is a folder"),
        (b"/", "it is a folder"),
        (b"sub", "it is a folder"),
        (b"/dev/null", "not a regular file"),
    ],
)
def test_what_can_be_no_slide_fails_by_itself(slides, line, words):
    (slides / "list.txt").write_bytes(line + b"\na.svs\n")
    plan = plan_batch([slides / "list.txt"], slides / "out")
    bad, good = plan.jobs
    assert words in bad.fault
    assert good.fault == ""
    assert all((slides / "out") in job.zarr.parents for job in plan.jobs)
    assert not any("\0" in str(job.zarr) for job in plan.jobs)


def test_a_slide_that_is_not_there_is_kept(slides):
    assert listed(slides, b"gone.svs\nC:\\slides\\x.svs\n") == [
        ("gone.svs", ""),
        ("C:\\slides\\x.svs", ""),
    ]
    jobs = plan_batch([slides / "list.txt"], slides / "out").jobs
    assert [job.zarr.name for job in jobs] == ["gone.zarr", "x.zarr"]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("m.txt", b"id\tfilename\tmd5\tsize\n/abs\t/etc/x.svs\tx\t1\n", "without folders"),
        ("m.txt", b"id\tfilename\tmd5\tsize\n..\tx.svs\tx\t1\n", "without folders"),
        ("m.txt", b"id\tfilename\tmd5\tsize\n\tx.svs\tx\t1\n", "without folders"),
        ("h.csv", b"slide\n" + b"a" * 200_000 + b".svs\n", "field larger than"),
        ("d.csv", b"slide,mpp,slide\na.svs,0.5,b.svs\n", "more than once"),
        ("u.txt", b"\xff\xfea", "cannot read the list"),
        ("o.csv", b"slide,output\na.svs,/etc/x\n", "below --out"),
        ("p.csv", b"slide,mpp\na.svs,nan\n", "nan"),
        ("t.csv", b"slide,mpp\na.svs,0.5\na.svs,0.25\n", "in one row"),
    ],
)
def test_lists_that_cannot_be_are_one_line(slides, name, content, words):
    (slides / name).write_bytes(content)
    with pytest.raises(UsageError, match=words) as told:
        plan_batch([slides / name], slides / "out")
    assert len(told.value.line().splitlines()) == 1


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=200), st.sampled_from([".txt", ".csv", ".tsv"]), st.booleans())
def test_any_bytes_are_a_list_or_one_line(tmp_path_factory, content, suffix, manifest):
    folder = tmp_path_factory.mktemp("lists")
    head = b"id\tfilename\tmd5\tsize\n" if manifest else b"slide\n" if suffix != ".txt" else b""
    (folder / f"l{suffix}").write_bytes(head + content)
    try:
        plan = plan_batch([folder / f"l{suffix}"], folder / "out")
    except UsageError as error:
        lines, jobs = error.line().splitlines(), []
    else:
        lines, jobs = [""], plan.jobs
    assert len(lines) == 1
    assert all((folder / "out") in job.zarr.parents for job in jobs)
    assert len({str(job.zarr).casefold() for job in jobs}) == len(jobs)


def test_a_decimal_comma_is_read_where_cells_are_parted_otherwise(tmp_path):
    (tmp_path / "a.svs").touch()
    for name, text in [("a.csv", "slide;mpp\na.svs;0,5\n"), ("b.tsv", "slide\tmpp\na.svs\t0,5\n")]:
        (tmp_path / name).write_text(text)
        assert [one.mpp for one in read_list(tmp_path / name)] == [(0.5, 0.5)]


@pytest.mark.parametrize("row", ["a.svs,1,5", 'a.svs,"0,25"', "a.svs,0,25"])
def test_a_decimal_comma_that_could_part_cells_is_refused(tmp_path, row):
    (tmp_path / "a.svs").touch()
    (tmp_path / "list.csv").write_text(f"slide,mpp\n{row}\n")
    with pytest.raises(UsageError, match="decimal"):
        read_list(tmp_path / "list.csv")
