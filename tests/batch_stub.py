"""Slides for the batch tests, and a model that other processes can load too.

Not a conftest: the name `conftest` is that of the one above, for all tests.
"""

from __future__ import annotations

import glob
import json
import shutil
import time
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
import zarr
from stub_network import StubNetwork, make_stub

from wsi_sampath.batch.batch import Batch
from wsi_sampath.batch.discover import plan_jobs
from wsi_sampath.batch.progress import SilentBatch
from wsi_sampath.batch.record.outcome import Outcome
from wsi_sampath.batch.runner import run_batch
from wsi_sampath.inference.settings import SegmentSettings
from wsi_sampath.models.network import LoadedModel
from wsi_sampath.synthetic.painted import paint_slide

# Attributes of a result that a second run would not repeat.
_OF_THE_MOMENT = frozenset(
    {
        "seconds",
        "tiles_per_s",
        "mm2_per_s",
        "peak_memory_mb",
        "gpu_memory_mb",
        "decoded_px",
        "needed_px",
        "resumed_after_strip",
        "made",
        "asked",
    }
)
SETTINGS = {"workers": 1, "device": "cpu", "batch_size": 2, "tissue": "none"}


class SlowNetwork(StubNetwork):
    def forward(self, images):
        time.sleep(0.05)
        return super().forward(images)


def load_stub(_settings: SegmentSettings | None = None) -> LoadedModel:
    return make_stub()


def load_slow(_settings: SegmentSettings | None = None) -> LoadedModel:
    return make_stub(network=SlowNetwork())


def settings(**values) -> SegmentSettings:
    return SegmentSettings.build({**SETTINGS, **values})


class Told(SilentBatch):
    """Keeps the outcomes that it is told."""

    def __init__(self) -> None:
        self.outcomes: list[Outcome] = []

    def finish_slide(self, outcome: Outcome, *, elsewhere: bool = False) -> None:
        self.outcomes.append(outcome)


def contents(out: Path) -> dict[str, tuple]:
    """Maps, polygons and attributes (but what differs by time and place) of all slides below."""
    found = {}
    for path in sorted(out.rglob("*.zarr")):
        if path.parent.suffix == ".partial":
            continue
        root = zarr.open_group(path, mode="r")
        maps = [np.asarray(root[name][:]).tobytes() for name in ("0", "labels/classes/0")]
        run = {k: v for k, v in root.attrs["wsi_sampath"].items() if k not in _OF_THE_MOMENT}
        found[path.relative_to(out).as_posix()] = (
            *maps,
            path.with_suffix(".geojson").read_bytes(),
            json.dumps(run, sort_keys=True),
        )
    return found


def present(out: Path, pattern: str) -> list[Path]:
    """Paths two levels below a folder in which others write; what vanishes is no error."""
    return [Path(path) for path in glob.glob(str(out / "*" / pattern))]


def holders(out: Path) -> list[int]:
    """Processes that hold a slide."""
    return _owners(present(out, "*.claim"))


def holders_with_strips(out: Path) -> list[int]:
    """Processes that hold a slide of which some strips are finished."""
    ledgers = {path.parent for path in present(out, "*.partial/ledger/*.strip")}
    return _owners([ledger.parent.with_suffix(".claim") for ledger in sorted(ledgers)])


def _owners(claims: list[Path]) -> list[int]:
    found = []
    for path in claims:
        try:
            found.append(json.loads(path.read_text())["pid"])
        except (OSError, ValueError):
            continue
    return found


# Every test module that imports the two below gets fixtures of its own; what they make is shared.
@pytest.fixture(scope="session")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five good slides and a broken one as GDC's client leaves them."""
    return _make_cohort(tmp_path_factory.getbasetemp() / "cohort")


@lru_cache(maxsize=1)
def _make_cohort(folder: Path) -> Path:
    for number in range(5):
        home = folder / f"uuid-{number}"
        (home / "logs").mkdir(parents=True)
        (home / "annotations.txt").write_text("id\tstate\n")
        (home / "logs" / "slide.svs.parcel").write_bytes(b"II*\0parcel")
        name = "slide.svs" if number < 2 else f"slide-{number}.svs"
        size = 700 + 40 * number
        paint_slide(home / name, width=size, height=size - 60, mpp=0.5, seed=number)
    (folder / "uuid-1" / "other.svs.partial").write_bytes(b"II*\0unfinished")
    (folder / "uuid-9").mkdir()
    (folder / "uuid-9" / "broken.svs").write_bytes(b"garbage" * 100)
    return folder


@dataclass(frozen=True)
class Serial:
    out: Path
    maps: dict[str, tuple]
    outcomes: list


@pytest.fixture(scope="session")
def serial(cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Serial:
    """The cohort done by one process without a stop."""
    return _run_serially(cohort, tmp_path_factory.getbasetemp() / "serial")


@lru_cache(maxsize=1)
def _run_serially(cohort: Path, out: Path) -> Serial:
    outcomes = run_batch(Batch(plan_jobs([cohort], out), settings(), out), load_stub())
    return Serial(out, contents(out), outcomes)


@pytest.fixture
def two(cohort: Path, tmp_path: Path) -> Path:
    """A folder of one good and one broken slide."""
    folder = tmp_path / "two"
    folder.mkdir()
    shutil.copy(cohort / "uuid-0" / "slide.svs", folder / "good.svs")
    (folder / "broken.svs").write_bytes(b"garbage" * 100)
    return folder
