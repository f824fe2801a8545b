"""Whole runs on slides that a server has: as local ones, resumable, and without its secrets."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from batch_stub import SETTINGS, contents
from command_line import ended
from slide_server import serving
from stub_network import StubNetwork, make_stub

from wsi_sampath.batch.batch import Batch
from wsi_sampath.batch.discover import plan_batch
from wsi_sampath.batch.options import BatchOptions
from wsi_sampath.batch.progress import SilentBatch
from wsi_sampath.batch.runner import run_batch
from wsi_sampath.cli import segment as command
from wsi_sampath.errors import UsageError, WsiError
from wsi_sampath.inference import segmenter
from wsi_sampath.inference.segmenter import segment_slide
from wsi_sampath.inference.settings import SegmentSettings
from wsi_sampath.slides.remote import blocks, place
from wsi_sampath.slides.remote import wire as wire_module
from wsi_sampath.slides.remote.place import located
from wsi_sampath.synthetic.svs_writer import write_svs

SECRET = "X-Amz-Signature=c0ffee"


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    monkeypatch.setattr(wire_module, "WAITS_S", (0.0,) * 6)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    found = tmp_path_factory.mktemp("served")
    (found / "other").mkdir()
    sizes = {"a.svs": (600, 900), "tall.svs": (400, 2400), "other/a.svs": (500, 300)}
    for name, (width, height) in sizes.items():
        write_svs(found / name, colours, width=width, height=height, mpp=0.5, levels=(1,))
    return found


def colours(x: int, y: int, width: int, height: int) -> np.ndarray:
    across, down = np.meshgrid(np.arange(x, x + width), np.arange(y, y + height))
    waves = [np.sin(across / 40), np.sin(down / 60), np.sin((across + down) / 90)]
    return (128 + 100 * np.stack(waves, axis=-1)).astype(np.uint8)


@pytest.fixture
def server(folder):
    with serving(folder) as server:
        server.manners.needs = SECRET
        yield server


def settings(**values) -> SegmentSettings:
    return SegmentSettings.build({**SETTINGS, "report": False, **values})


def run(slide, zarr: Path, **values):
    return segment_slide(slide, zarr, settings=settings(**values), model=make_stub())


def files_with(text: str, below: Path) -> list[Path]:
    found = [path for path in below.rglob("*") if path.is_file()]
    return [path for path in found if text.encode() in path.read_bytes() or text in path.name]


def test_a_remote_run_makes_the_files_of_a_local_one_and_keeps_no_secret(server, folder, tmp_path):
    run(folder / "a.svs", tmp_path / "here" / "a.zarr")
    remote = run(f"{server.url}/a.svs?{SECRET}", tmp_path / "there" / "a.zarr", report=True)
    here, there = (contents(tmp_path / one / "a.zarr") for one in ("here", "there"))
    assert here == there
    assert remote.attributes["slide"]["name"] == "a.svs"
    assert files_with("c0ffee", tmp_path) == []
    # The same content, whether it comes from the server or from the disk.
    assert run(folder / "a.svs", tmp_path / "there" / "a.zarr").reused


class LastWords(StubNetwork):
    """Answers a few batches; then the server dies."""

    def __init__(self, manners, after: int) -> None:
        super().__init__()
        self.manners, self.after = manners, after

    def forward(self, images):
        if len(self.calls) == self.after:
            self.manners.fail = ["cut"] * 99
        return super().forward(images)


def test_a_run_whose_server_died_resumes_with_another_link(server, folder, tmp_path, monkeypatch):
    # Nothing that was fetched is kept, so that the end of the slide is not there already.
    monkeypatch.setattr(blocks, "HELD_BLOCKS", 1)
    zarr, small = tmp_path / "a.zarr", settings(batch_size=1)
    address = f"{server.url}/tall.svs?{SECRET}"
    dying = make_stub(network=LastWords(server.manners, after=6))
    with pytest.raises(WsiError, match="broke off, at 7 tries; run the command again") as failed:
        segment_slide(address, zarr, settings=small, model=dying)
    assert failed.value.reason == "unreachable"
    assert SECRET not in failed.value.line()
    assert not zarr.exists()
    server.manners.fail, server.manners.needs = [], "fresh"
    made = segment_slide(
        f"{server.url}/tall.svs?fresh", zarr, settings=small, model=make_stub(network=StubNetwork())
    )
    assert made.attributes["resumed_after_strip"] is not None
    run(folder / "tall.svs", tmp_path / "whole" / "a.zarr")
    assert contents(zarr) == contents(tmp_path / "whole" / "a.zarr")


def test_a_slide_that_was_replaced_since_is_said(server, folder, tmp_path, monkeypatch):
    monkeypatch.setattr(place, "FRESH_S", -1.0)
    shutil.copy(folder / "other" / "a.svs", folder / "b.svs")
    address = f"{server.url}/b.svs?{SECRET}"
    run(address, tmp_path / "b.zarr")
    with (folder / "b.svs").open("ab") as stream:
        stream.write(b"another")
    with pytest.raises(WsiError, match="the slide was replaced by another since"):
        run(address, tmp_path / "b.zarr")


def batch(inputs, out: Path):
    plan = plan_batch(inputs, out)
    return run_batch(Batch(plan.jobs, settings(), out, BatchOptions(), SilentBatch()), make_stub())


def test_a_list_may_name_urls_beside_files(server, folder, tmp_path):
    listed = tmp_path / "list.csv"
    addresses = [f"{server.url}/{name}?{SECRET}" for name in ("a.svs", "other/a.svs", "gone.svs")]
    lines = [f"{address},0.5" for address in addresses]
    listed.write_text("\n".join(["slide,mpp", *lines, f"{folder / 'other' / 'a.svs'},"]))
    out = tmp_path / "out"
    made = batch([listed], out)
    names = ["a.zarr", "a.svs.zarr", "gone.zarr", "a-2.zarr"]
    assert [(one.job.zarr.name, one.done) for one in made] == [
        (name, name != "gone.zarr") for name in names
    ]
    assert (made[2].reason, "404" in made[2].message) == ("unreachable", True)
    assert files_with("c0ffee", out) == []
    # What is done stays, under its name, whatever the order; what was out of reach is tried again.
    listed.write_text("\n".join(["slide", *reversed(addresses)]))
    shutil.copy(folder / "a.svs", folder / "gone.svs")
    again = {one.job.zarr.name: one for one in batch([listed], out)}
    (folder / "gone.svs").unlink()
    assert {name: (one.done, one.result.reused) for name, one in again.items()} == {
        "a.zarr": (True, True),
        "a.svs.zarr": (True, True),
        "gone.zarr": (True, False),
    }


def test_the_command_takes_urls_and_says_nothing_secret(server, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(segmenter, "load_from_settings", lambda _settings: make_stub())
    words = ["--out", tmp_path / "a.zarr", "--tissue", "none", "-j", "1", "--device", "cpu"]

    def said(*more):
        code = ended(monkeypatch, command.main, "wsi-segment", *more)
        told = capfd.readouterr()
        assert "c0ffee" not in told.out + told.err
        return code, told.out + told.err

    address = f"{server.url}/a.svs?{SECRET}"
    code, told = said(address, *words)
    assert (code, "a.svs: done in" in told) == (0, True)
    assert files_with("c0ffee", tmp_path) == []
    assert said(address, *words, "--force", "--dry-run")[0] == 0
    code, told = said(f"{server.url}/a.svs?c0ffee", *words, "--force")
    assert (code, "403 (Forbidden)" in told) == (1, True)
    code, told = said(f"ftp://u:c0ffee@host/a.svs?{SECRET}", *words)
    assert (code, "error: ftp://host/a.svs: bad-input" in told) == (2, True)


def test_wrong_addresses_of_a_list_are_said_without_their_secrets(tmp_path):
    listed = tmp_path / "list.txt"
    listed.write_text(f"ftp://me:c0ffee@host/a.svs?{SECRET}\n")
    with pytest.raises(UsageError, match="not read from ftp") as refused:
        plan_batch([listed], tmp_path / "out")
    assert refused.value.subject == f"{listed}: ftp://host/a.svs"
    listed = tmp_path / "list.csv"
    listed.write_text(f"slide,mpp\nhttps://host/a.svs?{SECRET},wide\n")
    with pytest.raises(UsageError) as refused:
        plan_batch([listed], tmp_path / "out")
    assert "c0ffee" not in refused.value.line()


def test_a_url_named_twice_is_one_slide_and_two_queries_are_two(tmp_path):
    address = "https://host/download?id="
    paths = [located(address + number) for number in ("1", "2", "1")]
    jobs = plan_batch(paths, tmp_path / "out").jobs
    assert [job.zarr.name for job in jobs] == ["download.zarr", "download-2.zarr"]
