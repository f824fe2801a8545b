"""Slide: one interface over every reader; its levels, its mpp, and any box at any mpp."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from wsi_sampath.errors import WsiError
from wsi_sampath.slides.mpp import Mpp, objective_doubts, resolve_mpp
from wsi_sampath.slides.overview import Overview, read_overview
from wsi_sampath.slides.readers.base import Reader
from wsi_sampath.slides.readers.file_checks import missing_data
from wsi_sampath.slides.readers.open import open_reader
from wsi_sampath.slides.readers.stated_scale import StatedScale, stated_scale
from wsi_sampath.slides.remote.place import located
from wsi_sampath.slides.sampling import Level, Sampling, plan_sampling, snap_levels
from wsi_sampath.slides.slide_fingerprint import slide_fingerprint

_CUBIC_SUPPORT = 2


@dataclass(frozen=True)
class Slide:
    """An open slide.

    Attributes
    ----------
    path
        The file; a `RemotePath` where it lies on a server.
    levels
        Pyramid levels, level 0 (full resolution) first.
    mpp
        Microns per level-0 pixel with their source.
    reader
        The reader in use; ``reader.name`` is recorded in every result.
    warnings
        Sentences for the user: doubts about the file, an mpp that contradicts it.
    stated
        Everything that the file says about its scale.

    Examples
    --------
    >>> with Slide.open("slide.svs") as slide:            # doctest: +SKIP
    ...     rgb = slide.read(x0=0, y0=0, width=512, height=512, mpp=1.0)
    """

    path: Path
    levels: tuple[Level, ...]
    mpp: Mpp
    reader: Reader
    warnings: tuple[str, ...] = ()
    stated: StatedScale = StatedScale(None)

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        *,
        slide_mpp: tuple[float, float] | float | None = None,
        csv_mpp: tuple[float, float] | None = None,
        reader: str = "auto",
        image: int | None = None,
    ) -> Slide:
        """Open a slide file.

        Parameters
        ----------
        path
            The slide: a local path, or the URL of a TIFF; see `wsi_sampath.slides.remote`.
        slide_mpp
            True microns per level-0 pixel (both axes, or x and y), overriding the file.
        csv_mpp
            The same from an mpp table; weaker than `slide_mpp`, stronger than the file.
        reader
            ``"auto"``, ``"tiff"``, ``"openslide"`` or ``"tiffslide"``.
        image
            Number of the picture to read in a file of several; None reads the largest scan.

        Raises
        ------
        WsiError
            ``unreadable``, ``no-mpp``, ``implausible-mpp``, or ``bad-input`` for an image that is
            not there.
        """
        path = located(path)
        opened = open_reader(path, reader=reader, image=image)
        flag = (slide_mpp, slide_mpp) if isinstance(slide_mpp, (int, float)) else slide_mpp
        stated = stated_scale(path, opened.name, opened.metadata)
        try:
            mpp, doubts = _scale(stated, flag=flag, table=csv_mpp)
        except WsiError as error:
            opened.close()
            raise error.about(str(path)) from None
        levels = snap_levels(opened.metadata.level_sizes)
        lost = missing_data(path, opened.metadata.level_sizes)
        return cls(path, levels, mpp, opened, (*opened.metadata.warnings, *lost, *doubts), stated)

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of level 0 in pixels."""
        return self.levels[0].width, self.levels[0].height

    @property
    def background(self) -> tuple[int, int, int]:
        """RGB of empty areas."""
        return self.reader.metadata.background

    @property
    def bounds_offset(self) -> tuple[int, int]:
        """Level-0 (x, y) of QuPath's origin."""
        return self.reader.metadata.bounds_offset

    def sampling(self, mpp: float) -> Sampling:
        """Plan how to read this slide at `mpp` um per pixel; see `plan_sampling`."""
        return plan_sampling(self.levels, (self.mpp.x, self.mpp.y), mpp)

    def read(
        self, *, x0: float, y0: float, width: int, height: int, mpp: float
    ) -> NDArray[np.uint8]:
        """Read a box at a resolution.

        Parameters
        ----------
        x0, y0
            Level-0 pixel position of the upper left corner.
        width, height
            Size of the result in pixels.
        mpp
            Requested um per pixel of the result; `sampling` has the effective one.

        Returns
        -------
        uint8 (height, width, 3)
            RGB; the slide's background colour outside the slide.

        Raises
        ------
        TileError
            Where the file cannot be decoded there.
        """
        sampling = self.sampling(mpp)
        x, y = round(x0 / sampling.zoom_x), round(y0 / sampling.zoom_y)
        return self.read_sampled(sampling, x, y, width, height)

    def read_sampled(
        self, sampling: Sampling, x: int, y: int, width: int, height: int
    ) -> NDArray[np.uint8]:
        """Read a box given in pixels of `sampling`'s plane; see `read`."""
        if sampling.is_integer:
            return self._read_reduced(sampling, x, y, width, height)
        return self._read_resized(sampling, x, y, width, height)

    def _read_reduced(
        self, sampling: Sampling, x: int, y: int, width: int, height: int
    ) -> NDArray[np.uint8]:
        fx, fy = round(sampling.factor_x), round(sampling.factor_y)
        pixels = self.reader.read(sampling.level, x * fx, y * fy, width * fx, height * fy)
        if fx == fy == 1:
            return pixels
        return np.asarray(Image.fromarray(pixels).reduce((fx, fy)))

    def _read_resized(
        self, sampling: Sampling, x: int, y: int, width: int, height: int
    ) -> NDArray[np.uint8]:
        # The margin holds the whole support of the filter, so that a pixel comes out the same
        # whichever box it is read with.
        left, right, in_x = _with_margin(x, width, sampling.factor_x)
        top, bottom, in_y = _with_margin(y, height, sampling.factor_y)
        pixels = self.reader.read(sampling.level, left, top, right - left, bottom - top)
        box = (in_x, in_y, in_x + width * sampling.factor_x, in_y + height * sampling.factor_y)
        image = Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC, box=box)
        return np.asarray(image)

    def thumbnail(self, mpp: float) -> tuple[NDArray[np.uint8], NDArray[np.bool_], Sampling]:
        """Read the whole slide at about `mpp` um per pixel, in bands to bound memory.

        Parts that a level does not have are read from the next finer one, down to level 0.

        Returns
        -------
        (uint8 (h, w, 3), bool (h, w), Sampling)
            The image, where no level could be decoded (background colour there), and the
            sampling, which has the effective mpp.
        """
        overview, sampling = self.overview(mpp)
        return overview.image, overview.failed, sampling

    def overview(self, mpp: float) -> tuple[Overview, Sampling]:
        """Return what `thumbnail` reads, and which levels it had to read."""
        sampling = self.sampling(mpp)
        return read_overview(self.read_sampled, sampling, self.levels, self.background), sampling

    def fingerprint(self) -> str:
        """Return the slide's fingerprint; see `slide_fingerprint`."""
        return slide_fingerprint(self.path)

    def close(self) -> None:
        """Close the file."""
        self.reader.close()

    def __enter__(self) -> Slide:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _scale(
    stated: StatedScale,
    *,
    flag: tuple[float, float] | None,
    table: tuple[float, float] | None,
) -> tuple[Mpp, tuple[str, ...]]:
    """Choose the mpp, and return what is doubtful about it."""
    mpp, conflicts = resolve_mpp(
        stated.mpp, flag=flag, table=table, stated_by=stated.stated_by, hint=stated.hint
    )
    doubts = stated.warnings if mpp.source == "metadata" else ()
    return mpp, (*doubts, *conflicts, *objective_doubts(mpp, stated.objective))


def _with_margin(start: int, length: int, factor: float) -> tuple[int, int, float]:
    margin = _CUBIC_SUPPORT * max(factor, 1.0)
    first = start * factor
    low = int(np.floor(first - margin)) - 1
    high = int(np.ceil(first + length * factor + margin)) + 1
    return low, high, first - low
