"""Shared fixtures: real data where it is, painted slides, and a network that costs nothing."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import pytest

WORKERS = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
if WORKERS > 1:
    # Each worker its share of the processors, before torch counts them: its threads wait for each
    # other busily, and more of them than there are processors double the time of everything.
    share = max(1, (os.cpu_count() or 1) // WORKERS)
    os.environ.setdefault("OMP_NUM_THREADS", str(share))

from stub_network import make_stub  # noqa: E402

from wsi_sampath.models.zoo import LoadedModel  # noqa: E402
from wsi_sampath.synthetic.painted import PaintedTruth, paint_slide  # noqa: E402


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave tests that need a machine to themselves to those who ask for them."""
    if os.environ.get("WSI_SAMPATH_PROCESSES"):
        return
    skip = pytest.mark.skip(reason="WSI_SAMPATH_PROCESSES is not set")
    for item in items:
        if item.get_closest_marker("processes"):
            item.add_marker(skip)


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """Folder of real slides and patches; tests that need it skip where it is not named."""
    folder = os.environ.get("WSI_SAMPATH_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("WSI_SAMPATH_DATA names no folder of real data")
    return Path(folder)


@pytest.fixture(scope="session")
def real_slides(data_folder: Path) -> Path:
    folder = data_folder / "slides"
    if not folder.is_dir():
        pytest.skip("WSI_SAMPATH_DATA has no slides")
    return folder


@dataclass(frozen=True)
class Painted:
    path: Path
    truth: PaintedTruth


@pytest.fixture(scope="session")
def painted(tmp_path_factory: pytest.TempPathFactory) -> Painted:
    """A small painted slide at 0.5 um per pixel, with its truth."""
    path = tmp_path_factory.mktemp("slides") / "painted.svs"
    return Painted(path, paint_slide(path, width=3000, height=2300, mpp=0.5, seed=3))


@pytest.fixture
def stub() -> LoadedModel:
    return make_stub()
