"""What a run tells of itself: the ``wsi_sampath`` attribute, source of every printed number."""

from __future__ import annotations

import platform
import resource
import shlex
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wsi_sampath.inference.plan import Run, RunPlan
from wsi_sampath.masked import masked_argument
from wsi_sampath.progress import Start
from wsi_sampath.shown import plural, shortened, shown
from wsi_sampath.slides.grid import TileGrid
from wsi_sampath.slides.mpp import format_mpp
from wsi_sampath.slides.slide import Slide
from wsi_sampath.slides.stream import Tile, TileStream

if TYPE_CHECKING:
    import torch

    from wsi_sampath.models.network import LoadedModel

_LISTED_FAILURES = 1000
# What may explain a difference between two runs of the same settings.
_PACKAGES = (
    "torch",
    "timm",
    "numpy",
    "scipy",
    "zarr",
    "shapely",
    "openslide-python",
    "imagecodecs",
)


@dataclass
class Tally:
    """Counts of a run under way.

    Attributes
    ----------
    analysed
        Tiles that the network answered.
    failed
        Tiles that could not be decoded or answered, with the reason.
    """

    analysed: int = 0
    failed: list[tuple[Tile, str]] = field(default_factory=list)

    def notes(self, row: int) -> list[tuple[int, int, str]]:
        """Return the failures up to tile row `row`, as JSON values."""
        return [(t.row, t.column, reason) for t, reason in list(self.failed) if t.row <= row]

    def in_order(self) -> list[tuple[Tile, str]]:
        """Return the failures in grid order; reader and network find theirs at different times."""
        return sorted(self.failed, key=lambda one: (one[0].row, one[0].column))

    @classmethod
    def resumed(cls, grid: TileGrid, row: int, notes: list[tuple[int, int, str]]) -> Tally:
        """Return the counts as they stood when tile row `row` was finished."""
        failed = [(Tile(row, column), reason) for row, column, reason in notes]
        return cls(int(grid.selected[: row + 1].sum()) - len(failed), failed)


def describe(run: Run) -> dict[str, Any]:
    """Return what is known of a run before its first tile."""
    slide, plan, region = run.slide, run.plan, run.settings.region
    sampling = plan.sampling
    um_x, um_y = plan.um_per_px
    return {
        "reader": slide.reader.name,
        "slide_size": list(slide.size),
        "bounds_offset": list(slide.bounds_offset),
        "mpp": {
            "x": slide.mpp.x,
            "y": slide.mpp.y,
            "source": slide.mpp.source,
            "stated_by": slide.mpp.stated_by,
            "origin": slide.mpp.origin,
            "requested": sampling.requested_mpp,
            "effective": [sampling.mpp_x, sampling.mpp_y],
            "output": [um_x, um_y],
            "level": sampling.level,
        },
        "tile": plan.tile_px,
        "overlap": plan.overlap_px,
        "stride": plan.grid.stride,
        "region": list(region) if region else None,
        "quality": plan.quality.as_json(),
        "model_card": model_card(run.model),
    }


def opening(run: Run, tally: Tally, *, device: torch.device, precision: str) -> Start:
    """Return what a person is told as a run begins: its slide, its model, what is done of it."""
    slide, plan, name = run.slide, run.plan, run.slide.path.name
    width, height = slide.size
    n_tiles, skipped = plan.grid.n_tiles, int(plan.grid.selected.size) - plan.grid.n_tiles
    done = tally.analysed + len(tally.failed)
    tiles = (
        f"{plural(n_tiles, 'tile')} of {plan.tile_px} px at {plan.sampling.requested_mpp:.4g} um/px"
    )
    tiles += f", {skipped} without tissue of their own" if skipped else ""
    tiles += f"; resuming: {done} of {plural(n_tiles, 'tile')} are done" if done else ""
    model = run.model.title
    return Start(
        name,
        n_tiles,
        done,
        (
            f"{name}: {width} x {height} px by {slide.reader.name}, "
            f"{format_mpp(slide.mpp.x, slide.mpp.y)}/px ({slide.mpp.origin})",
            f"{model} on {device} in {precision}: {tiles}",
        ),
    )


def tile_counts(plan: RunPlan, tally: Tally) -> dict[str, Any]:
    """Count the tiles, and locate those that failed as level-0 boxes (x, y, width, height)."""
    return {
        "analysed": tally.analysed,
        "skipped": int(plan.grid.selected.size - plan.grid.n_tiles),
        "failed": len(tally.failed),
        "failures": [
            {"box": level0_box(plan, tile), "reason": reason}
            for tile, reason in tally.in_order()[:_LISTED_FAILURES]
        ],
    }


def level0_box(plan: RunPlan, tile: Tile) -> list[int]:
    """Return a tile's (x, y, width, height) in level-0 pixels."""
    grid = plan.grid
    zoom_x, zoom_y = plan.level0_per_px
    x, y = grid.xs[tile.column], grid.ys[tile.row]
    left, top = round(x * zoom_x), round(y * zoom_y)
    width, height = plan.slide_size
    right = min(round((x + grid.tile) * zoom_x), width)
    bottom = min(round((y + grid.tile) * zoom_y), height)
    return [left, top, right - left, bottom - top]


def coverage(slide: Slide, plan: RunPlan, analysed_mm2: float) -> dict[str, float]:
    """Return how much there is, how much of it is tissue, how much was analysed, in mm2."""
    width, height = slide.size
    whole = width * slide.mpp.x * height * slide.mpp.y * 1e-6
    return {
        "slide_mm2": whole,
        "tissue_mm2": whole * float(plan.tissue.mean()),
        "analysed_mm2": analysed_mm2,
    }


def model_card(model: LoadedModel) -> dict[str, Any]:
    """Return what a reader of the result should know of the model."""
    spec = model.spec
    return {
        "architecture": spec.architecture,
        "mpp": spec.mpp,
        "tile": spec.tile,
        "description": spec.description,
        "training_data": spec.training_data,
        "licence": spec.licence,
        "cautions": " ".join(f"{one[:1].upper()}{one[1:]}." for one in model.warnings),
    }


def circumstances() -> dict[str, Any]:
    """Return when, how, where and with what this process ran.

    It is for the reader of a result: nothing of it decides a byte of the maps, or whether a result
    is done again.
    """
    command = [Path(sys.argv[0]).name, *sys.argv[1:]] if sys.argv else []
    return {
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        # A link to a slide may be signed, and a result goes from hand to hand.
        "command": shown(shortened(shlex.join(map(masked_argument, command)))),
        "host": platform.node(),
        "versions": {"python": platform.python_version(), **_versions()},
    }


def _versions() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def costs(
    seconds: dict[str, float],
    stream: TileStream,
    analysed_mm2: float,
    device: torch.device,
) -> dict[str, Any]:
    """Return the budget of this process: seconds by stage, rates, decoding, memory."""
    total, decoded = seconds["total"], stream.slide.reader.decoded_px
    return {
        "seconds": {stage: round(value, 3) for stage, value in seconds.items()},
        "tiles_per_s": round(stream.n_tiles / total, 3),
        "mm2_per_s": round(analysed_mm2 / total, 4),
        # Of the slide as a whole: what was decoded to find the tissue is not decoded again.
        "decoded_px": stream.counts.decoded_px if decoded is None else decoded,
        "needed_px": stream.counts.needed_px,
        "peak_memory_mb": round(peak_memory_mb(), 1),
        "gpu_memory_mb": _gpu_memory_mb(device),
    }


def _gpu_memory_mb(device: torch.device) -> float | None:
    if device.type != "cuda":
        return None
    import torch

    return round(torch.cuda.max_memory_allocated(device) / 1e6, 1)


def peak_memory_mb() -> float:
    """Return the peak resident memory of this process in MB."""
    # Linux hands ru_maxrss down from the process that started this one; VmHWM is our own.
    status = Path("/proc/self/status")
    if status.exists():
        line = next(one for one in status.read_text().splitlines() if one.startswith("VmHWM"))
        return int(line.split()[1]) / 1e3
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1e6 if sys.platform == "darwin" else 1e3)
