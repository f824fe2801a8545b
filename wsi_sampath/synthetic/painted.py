"""Slides painted from nothing, with their truth: for demos without data and for tests.

Tissue pieces with colonic glands lie on bright glass, with a pen stroke or a black scanner border
if wanted. Painting runs from band to band, so that memory depends on the width alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from wsi_sampath.synthetic.histology import (
    FloatArray,
    Palette,
    UInt8Array,
    make_palette,
)
from wsi_sampath.synthetic.scene import ROUGHNESS_UM, Pen, Scene, lay_out
from wsi_sampath.synthetic.svs_writer import BAND_PX, write_svs

T = TypeVar("T", bound=np.generic)
GLASS, OTHER, GLAND = 0, 1, 2
_PEN_RGB: dict[Pen, tuple[int, int, int]] = {
    "blue": (28, 62, 178),
    "green": (18, 118, 72),
    "black": (26, 25, 29),
    "red": (204, 30, 42),
}


@dataclass(frozen=True)
class PaintedTruth:
    """What was painted, to the pixel.

    Parameters
    ----------
    path
        The slide file.
    width, height, mpp
        Its size in level-0 pixels and their size in microns.
    glands
        How many glands it shows.
    """

    path: Path
    width: int
    height: int
    mpp: float
    glands: int
    _painter: _Painter

    def label_at(self, mpp: float) -> UInt8Array:
        """Return the truth sampled at the centres of pixels of about `mpp` microns.

        Returns
        -------
        uint8 (h, w)
            0 glass, pen or border; 1 tissue outside glands; 2 gland. h and w are the level-0
            sizes times self.mpp / mpp, rounded, at least 1.
        """
        rows = _centres(self.height, self.mpp / mpp)
        columns = _centres(self.width, self.mpp / mpp)
        parts = []
        for top, label in self._painter.label_bands():
            inside = rows[(rows >= top) & (rows < top + label.shape[0])] - top
            parts.append(label[np.ix_(inside, columns)])
        return np.concatenate(parts)


def paint_slide(
    path: str | Path,
    *,
    width: int = 4096,
    height: int = 3072,
    mpp: float = 0.5,
    seed: int = 0,
    pieces: int = 1,
    pen: Pen | None = None,
    border: bool = False,
    levels: Sequence[int] = (1, 4, 16),
    quality: int = 80,
    mpp_in_file: bool = True,
) -> PaintedTruth:
    """Paint a colon biopsy and write it as an Aperio SVS.

    Parameters
    ----------
    path
        The file to write; an existing one is replaced.
    width, height
        Size of level 0 in pixels.
    mpp
        Microns per pixel.
    seed
        Equal arguments and seeds give equal pixels.
    pieces
        Pieces of tissue side by side; 0 leaves bare glass.
    pen
        Draw a marker stroke of this colour on the left, across the edge of the tissue.
    border
        Draw the black margin that some scanners leave, above and on the left.
    levels, quality
        As in `write_svs`.
    mpp_in_file
        False leaves the pixel size and the magnification out of the file.

    Returns
    -------
    PaintedTruth
        The truth of the slide.
    """
    scene = lay_out(width, height, mpp, seed, pieces, pen, border)
    painter = _Painter(scene, make_palette(mpp, seed))
    written = write_svs(
        path,
        painter.rgb_bands(),
        width=width,
        height=height,
        mpp=mpp if mpp_in_file else None,
        levels=levels,
        quality=quality,
    )
    return PaintedTruth(written, width, height, mpp, len(scene.glands), painter)


class _Painter:
    """Paints bands of 256 rows of a scene, tile by tile."""

    def __init__(self, scene: Scene, palette: Palette) -> None:
        self._scene, self._palette = scene, palette
        self._glass = _wrapped(palette.glass)
        self._stroma = _wrapped(palette.stroma)
        self._rough = _wrapped(palette.roughness) * np.float32(ROUGHNESS_UM)
        self._weights = _interpolation(scene.node_px)

    def rgb_bands(self) -> Iterator[UInt8Array]:
        """Yield uint8 (rows, width, 3) from top to bottom."""
        for _, rgb, _label in self._bands(colour=True):
            yield rgb

    def label_bands(self) -> Iterator[tuple[int, UInt8Array]]:
        """Yield the first row and uint8 (rows, width) from top to bottom."""
        for top, _rgb, label in self._bands(colour=False):
            yield top, label

    def _bands(self, *, colour: bool) -> Iterator[tuple[int, UInt8Array, UInt8Array]]:
        scene = self._scene
        wide = -(-scene.width // BAND_PX) * BAND_PX
        for top in range(0, scene.height, BAND_PX):
            rgb = np.empty((BAND_PX, wide if colour else 0, 3), np.uint8)
            label = np.empty((BAND_PX, wide), np.uint8)
            for left in range(0, wide, BAND_PX):
                here = np.s_[:, left : left + BAND_PX]
                self._ground(top, left, rgb[here], label[here])
            self._add_glands(top, rgb, label)
            for left in range(0, wide, BAND_PX):
                here = np.s_[:, left : left + BAND_PX]
                self._add_pen(top, left, rgb[here], label[here])
            self._add_border(top, rgb, label)
            rows = min(BAND_PX, scene.height - top)
            yield top, rgb[:rows, : scene.width], label[:rows, : scene.width]

    def _ground(self, top: int, left: int, rgb: UInt8Array, label: UInt8Array) -> None:
        """Paint glass and stroma."""
        nodes = self._nodes(self._scene.tissue_um, top, left)
        reach = 6 * ROUGHNESS_UM
        if nodes.max() < -reach or nodes.min() > reach:
            tissue = nodes.min() > 0
            label[:] = OTHER if tissue else GLASS
            if rgb.size:
                rgb[:] = _cut(self._stroma if tissue else self._glass, top, left)
            return
        inside = self._fine(nodes) + _cut(self._rough, top, left) > 0
        label[:] = inside
        if rgb.size:
            rgb[:] = _cut(self._glass, top, left)
            np.copyto(rgb, _cut(self._stroma, top, left), where=inside[..., None])

    def _add_glands(self, top: int, rgb: UInt8Array, label: UInt8Array) -> None:
        half = self._palette.glands[0].rgb.shape[0] // 2 + 1
        centres = self._scene.glands[:, 0]
        near = (centres > top - half) & (centres < top + BAND_PX + half)
        for y, x, kind, turn in self._scene.glands[near]:
            gland = self._palette.glands[kind % len(self._palette.glands)]
            drawn, inside = _turn(gland.drawn, turn), _turn(gland.inside, turn)
            y0, x0 = y - drawn.shape[0] // 2 - top, x - drawn.shape[1] // 2
            there, cut = _overlap((y0, x0), drawn.shape, label.shape)
            np.copyto(label[there], np.uint8(GLAND), where=inside[cut])
            if rgb.size:
                np.copyto(rgb[there], _turn(gland.rgb, turn)[cut], where=drawn[cut][..., None])

    def _add_pen(self, top: int, left: int, rgb: UInt8Array, label: UInt8Array) -> None:
        nodes = self._nodes(self._scene.pen_um, top, left)
        if self._scene.pen is None or nodes.max() <= 0:
            return
        under = self._fine(nodes) > 0
        label[under] = GLASS
        if rgb.size:
            ink = np.asarray(_PEN_RGB[self._scene.pen], np.float32) / 255
            # Ink covers nearly all; a little of the tissue below shows through.
            rgb[under] = (ink * (200 + 0.22 * rgb[under])).clip(0, 255).astype(np.uint8)

    def _add_border(self, top: int, rgb: UInt8Array, label: UInt8Array) -> None:
        border = self._scene.border_px
        if not border:
            return
        for dark in (np.s_[: max(0, border - top)], np.s_[:, :border]):
            label[dark] = GLASS
            if rgb.size:
                rgb[dark] = (rgb[dark] & 7) + 2

    def _nodes(self, field: FloatArray, top: int, left: int) -> FloatArray:
        step = self._scene.node_px
        count = BAND_PX // step + 1
        y, x = top // step, left // step
        return field[y : y + count, x : x + count]

    def _fine(self, nodes: FloatArray) -> FloatArray:
        return np.asarray(self._weights @ nodes @ self._weights.T, np.float32)


def _interpolation(node_px: int) -> FloatArray:
    """Return weights (256, nodes) that interpolate linearly at pixel centres."""
    at = (np.arange(BAND_PX) + 0.5) / node_px
    nodes = np.arange(BAND_PX // node_px + 1)
    nearness = 1 - np.abs(np.subtract.outer(at, nodes))
    return np.asarray(nearness.clip(0, None), np.float32)


def _wrapped(texture: npt.NDArray[T]) -> npt.NDArray[T]:
    """Repeat a texture's first tile at its end, so that any tile is one plain slice."""
    pad = [(0, BAND_PX), (0, BAND_PX)] + [(0, 0)] * (texture.ndim - 2)
    return np.pad(texture, pad, mode="wrap")


def _cut(texture: npt.NDArray[T], top: int, left: int) -> npt.NDArray[T]:
    y, x = top % (texture.shape[0] - BAND_PX), left % (texture.shape[1] - BAND_PX)
    return texture[y : y + BAND_PX, x : x + BAND_PX]


def _turn(picture: npt.NDArray[T], turn: int) -> npt.NDArray[T]:
    turned = np.rot90(picture, turn % 4)
    return turned[::-1] if turn >= 4 else turned


def _overlap(
    at: tuple[int, int], shape: tuple[int, ...], frame: tuple[int, ...]
) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Return the part of a frame that a picture placed at `at` covers, and that of the picture."""
    there = [
        slice(max(0, a), max(0, min(f, a + s))) for a, s, f in zip(at, shape, frame, strict=False)
    ]
    cut = [slice(t.start - a, max(t.start, t.stop) - a) for t, a in zip(there, at, strict=True)]
    return (there[0], there[1]), (cut[0], cut[1])


def _centres(size: int, scale: float) -> npt.NDArray[np.int64]:
    """Return the level-0 pixels under the centres of the pixels of another scale."""
    count = max(1, round(size * scale))
    return ((np.arange(count) + 0.5) * size / count).astype(np.int64)
