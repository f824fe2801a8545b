"""One slide's run, decided before the first tile: resolutions, grid, files."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from wsi_sampath.errors import UsageError, WsiError
from wsi_sampath.inference.durable.work import WorkFolder
from wsi_sampath.inference.prompted.settings import GridSettings
from wsi_sampath.inference.settings import SegmentSettings
from wsi_sampath.inference.targets import (
    refuse_foreign_nuclei,
    refuse_foreign_picture,
    refuse_foreign_polygons,
    refuse_foreign_report,
    refuse_foreign_zarr,
    refuse_own_nuclei,
    refuse_polygons_of_others,
)
from wsi_sampath.models.spec import ModelSpec, refuse_mapless
from wsi_sampath.outputs.qupath.packing import SUFFIXES
from wsi_sampath.shown import plural
from wsi_sampath.slides.grid import TileGrid, plan_grid
from wsi_sampath.slides.mpp import format_mpp
from wsi_sampath.slides.quality.look import look
from wsi_sampath.slides.quality.quality import Quality
from wsi_sampath.slides.regions.find import Tissue, find_tissue
from wsi_sampath.slides.sampling import Sampling
from wsi_sampath.slides.slide import Slide
from wsi_sampath.slides.spare import choose_tiles

if TYPE_CHECKING:
    from wsi_sampath.inference.existing_outlines import Outlines
    from wsi_sampath.models.network import LoadedModel

# A slide coarser than the network's pixels by more than this is worth a word.
_ENLARGED = 1.1


@dataclass(frozen=True)
class RunFiles:
    """The files of one run.

    Attributes
    ----------
    zarr
        The maps.
    geojson, report, nuclei, overlay
        Polygons, page, table of nuclei and picture; None where there is to be none.
    """

    zarr: Path
    geojson: Path | None
    report: Path | None = None
    nuclei: Path | None = None
    overlay: Path | None = None

    @property
    def geojson_beside(self) -> str | None:
        """Tell where the polygons lie, seen from the zarr's folder if there is a way from there."""
        if self.geojson is None:
            return None
        try:
            return Path(os.path.relpath(self.geojson, self.zarr.parent)).as_posix()
        except ValueError:
            return str(self.geojson.absolute())

    @property
    def work(self) -> WorkFolder:
        """Return the folder where the result grows."""
        return WorkFolder(
            self.zarr.with_name(self.zarr.name + ".partial"), self.geojson, self.nuclei
        )

    @property
    def claim(self) -> Path:
        """Return the file that keeps other runs away."""
        return self.zarr.with_name(self.zarr.name + ".claim")

    @property
    def geojson_claim(self) -> Path | None:
        """Return the file that keeps other runs away from the polygons, wherever they lie."""
        if self.geojson is None:
            return None
        return self.geojson.with_name(self.geojson.name + ".claim")

    def are_tidy(self) -> bool:
        """Return whether nothing is left of a run that was killed, or is still going on."""
        return not (self.work.path.exists() or self.claim.exists())

    def check(self, settings: SegmentSettings, *, run_id: str) -> None:
        """Make sure that nothing will be replaced that is not ours, or that the run reads.

        Raises
        ------
        WsiError
            ``bad-input``, naming what lies there and how to go round it.
        """
        refuse_foreign_zarr(self.zarr)
        for target in (self.geojson, self.nuclei):
            if target is not None and settings.existing is not None:
                refuse_own_nuclei(target, Path(settings.existing))
        if self.geojson is not None:
            refuse_foreign_polygons(self.geojson, mask=Path(settings.tissue))
            refuse_polygons_of_others(self.geojson, self.zarr, run_id)
        if self.nuclei is not None:
            refuse_foreign_nuclei(self.nuclei)
        if self.report is not None:
            refuse_foreign_report(self.report)
        if self.overlay is not None:
            refuse_foreign_picture(self.overlay, advice="leave out --overlay")


@dataclass(frozen=True)
class RunPlan:
    """What a run will do.

    Attributes
    ----------
    sampling
        How the slide is read at the model's mpp.
    grid
        The tiles, those that are run selected; see `choose_tiles`.
    tissue
        bool (h, w): the mask over the whole slide.
    tile_px, overlap_px
        In model pixels, as resolved.
    slide_size
        (width, height) of the slide in level-0 pixels, which the plane covers and may exceed by
        a part of a pixel.
    quality
        What a quick look at the slide tells.
    warnings
        Sentences for the user about this slide with this model and these settings.
    existing
        Outlines of nuclei to measure, see `read_outlines`; None where nuclei are to be found.
    unknown
        bool (h, w): what no level of the slide shows; see `Tissue`.
    tissue_threshold
        Optical density by which tissue was found; None where it was not found by one.
    """

    sampling: Sampling
    grid: TileGrid
    tissue: NDArray[np.bool_]
    tile_px: int
    overlap_px: int
    slide_size: tuple[int, int]
    quality: Quality
    warnings: tuple[str, ...] = ()
    existing: Outlines | None = None
    unknown: NDArray[np.bool_] | None = None
    tissue_threshold: float | None = None

    @property
    def um_per_px(self) -> tuple[float, float]:
        """Um per output pixel, (x, y)."""
        stride = self.grid.stride
        return self.sampling.mpp_x * stride, self.sampling.mpp_y * stride

    @property
    def level0_per_px(self) -> tuple[float, float]:
        """Level-0 pixels per output pixel, (x, y)."""
        stride = self.grid.stride
        return self.sampling.zoom_x * stride, self.sampling.zoom_y * stride

    @property
    def shares_at_edge(self) -> tuple[float, float]:
        """Parts of the plane's last column and last row of pixels that lie on the slide."""
        grid, (scale_x, scale_y) = self.grid, self.level0_per_px
        share_x = self.slide_size[0] / scale_x - (grid.width - 1)
        share_y = self.slide_size[1] / scale_y - (grid.height - 1)
        return min(max(share_x, 0.0), 1.0), min(max(share_y, 0.0), 1.0)


@dataclass(frozen=True)
class Run:
    """All that is decided of one slide's run before its first tile.

    Attributes
    ----------
    slide
        The open slide.
    model, settings
        What it is analysed with.
    files
        Where the results go.
    identity
        What decides the results; see `durable.identity`.
    plan
        Resolutions, tissue and tiles.
    """

    slide: Slide
    model: LoadedModel
    settings: SegmentSettings
    files: RunFiles
    identity: dict[str, Any]
    plan: RunPlan

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the user should know before the first tile."""
        return (*self.model.warnings, *self.slide.warnings, *self.plan.warnings)


def plan_files(out: Path, settings: SegmentSettings, *, has_nuclei: bool = False) -> RunFiles:
    """Name the output files.

    Parameters
    ----------
    out
        ``NAME.zarr``.
    settings
        Which files are wanted.
    has_nuclei
        Whether the model finds nuclei, of which there is a table then.

    Raises
    ------
    UsageError
        Where `out` does not end in ``.zarr``, or the GeoJSON has a suffix QuPath does not read, or
        would lie inside a zarr or in a growing result.
    """
    if out.suffix != ".zarr":
        raise UsageError("the output must be named NAME.zarr", subject=str(out))
    report = out.with_suffix(".html") if settings.report else None
    nuclei = out.with_suffix(".nuclei.parquet") if has_nuclei else None
    overlay = out.with_suffix(".png") if settings.overlay else None
    if not settings.polygons:
        return RunFiles(out, None, report, nuclei, overlay)
    geojson = Path(settings.geojson) if settings.geojson else out.with_suffix(".geojson")
    if not geojson.name.endswith(SUFFIXES):
        message = "name the polygons .geojson, .geojson.gz or .geojson.zip"
        raise UsageError(message, subject=str(geojson))
    inside = _zarr_around(geojson, out) if settings.geojson else None
    if inside is not None:
        message = f"the polygons cannot lie inside {inside.name}; name a place beside it"
        raise UsageError(message, subject=str(geojson))
    return RunFiles(out, geojson, report, nuclei, overlay)


def _zarr_around(file: Path, out: Path) -> Path | None:
    """Find the zarr, growing or not, that a file would lie in: that of the run, or any other."""
    own = [Path(os.path.realpath(one)) for one in (out, out.with_name(out.name + ".partial"))]
    for folder in Path(os.path.realpath(file)).parents:
        if folder in own or any((folder / name).exists() for name in (".zgroup", "zarr.json")):
            return folder
    return None


def plan_run(slide: Slide, spec: ModelSpec, settings: SegmentSettings) -> RunPlan:
    """Decide resolutions, find tissue, lay out the tiles.

    Raises
    ------
    WsiError
        ``no-tissue``, or ``bad-input`` for settings that do not fit each other.
    """
    tile, overlap, stride = plan_tiling(spec, settings)
    sampling = slide.sampling(settings.mpp or spec.mpp)
    grid = plan_grid(sampling, tile=tile, overlap=overlap, stride=stride, region=settings.region)
    if min(grid.window.width, grid.window.height) < 1:
        raise WsiError(
            "bad-input",
            f"the region lies outside the slide ({slide.size[0]} x {slide.size[1]} px)",
            subject=str(slide.path),
        )
    tissue = find_tissue(
        slide,
        settings.tissue,
        min_area_um2=settings.min_tissue_um2,
        max_hole_um2=settings.max_hole_um2,
        threshold=settings.tissue_threshold,
    )
    grid = choose_tiles(grid, tissue.to_try, spare_below=_spare_below(tissue, settings))
    if not grid.n_tiles:
        raise WsiError(
            "no-tissue",
            "no tissue lies in the region; move it, or give --tissue none",
            subject=str(slide.path),
        )
    quality = look(slide, tissue)
    warnings: tuple[str, ...] = (
        *tissue.warnings,
        *quality.warnings,
        *_enlarged(slide, sampling),
        *_of_grid(grid, settings),
    )
    existing = None
    if settings.existing is not None:
        # What reads outlines is slow to import, and few runs have any.
        from wsi_sampath.inference.existing_outlines import read_outlines

        existing, notes = read_outlines(Path(settings.existing), slide.path.name)
        warnings += notes
    return RunPlan(
        *(sampling, grid, tissue.mask, tile, overlap, slide.size, quality, warnings, existing),
        unknown=tissue.unknown,
        tissue_threshold=tissue.threshold,
    )


def _spare_below(tissue: Tissue, settings: SegmentSettings) -> float:
    # Where a part of the slide is damaged, a neighbour may fail that was to answer for a tile.
    is_damaged = tissue.unknown is not None and bool(tissue.unknown.any())
    return 0.0 if is_damaged else settings.min_tile_tissue


def _enlarged(slide: Slide, sampling: Sampling) -> tuple[str, ...]:
    factor = max(slide.mpp.x, slide.mpp.y) / sampling.requested_mpp
    if factor <= _ENLARGED:
        return ()
    return (
        f"the slide has {format_mpp(slide.mpp.x, slide.mpp.y)} per pixel, the network needs "
        f"{sampling.requested_mpp:.4g} um: the slide is enlarged {factor:.3g} times, without the "
        "detail that the network was trained on",
    )


def _of_grid(grid: TileGrid, settings: SegmentSettings) -> tuple[str, ...]:
    """Say what surprises in mode amg: how long it takes, and how little it finds."""
    if settings.mode != "amg":
        return ()
    how, usual = settings.grid, GridSettings()
    warnings = []
    if settings.region is None:
        warnings.append(
            f"--mode amg asks the network {how.points_per_side**2:,} times for each of about "
            f"{plural(grid.n_tiles, 'tile')}; --region looks at a part"
        )
    if (how.min_predicted_iou, how.min_stability) == (usual.min_predicted_iou, usual.min_stability):
        warnings.append(
            "--mode amg has the thresholds of SAM as published, with which a PathoSAM finds next "
            "to nothing: lower --min-predicted-iou and --min-stability"
        )
    return tuple(warnings)


def plan_tiling(spec: ModelSpec, settings: SegmentSettings) -> tuple[int, int, int]:
    """Resolve tile, overlap and output stride, in model pixels.

    Raises
    ------
    UsageError
        Where they do not fit each other, or the model does not do what is asked.
    """
    refuse_mapless(spec)
    if settings.existing is not None and spec.architecture != "patho_sam":
        raise UsageError(
            f"--nuclei needs a patho_sam model, and {spec.name} is a {spec.architecture}"
        )
    if settings.mode != "ais":
        _check_asking(spec, settings)
    tile = settings.tile or spec.tile
    overlap = tile // 4 if settings.overlap is None else settings.overlap
    if overlap >= tile:
        raise UsageError(f"an overlap of {overlap} px needs a tile larger than {tile} px")
    stride: int = spec.output_stride
    if settings.output_mpp is not None:
        stride = _output_stride(settings.output_mpp / (settings.mpp or spec.mpp), tile)
    if tile % stride:
        raise UsageError(f"a tile of {tile} px is not a multiple of the output stride {stride}")
    if settings.mode != "ais" and stride != 1:
        raise UsageError(
            f"--mode {settings.mode} finds nuclei in the pixels that the network sees; the maps "
            f"must have them too, by --output-mpp {settings.mpp or spec.mpp:g}"
        )
    return tile, overlap, stride


def _check_asking(spec: ModelSpec, settings: SegmentSettings) -> None:
    mode = settings.mode
    if spec.architecture != "patho_sam":
        raise UsageError(
            f"--mode {mode} needs a model that answers prompts, a patho_sam, and {spec.name} is a "
            f"{spec.architecture}"
        )
    if settings.existing is not None:
        raise UsageError(f"--nuclei measures what was found before; leave out --mode {mode}")


def _output_stride(ratio: float, tile: int) -> int:
    divisors = [n for n in range(1, tile + 1) if tile % n == 0]
    return min(divisors, key=lambda n: abs(math.log(n / ratio)))
