"""Nuclei of a region by asking the network, field after field, as the rows of the plane go by."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from wsi_sampath.inference.durable.ledger import Arrays
from wsi_sampath.inference.instances.settings import NucleusSettings
from wsi_sampath.inference.plan import Run
from wsi_sampath.inference.prompted.amg import grid_objects
from wsi_sampath.inference.prompted.apg import prompted_objects
from wsi_sampath.inference.prompted.fields import Fields, plan_fields
from wsi_sampath.inference.prompted.masks import Edges, Mask
from wsi_sampath.inference.prompted.network import FieldNetwork, refuse_unable
from wsi_sampath.inference.prompted.seams import Seams
from wsi_sampath.inference.prompted.settings import GridSettings, OwnPromptSettings
from wsi_sampath.outputs.nuclei.patch import NucleusPatch
from wsi_sampath.slides.sampling import Sampling
from wsi_sampath.slides.slide import Slide
from wsi_sampath.slides.stream import TileStream

Values = NDArray[np.uint8]


class Finder(Protocol):
    """What finds the objects of one square of tissue."""

    def __call__(self, image: NDArray[np.uint8], edges: Edges) -> Sequence[Mask]:
        """Return objects that don't overlap, best first.

        Parameters
        ----------
        image
            uint8 (side, side, 3), RGB.
        edges
            Objects that reach one of these are left out.
        """
        ...


def finder(
    network: FieldNetwork,
    settings: GridSettings | OwnPromptSettings,
    thresholds: NucleusSettings,
) -> Finder:
    """Return what finds the objects of a field by the mode that the settings are of.

    Of a field about which the network says nothing finite there are none.

    Parameters
    ----------
    network
        Is asked.
    settings
        Of one mode.
    thresholds
        See `prompt_points`.
    """

    def found(image: NDArray[np.uint8], edges: Edges) -> Sequence[Mask]:
        field = network.look(image)
        if field is None:
            return []
        match settings:
            case GridSettings():
                return grid_objects(field, settings, edges)
            case OwnPromptSettings():
                return prompted_objects(field, field.nucleus_maps(), settings, thresholds, edges)

    return found


def asked_nuclei(run: Run, *, channels: int) -> AskedNuclei:
    """Return what finds the nuclei of a run by asking its network.

    Parameters
    ----------
    run
        The run; its settings say how.
    channels
        Of the values.

    Raises
    ------
    UsageError
        For a model that cannot be asked.
    """
    settings, plan, spec = run.settings, run.plan, run.model.spec
    how = settings.grid if settings.mode == "amg" else settings.own_prompts
    least = max(how.min_area_px, settings.nuclei.min_size_px)
    how = how.model_copy(update={"min_area_px": least})
    refuse_unable(run.model, "amg" if settings.mode == "amg" else "apg")
    network = FieldNetwork(run.model, device=settings.device, precision=settings.precision)
    window = plan.grid.window
    fields = plan_fields(plan.sampling, tile=spec.tile, window=window, tissue=plan.tissue)
    find = finder(network, how, settings.nuclei)
    return AskedNuclei(
        *(run.slide, plan.sampling, fields, find, how),
        channels=channels,
        workers=settings.workers,
    )


class AskedNuclei:
    """Nuclei that a network was asked for, with ids by the fields that found them.

    A field is read and looked at once all rows of the region that it covers have gone by. Fields
    that cannot be read are passed over: the tiles that cover them count as failed already. Held in
    memory are the values of two rows of fields.

    Parameters
    ----------
    slide, sampling
        The slide, and its plane.
    fields
        Where to look; coordinates that come and go are those of its window.
    find
        Finds the objects of a field.
    settings
        How much they may overlap.
    channels
        Of the values.
    workers
        Threads that read.
    """

    def __init__(
        self,
        slide: Slide,
        sampling: Sampling,
        fields: Fields,
        find: Finder,
        settings: GridSettings | OwnPromptSettings,
        *,
        channels: int,
        workers: int = 2,
    ) -> None:
        self._slide, self._sampling, self._fields = slide, sampling, fields
        self._find, self._workers = find, workers
        self._seams = Seams(
            fields, max_covered=settings.max_covered, min_area_px=settings.min_area_px
        )
        self._rows = fields.rows
        self._n_rows_done = self._y = self.count = 0
        self._values = np.zeros((channels, 0, fields.window.width), np.uint8)

    @property
    def settled(self) -> int:
        """Rows of the window, from the top, in which no later patch paints."""
        tops = [] if self._seams.top is None else [self._seams.top]
        if self._n_rows_done < len(self._rows):
            tops.append(self._fields.grid.ys[self._rows[self._n_rows_done]])
        highest = min(tops, default=self._fields.grid.height) - self._fields.window.y
        return min(max(highest, 0), self._y)

    def append(self, maps: object, values: Values, analysed: object = None) -> list[NucleusPatch]:
        """Take the next rows of the window, and return the nuclei that they complete.

        Parameters
        ----------
        maps, analysed
            Not looked at.
        values
            uint8 (channels, rows, columns): what a patch has of every pixel.
        """
        self._values = np.concatenate([self._values, values], axis=1)
        self._y += values.shape[1]
        patches: list[NucleusPatch] = []
        for row in self._rows[self._n_rows_done :]:
            if not self._is_complete(row):
                break
            self._n_rows_done += 1
            patches += self._patches(self._seams.append(row, dict(self._found(row))))
        first = self._y - self._values.shape[1]
        self._values = self._values[:, self.settled - first :].copy()
        return patches

    def finish(self) -> list[NucleusPatch]:
        """Return the nuclei that the bottom of the region completes."""
        return self._patches(self._seams.finish())

    def state(self) -> tuple[dict[str, Any], Arrays]:
        """Return JSON notes and arrays, enough to resume after the rows appended last."""
        seams, arrays = self._seams.state()
        notes = {"y": self._y, "n_rows_done": self._n_rows_done, "count": self.count}
        return {**notes, "seams": seams}, {**arrays, "values": self._values}

    def resumed(self, notes: dict[str, Any], arrays: Arrays) -> Self:
        """Go on where `state` was taken, of the same fields."""
        self._y, self._n_rows_done = notes["y"], notes["n_rows_done"]
        self.count, self._values = notes["count"], arrays["values"]
        self._seams.resumed(notes["seams"], arrays)
        return self

    def _is_complete(self, row: int) -> bool:
        grid, window = self._fields.grid, self._fields.window
        end = min(grid.ys[row] + grid.tile, window.y + window.height)
        return end <= window.y + self._y

    def _found(self, row: int) -> Iterator[tuple[int, list[Mask]]]:
        """Yield columns with the objects that their fields may own, on the plane."""
        fields, grid = self._fields, self._fields.only(row)
        stream = TileStream(self._slide, self._sampling, grid, batch_size=1, workers=self._workers)
        with closing(iter(stream)) as batches:
            for batch in batches:
                for tile, image in zip(batch.tiles, batch.images, strict=True):
                    found = self._find(image, fields.edges(row, tile.column))
                    placed = [one.moved(grid.ys[row], grid.xs[tile.column]) for one in found]
                    yield (
                        tile.column,
                        [
                            one
                            for one in placed
                            if fields.own(row, tile.column, one) and fields.on_tissue(one)
                        ],
                    )

    def _patches(self, masks: Sequence[Mask]) -> list[NucleusPatch]:
        patches = []
        for mask in masks:
            inside = _clipped(mask, self._fields) if self._fields.wanted(mask) else None
            if inside is not None:
                self.count += 1
                patches.append(self._patch(inside, self.count))
        return patches

    def _patch(self, mask: Mask, number: int) -> NucleusPatch:
        first = self._y - self._values.shape[1]
        rows, columns = mask.moved(-first, 0).box
        values = self._values[:, rows, columns] * mask.pixels
        return NucleusPatch(mask.y, mask.x, mask.pixels * np.uint32(number), values)


def _clipped(mask: Mask, fields: Fields) -> Mask | None:
    """Return an object in pixels of the window, without what lies beside it."""
    window = fields.window
    mask = mask.moved(-window.y, -window.x)
    rows, columns = (
        (np.arange(side.start, side.stop) >= 0) & (np.arange(side.start, side.stop) < length)
        for side, length in zip(mask.box, (window.height, window.width), strict=True)
    )
    kept = mask.pixels & rows[:, None] & columns
    return mask.cut_to(kept) if kept.any() else None
