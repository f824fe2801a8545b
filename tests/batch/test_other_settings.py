"""A batch that is repeated with other settings leaves results, and what is known of them, alone."""

# ruff: noqa: F811 - fixtures are named as arguments
from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from batch_stub import Told, cohort, contents, load_stub, settings  # noqa: F401 - one is a fixture
from stub_network import StubNetwork, make_stub

from wsi_sampath.batch.batch import Batch
from wsi_sampath.batch.cluster import run_on_cluster
from wsi_sampath.batch.devices import run_on_devices
from wsi_sampath.batch.discover import plan_jobs
from wsi_sampath.batch.options import BatchOptions
from wsi_sampath.batch.record.outcome import Outcome
from wsi_sampath.batch.runner import run_batch
from wsi_sampath.inference.plan import plan_files

# Polygons of another smallest area are another result.
OTHER = {"min_area_um2": 5.0}


@pytest.fixture(scope="module")
def slides(cohort, tmp_path_factory) -> Path:
    """Three good slides and a broken one."""
    folder = tmp_path_factory.mktemp("four")
    for number in range(2, 5):
        source = cohort / f"uuid-{number}" / f"slide-{number}.svs"
        shutil.copy(source, folder / source.name)
    shutil.copy(cohort / "uuid-9" / "broken.svs", folder)
    return folder


@pytest.fixture(scope="module")
def first(slides, tmp_path_factory) -> Path:
    """A batch of them."""
    out = tmp_path_factory.mktemp("first") / "out"
    assert sum(outcome.done for outcome in run(slides, out)) == 3
    return out


@pytest.fixture
def out(first, tmp_path) -> Path:
    """The same once more, to be repeated."""
    return shutil.copytree(first, tmp_path / "out")


def of(slides: Path, out: Path, *, options=None, progress=None, **values) -> Batch:
    jobs = plan_jobs([slides], out)
    options, progress = options or BatchOptions(poll_s=0.2), progress or Told()
    return Batch(jobs, settings(**values), out, options, progress)


def run(slides: Path, out: Path, model=None, **rest) -> list[Outcome]:
    return run_batch(of(slides, out, **rest), model or load_stub())


def good_rows(out: Path) -> list[bytes]:
    """Return the table but for the broken slide, which is tried again."""
    lines = (out / "slides.csv").read_bytes().splitlines()
    return [line for line in lines if b"broken" not in line]


def counted(out: Path) -> str:
    return re.search("<h1>(.*)</h1>", (out / "report.html").read_text())[1]


def check_kept(first: Path, out: Path, outcomes: list[Outcome]) -> None:
    assert good_rows(out) == good_rows(first)
    assert counted(out) == "3 done, 1 failed, 0 waiting"
    assert contents(out) == contents(first)
    refused = [outcome for outcome in outcomes if outcome.refused]
    assert [outcome.reason for outcome in refused] == ["bad-input"] * 3
    assert all("now 5.0" in outcome.message for outcome in refused)
    assert not any(outcome.done for outcome in outcomes)
    assert len(outcomes) == 4


@pytest.mark.parametrize("retry", [False, True])
def test_results_and_their_rows_are_left_as_they_are(slides, first, out, retry):
    options = BatchOptions(retry_failed=retry)
    check_kept(first, out, run(slides, out, options=options, **OTHER))
    check_kept(first, out, run(slides, out, options=options, **OTHER))
    assert "refused: bad-input: " in (out / "slide-2.log").read_text()


def test_the_first_settings_find_everything_done(slides, first, out):
    run(slides, out, **OTHER)
    model = load_stub()
    outcomes = run(slides, out, model)
    assert model.module.calls == []
    assert [bool(one.result and one.result.reused) for one in outcomes] == [False, *[True] * 3]
    assert good_rows(out) == good_rows(first)


def test_fail_fast_stops_and_wipes_nothing(slides, first, out):
    (out.parent / "good").mkdir()
    shutil.copy(slides / "slide-2.svs", out.parent / "good")
    shutil.copy(slides / "slide-3.svs", out.parent / "good")
    outcomes = run(out.parent / "good", out, options=BatchOptions(fail_fast=True), **OTHER)
    assert [outcome.refused for outcome in outcomes] == [True]
    assert good_rows(out) == good_rows(first)


def test_force_makes_the_rows_anew(slides, first, out):
    assert sum(outcome.done for outcome in run(slides, out, force=True, **OTHER)) == 3
    assert good_rows(out) != good_rows(first)
    assert not any(outcome.refused for outcome in run(slides, out, **OTHER))


@pytest.mark.processes
def test_several_devices(slides, first, out):
    told = Told()
    batch = of(slides, out, progress=told, **OTHER)
    outcomes = run_on_devices(batch, ("cpu", "cpu"), load=load_stub)
    check_kept(first, out, outcomes)
    assert told.outcomes == outcomes


def test_a_cluster(slides, first, out):
    distributed = pytest.importorskip("distributed", reason="dask.distributed is not installed")
    with distributed.LocalCluster(
        1, processes=False, protocol="tcp", dashboard_address=None
    ) as cluster:
        batch = of(slides, out, **OTHER)
        check_kept(first, out, run_on_cluster(batch, cluster.scheduler_address, load=load_stub))


class _Stops(StubNetwork):
    def forward(self, images):
        if self.calls:
            raise KeyboardInterrupt
        return super().forward(images)


def begin(slides: Path, out: Path) -> Path:
    """Stop a batch in its first good slide; return where that grows."""
    run(slides, out, make_stub(network=_Stops()))
    partial = plan_files(out / "slide-2.zarr", settings()).work.path
    assert partial.is_dir()
    return partial


def test_a_slide_that_was_only_begun_still_waits_for_the_first_settings(slides, first, tmp_path):
    out = tmp_path / "out"
    partial = begin(slides, out)
    outcomes = run(slides, out, **OTHER)
    assert [one.refused for one in outcomes if one.job.slide.stem == "slide-2"] == [True]
    assert partial.is_dir()
    assert counted(out) == "2 done, 1 failed, 1 waiting"
    outcomes = run(slides, out)
    assert [one.done for one in outcomes] == [False, True, False, False]
    assert contents(out)["slide-2.zarr"] == contents(first)["slide-2.zarr"]


def test_what_no_record_tells_of_is_told_as_refused(slides, out):
    """As of a slide that was killed before its batch recorded anything."""
    shutil.rmtree(out / ".wsi_sampath")
    run(slides, out, **OTHER)
    assert counted(out) == "0 done, 4 failed, 0 waiting"
    run(slides, out)
    assert counted(out) == "3 done, 1 failed, 0 waiting"
