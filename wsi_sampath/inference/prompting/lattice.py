"""Where a network looks to answer a prompt: squares on a fixed lattice, never the screen's own.

Which square answers depends on the prompt and the model's pixel size alone, so that the answer
does too. Neighbours share half a side, so that whatever is shorter lies whole in the square whose
middle is nearest.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from wsi_sampath.slides.grid import Box
from wsi_sampath.slides.sampling import Level, Sampling, plan_sampling, read_from

STEPS_PER_SIDE = 2
"""Neighbours are a side divided by this apart."""
_ALIGNED_PX = 4
"""Starts are multiples of this, so that a square has whole pixels at 2 and 4 times its mpp."""
FITS = 3 / 8
"""What is no longer than this share of a square is answered in it, with room on every side."""
LARGEST_FACTOR = 64
_SLACK = 1e-6

Floats = NDArray[np.float64]


@dataclass(frozen=True, order=True)
class Square:
    """A square of a slide.

    Attributes
    ----------
    factor
        Its mpp as a multiple of the model's: a power of two.
    y, x
        Upper left corner, in px of the plane at that mpp.
    """

    factor: int
    y: int
    x: int


@dataclass(frozen=True)
class Lattice:
    """All squares of a slide at one multiple of the model's mpp.

    Attributes
    ----------
    factor
        The multiple.
    plane
        The slide at this mpp.
    side
        Of a square, px of the plane.
    """

    factor: int
    plane: Sampling
    side: int

    @property
    def step(self) -> int:
        """Px from a square to the next one."""
        return max(_ALIGNED_PX, self.side // STEPS_PER_SIDE // _ALIGNED_PX * _ALIGNED_PX)

    def to_plane(self, points: Floats) -> Floats:
        """Return points (n, 2), x before y, in px of the plane; they come in level-0 px."""
        moved: Floats = points / np.array([self.plane.zoom_x, self.plane.zoom_y])
        return moved

    def pixels(self, square: Square, points: Floats) -> NDArray[np.int64]:
        """Return row and column, in a square, of those points (n, 2) in level-0 px within it."""
        places = self.to_plane(points) - [square.x, square.y]
        pixels = np.floor(places).astype(np.int64)[:, ::-1]
        inside: NDArray[np.int64] = pixels[((pixels >= 0) & (pixels < self.side)).all(axis=1)]
        return inside

    def nearest(self, middle: Floats) -> Square:
        """Return the square whose middle is nearest to a point (2,), x and y in level-0 px."""
        x, y = self.to_plane(middle)
        return Square(
            self.factor, self._start(y, self.plane.height), self._start(x, self.plane.width)
        )

    def covering(self, box: Box) -> tuple[Square, ...]:
        """Return every square that answers for a point in a box, in px of the plane, by rows."""
        ys, xs = (
            self._starts(first, first + length, size)
            for first, length, size in (
                (box.y, box.height, self.plane.height),
                (box.x, box.width, self.plane.width),
            )
        )
        return tuple(Square(self.factor, y, x) for y in ys for x in xs)

    def cut_edges(self, square: Square) -> tuple[bool, bool, bool, bool]:
        """Return at which edges of a square the slide goes on: top, bottom, left, right."""
        return (
            square.y > 0,
            square.y + self.side < self.plane.height,
            square.x > 0,
            square.x + self.side < self.plane.width,
        )

    def _start(self, middle: float, length: int) -> int:
        wanted = round((middle - self.side / 2) / self.step) * self.step
        return int(min(max(wanted, 0), self._last(length)))

    def _starts(self, first: float, end: float, length: int) -> list[int]:
        low, high = self._start(first, length), self._start(end, length)
        return sorted({*range(low, high, self.step), high})

    def _last(self, length: int) -> int:
        return -(-max(0, length - self.side) // _ALIGNED_PX) * _ALIGNED_PX


def plan_lattice(
    levels: tuple[Level, ...], mpp: tuple[float, float], *, model_mpp: float, side: int, factor: int
) -> Lattice:
    """Lay squares over a slide.

    Parameters
    ----------
    levels, mpp
        Of the slide; its um per level-0 pixel along x and y.
    model_mpp
        Um per pixel of the model.
    side
        Of its input, px.
    factor
        Multiple of the model's mpp.
    """
    finest = plan_sampling(levels, mpp, model_mpp)
    return Lattice(factor, coarser(finest, levels, factor), side)


def plan_lattices(
    levels: tuple[Level, ...], mpp: tuple[float, float], *, model_mpp: float, side: int
) -> tuple[Lattice, ...]:
    """Lay squares of 1, 2, 4... times the model's mpp, up to where all of the slide fits in one.

    Parameters
    ----------
    levels, mpp, model_mpp, side
        As of `plan_lattice`.
    """
    lattices: list[Lattice] = []
    factor = 1
    while factor <= LARGEST_FACTOR:
        one = plan_lattice(levels, mpp, model_mpp=model_mpp, side=side, factor=factor)
        lattices.append(one)
        if max(one.plane.width, one.plane.height) <= side * FITS:
            break
        factor *= 2
    return tuple(lattices)


def coarser(plane: Sampling, levels: tuple[Level, ...], factor: float) -> Sampling:
    """Return a plane with pixels exactly `factor` times as long, read from the best level for it.

    A plane that was planned by its own mpp might be a percent off the one it goes with.
    """
    zoom_x, zoom_y = plane.zoom_x * factor, plane.zoom_y * factor
    fine = [
        index
        for index, level in enumerate(levels)
        if level.downsample_x <= zoom_x * (1 + _SLACK)
        and level.downsample_y <= zoom_y * (1 + _SLACK)
    ]
    best = max(fine, key=lambda index: levels[index].downsample_x, default=0)
    wanted = replace(
        plane,
        zoom_x=zoom_x,
        zoom_y=zoom_y,
        mpp_x=plane.mpp_x * factor,
        mpp_y=plane.mpp_y * factor,
        requested_mpp=plane.requested_mpp * factor,
        width=max(1, -int(-levels[0].width // zoom_x)),
        height=max(1, -int(-levels[0].height // zoom_y)),
    )
    return read_from(wanted, levels, best)


def concentric(square: Square, side: int, times: int) -> tuple[int, int]:
    """Return y and x of the square around the same middle that is `times` as wide.

    Parameters
    ----------
    square
        The inner one; a multiple of 4 px from the plane's corner.
    side
        Of both, px, each of its own plane: those of the outer one are `times` as long.

    Examples
    --------
    >>> concentric(Square(1, 512, 1024), 1024, 2)
    (0, 256)
    """
    inset = side * (times - 1) // (2 * times)
    return square.y // times - inset, square.x // times - inset
