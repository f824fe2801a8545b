from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile

from wsi_sampath.batch.discover import Job, is_slide, plan_jobs, with_mpp
from wsi_sampath.errors import UsageError


@pytest.fixture
def download(tmp_path) -> Path:
    """What GDC's client leaves; the slides are none, since finding them opens none."""
    folder = tmp_path / "download"
    for number, name in enumerate(("slide.svs", "slide.svs", "third.svs")):
        home = folder / f"uuid-{number}"
        (home / "logs").mkdir(parents=True)
        (home / name).write_bytes(b"x")
        (home / "annotations.txt").write_text("id\tstate\n")
        (home / "logs" / "slide.svs.parcel").write_bytes(b"II*\0parcel")
    (folder / "uuid-1" / "other.svs.partial").write_bytes(b"II*\0unfinished")
    return folder


def names(jobs: list[Job], out: Path) -> list[str]:
    return [job.zarr.relative_to(out).as_posix() for job in jobs]


def test_gdc_layout(download, tmp_path):
    jobs = plan_jobs([download], tmp_path)
    assert names(jobs, tmp_path) == ["uuid-0/slide.zarr", "uuid-1/slide.zarr", "uuid-2/third.zarr"]


def test_content_tells_where_the_suffix_does_not(tmp_path):
    pixels = np.zeros((600, 500, 3), np.uint8)
    for name in ("noname", "odd.dat", "unfinished.partial"):
        tifffile.imwrite(tmp_path / name, pixels, tile=(256, 256), photometric="rgb")
    tifffile.imwrite(tmp_path / "photo.raw", pixels, photometric="rgb")
    (tmp_path / "notes.txt").write_text("II*\0 is how a TIFF begins")
    (tmp_path / "cut.dat").write_bytes(b"II*\0\x08")
    (tmp_path / "bad.svs").write_bytes(b"nonsense")
    found = {path.name for path in tmp_path.iterdir() if is_slide(path)}
    assert found == {"noname", "odd.dat", "bad.svs"}


def test_hidden_and_own_folders_are_closed_but_not_a_hidden_way_to_the_input(tmp_path):
    root = tmp_path / ".cache" / "in"
    for folder in (".hidden", "logs", "a.zarr", "b.zarr.partial", "open"):
        (root / folder).mkdir(parents=True)
        (root / folder / "s.svs").write_bytes(b"x")
    (root / "open" / ".s.svs").write_bytes(b"x")
    assert names(plan_jobs([root], tmp_path), tmp_path) == ["open/s.zarr"]


def test_manifest(download, tmp_path):
    shutil.copytree(download / "uuid-0", tmp_path / "uuid-0")
    (tmp_path / "flat.svs").write_bytes(b"x")
    rows = [
        "id\tfilename\tmd5\tsize\tstate",
        "uuid-0\tslide.svs\tabc\t1\treleased",
        "uuid-8\tflat.svs\tabc\t1\treleased",
        "uuid-7\tmissing.svs\tabc\t1\treleased",
        "uuid-6\treads.bam\tabc\t1\treleased",
    ]
    (tmp_path / "manifest.txt").write_text("\n".join(rows))
    out = tmp_path / "out"
    jobs = plan_jobs([tmp_path / "manifest.txt"], out)
    assert names(jobs, out) == ["uuid-0/slide.zarr", "uuid-8/flat.zarr", "uuid-7/missing.zarr"]
    assert [job.slide for job in jobs] == [
        tmp_path / "uuid-0" / "slide.svs",
        tmp_path / "flat.svs",
        tmp_path / "uuid-7" / "missing.svs",
    ]


def test_csv_with_mpp_and_output(tmp_path):
    table = tmp_path / "list.csv"
    table.write_text(
        'slide,mpp,output\na/x.svs,0.25,case 1/first\nb/x.svs,,\n"c/x.svs","0.5,0.6",z.zarr\n'
    )
    out = tmp_path / "out"
    jobs = plan_jobs([table], out)
    assert names(jobs, out) == ["case 1/first.zarr", "x.zarr", "z.zarr"]
    assert [job.mpp for job in jobs] == [(0.25, 0.25), None, (0.5, 0.6)]
    assert with_mpp(jobs, {"b/x.svs": (1.0, 1.0)})[1].mpp == (1.0, 1.0)
    assert with_mpp(jobs, {"nothing": (1.0, 1.0)}) == jobs


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("slide,output\na.svs,/etc/x\n", "below --out"),
        ("slide,output\na.svs,../x\n", "below --out"),
        ("slide,output\na.svs,x\nb.svs,x\n", "more than one"),
        ("slide,mpp\na.svs,half\n", "half"),
        ("image\na.svs\n", "column slide"),
        ("slide\n", "no slides"),
    ],
)
def test_bad_lists(tmp_path, text, words):
    (tmp_path / "list.csv").write_text(text)
    with pytest.raises(UsageError, match=words):
        plan_jobs([tmp_path / "list.csv"], tmp_path / "out")


def test_equal_names_are_kept_apart(tmp_path):
    for name in ("a.svs", "a.tiff"):
        (tmp_path / name).write_bytes(b"x")
    listed = tmp_path / "l.txt"
    listed.write_text("# comment\np/a.svs\nq/a.svs\n")
    out = tmp_path / "out"
    assert names(plan_jobs([tmp_path], out), out) == ["a.zarr", "a.tiff.zarr"]
    assert names(plan_jobs([listed], out), out) == ["a.zarr", "a.svs.zarr"]
