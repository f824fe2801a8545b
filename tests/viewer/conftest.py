"""A small slide with a result, for every test of the viewer."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
from painted_result import Painted, paint_result
from stub_network import make_stub
from viewer_slides import waves

from wsi_sampath.inference.segmenter import segment_slide
from wsi_sampath.inference.settings import SegmentSettings
from wsi_sampath.synthetic.svs_writer import write_svs
from wsi_sampath.viewer.settings import ViewSettings
from wsi_sampath.viewer.shelf import NamedResult, Shelf, ShelfEntry, opaque_id

WIDTH, HEIGHT = 1500, 1100


@dataclass(frozen=True)
class Viewed:
    slide: Path
    zarr: Path

    def entry(self, *, results: bool = True) -> ShelfEntry:
        found = (NamedResult.at(self.zarr),) if results else ()
        return ShelfEntry(opaque_id(self.slide), self.slide.name, self.slide, results=found)

    def shelf(self, **settings) -> Shelf:
        return Shelf([self.entry()], ViewSettings(**settings))


@pytest.fixture(scope="session")
def viewed(tmp_path_factory: pytest.TempPathFactory) -> Viewed:
    """A slide of 1500 x 1100 px at 0.5 um in two levels, and what a stub network says of it."""
    folder = tmp_path_factory.mktemp("viewed")
    slide = folder / "painted.svs"
    write_svs(slide, waves, width=WIDTH, height=HEIGHT, mpp=0.5, levels=(1, 4), thumbnail=False)
    settings = SegmentSettings(device="cpu", workers=1, batch_size=2, tissue="none")
    result = segment_slide(slide, folder / "painted.zarr", settings=settings, model=make_stub())
    return Viewed(slide, result.path)


@pytest.fixture(scope="session")
def painted(tmp_path_factory: pytest.TempPathFactory) -> Painted:
    """A slide of 3072 x 3072 px and a result with 3969 nuclei, in several chunks and row groups."""
    return paint_result(tmp_path_factory.mktemp("painted"))
