"""Stopped anywhere, started again: the same bytes, and no strip that was kept computed twice."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path

import pytest
from forked import begin
from stub_network import StubNetwork, make_stub

from wsi_sampath.errors import WsiError
from wsi_sampath.inference import strips
from wsi_sampath.inference.durable.ledger import Ledger
from wsi_sampath.inference.segmenter import segment_slide
from wsi_sampath.inference.semantic import ClassLayer
from wsi_sampath.inference.settings import SegmentSettings
from wsi_sampath.inference.strips import StripSink
from wsi_sampath.progress import Silent
from wsi_sampath.synthetic.painted import paint_slide

SETTINGS = {
    "workers": 2,
    "device": "cpu",
    "batch_size": 3,
    "tissue": "none",
    "output_mpp": 1.0,
    "report": False,
}


def contents(folder: Path) -> dict[str, bytes]:
    """Every stored byte of zarr and GeoJSON but the root attributes, which hold seconds."""
    files = [p for p in (folder / "a.zarr").rglob("*") if p.is_file()]
    root = folder / "a.zarr" / ".zattrs"
    found = {p.relative_to(folder).as_posix(): p.read_bytes() for p in files if p != root}
    attributes = json.loads(root.read_text())
    run = attributes.pop("wsi_sampath")
    kept = {k: run[k] for k in ("area_mm2", "tiles", "polygons", "settings", "model", "slide")}
    found["attributes"] = json.dumps([attributes, kept], sort_keys=True).encode()
    found["geojson"] = (folder / "a.geojson").read_bytes()
    return found


def run(slide: Path, folder: Path, network=None, progress=None, **values):
    return segment_slide(
        slide,
        folder / "a.zarr",
        progress=progress,
        settings=SegmentSettings.build({**SETTINGS, **values}),
        model=make_stub(network=network),
    )


@pytest.fixture(scope="module")
def narrow(tmp_path_factory):
    """A slide as high as the shared one, of as many strips, and of fewer tiles in each."""
    path = tmp_path_factory.mktemp("slides") / "narrow.svs"
    paint_slide(path, width=1100, height=2300, mpp=0.5, seed=3)
    return path


@pytest.fixture(scope="module")
def uninterrupted(narrow, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    run(narrow, folder)
    return contents(folder)


class Told(Silent):
    """Keeps the warnings."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warn(self, text: str) -> None:
        self.warnings.append(text)


class Stopping(StubNetwork):
    def __init__(self, after: int) -> None:
        super().__init__()
        self.after = after

    def forward(self, images):
        if sum(self.calls) >= self.after:
            raise KeyboardInterrupt
        return super().forward(images)


def quick_and_slow(values, *, n_quick):
    """Cases of which the first stand for all where time is short; the whole suite runs them all."""
    cases = [value if isinstance(value, tuple) else (value,) for value in values]
    slow = [pytest.param(*case, marks=pytest.mark.slow) for case in cases[n_quick:]]
    return [*(pytest.param(*case) for case in cases[:n_quick]), *slow]


@pytest.mark.parametrize("seed", quick_and_slow(range(6), n_quick=1))
def test_stopped_again_and_again(narrow, tmp_path, uninterrupted, seed):
    rng = random.Random(seed)
    computed, stops = 0, 0
    while True:
        network = Stopping(after=rng.randint(4, 34))
        try:
            made = run(narrow, tmp_path, network)
            break
        except WsiError as error:
            assert error.reason == "interrupted"  # noqa: PT017 - stopping is the point
            assert not (tmp_path / "a.zarr").exists()
            assert not (tmp_path / "a.geojson").exists()
            stops += 1
        finally:
            computed += sum(network.calls)
    assert contents(tmp_path) == uninterrupted
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.geojson", "a.zarr"]
    tiles = made.attributes["tiles"]["analysed"]
    row_of_tiles, queued = 6, 5 * SETTINGS["batch_size"]
    assert stops > 0
    assert tiles <= computed <= tiles + stops * (row_of_tiles + queued)


def stop_and_go_on(slide, folder, *, after):
    """Stop a run after so many tiles, and end it; returns the attribute and the warnings."""
    with pytest.raises(WsiError, match="interrupted"):
        run(slide, folder, Stopping(after))
    heard = Told()
    return run(slide, folder, progress=heard).attributes, heard.warnings


@pytest.mark.parametrize("after", [15, 27, 33])
def test_a_run_resumes_after_the_last_strip_that_kept_its_sums(
    narrow, tmp_path, uninterrupted, monkeypatch, after
):
    """Where sums are heavy not every strip keeps them; the rows of the others are not lost."""
    monkeypatch.setattr(StripSink, "_may_carry", lambda sink: sink._row % 3 == 1)
    attributes, warnings = stop_and_go_on(narrow, tmp_path, after=after)
    assert attributes["resumed_after_strip"] in (1, 4)
    assert contents(tmp_path) == uninterrupted
    assert not any("damaged" in warning for warning in warnings)


@pytest.mark.parametrize(("bytes_per_s", "resumed"), [(1e-3, False), (1e15, True)])
def test_heavy_sums_are_kept_after_seconds_alone(
    narrow, tmp_path, uninterrupted, monkeypatch, bytes_per_s, resumed
):
    monkeypatch.setattr(strips, "_HEAVY_BYTES", 0)
    monkeypatch.setattr(strips, "_BYTES_PER_S", bytes_per_s)
    attributes, warnings = stop_and_go_on(narrow, tmp_path, after=27)
    assert (attributes["resumed_after_strip"] is not None) == resumed
    assert contents(tmp_path) == uninterrupted
    assert not any("damaged" in warning for warning in warnings)


class Robbed(StubNetwork):
    """Another run takes its output over while it is suspended, so to speak."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder
        self.before: list[str] = []

    def strips(self) -> list[str]:
        return sorted(path.name for path in self.folder.rglob("*.strip"))

    def forward(self, images):
        if not self.before and self.strips():
            claim = self.folder / "a.zarr.claim"
            claim.write_text(json.dumps({"host": "elsewhere", "pid": 7, "token": "other"}))
            self.before = self.strips()
        return super().forward(images)


def test_a_run_that_was_taken_over_saves_no_more(narrow, tmp_path):
    network = Robbed(tmp_path)
    with pytest.raises(WsiError, match="another run") as caught:
        run(narrow, tmp_path, network)
    assert caught.value.reason == "busy"
    # One strip may have been on its way.
    assert network.strips()[-1] <= f"{int(network.before[-1][:8]) + 1:08d}.strip"


STEPS = [(stage, row, 1) for row in (2, 0, 5) for stage in ("append", "vectorise", "save")]
ENDS = [(stage, 0, carrying) for carrying in (1, 4) for stage in ("finish", "publish")]


@pytest.mark.parametrize(("stage", "row", "carrying"), quick_and_slow([*ENDS, *STEPS], n_quick=7))
def test_stopped_inside_any_step_of_a_strip(
    narrow, tmp_path, uninterrupted, monkeypatch, stage, row, carrying
):
    """Every strip, or one in four, keeps enough to resume after it."""
    monkeypatch.setattr(StripSink, "_may_carry", lambda sink: sink._row % carrying == 0)
    calls = {"n": 0}

    def dying(function, at):
        def wrapped(*arguments, **keywords):
            calls["n"] += 1
            if calls["n"] == at + 1:
                raise KeyboardInterrupt
            return function(*arguments, **keywords)

        return wrapped

    from wsi_sampath.inference.durable.work import WorkFolder
    from wsi_sampath.outputs.qupath.geojson import GeoJSONWriter

    targets = {
        "append": (ClassLayer, "append", row),
        "vectorise": (GeoJSONWriter, "write", row),
        "save": (Ledger, "write", row),
        "finish": (GeoJSONWriter, "close", 0),
        "publish": (WorkFolder, "publish", 0),
    }
    owner, name, at = targets[stage]
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, dying(getattr(owner, name), at))
        with pytest.raises(WsiError, match="interrupted"):
            run(narrow, tmp_path)
    assert not (tmp_path / "a.zarr").exists()
    made = run(narrow, tmp_path)
    assert contents(tmp_path) == uninterrupted
    assert (made.attributes["resumed_after_strip"] is None) == (
        row == 0 and stage in ("append", "vectorise", "save")
    )


class Slow(StubNetwork):
    def forward(self, images):
        time.sleep(0.06)
        return super().forward(images)


def slowly(slide: Path, folder: Path) -> None:
    run(slide, folder, Slow())


@pytest.mark.parametrize("seed", quick_and_slow(range(4), n_quick=1))
def test_killed(narrow, tmp_path, uninterrupted, seed):
    rng = random.Random(seed)
    for _ in range(3):
        process = begin(slowly, narrow, tmp_path)
        time.sleep(rng.uniform(0.2, 2.0))
        process.kill()
        process.join()
        if (tmp_path / "a.zarr").exists():
            break
    run(narrow, tmp_path)
    assert contents(tmp_path) == uninterrupted
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.geojson", "a.zarr"]


def test_other_settings_do_not_go_on(narrow, tmp_path, uninterrupted):
    with pytest.raises(WsiError, match="interrupted"):
        run(narrow, tmp_path, Stopping(after=30))
    with pytest.raises(WsiError, match="overlap was None, now 96") as caught:
        run(narrow, tmp_path, overlap=96)
    assert caught.value.reason == "bad-input"
    other = StubNetwork(seed=1)
    with pytest.raises(WsiError, match="begun with other settings"):
        segment_slide(
            narrow,
            tmp_path / "a.zarr",
            settings=SegmentSettings.build(SETTINGS),
            model=type(make_stub())(other, make_stub().spec, "1" * 64, "stub"),
        )
    made = run(narrow, tmp_path, force=True)
    assert made.attributes["resumed_after_strip"] is None
    assert contents(tmp_path) == uninterrupted


def test_another_batch_size_goes_on(narrow, tmp_path, uninterrupted):
    with pytest.raises(WsiError, match="interrupted"):
        run(narrow, tmp_path, Stopping(after=30))
    made = run(narrow, tmp_path, batch_size=7, workers=1)
    assert made.attributes["resumed_after_strip"] is not None
    assert contents(tmp_path) == uninterrupted


def test_a_folder_of_others_is_left_alone(narrow, tmp_path):
    (tmp_path / "a.zarr.partial").mkdir()
    (tmp_path / "a.zarr.partial" / "thesis.txt").write_text("mine")
    for force in (False, True):
        with pytest.raises(WsiError, match="not ours"):
            run(narrow, tmp_path, force=force)
    assert (tmp_path / "a.zarr.partial" / "thesis.txt").read_text() == "mine"
