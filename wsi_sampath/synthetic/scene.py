"""Where the tissue, the glands, the pen stroke and the border of a painted slide lie."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import ndimage, spatial

from wsi_sampath.synthetic.histology import MAX_GLAND_RADIUS_UM, BoolArray, FloatArray
from wsi_sampath.synthetic.svs_writer import BAND_PX

Pen = Literal["blue", "green", "black", "red"]
ROUGHNESS_UM = 4.0
_BORDER_SHARE = 0.03
_NODE_UM = 8.0
_GLAND_PITCH_UM = 106.0
_GLAND_JITTER_UM = 11.0
_GLAND_APART_UM = 92.0
_FAR_UM = 1e6


@dataclass(frozen=True)
class Scene:
    """Where everything lies; fields are coarse and read by bilinear interpolation."""

    width: int
    height: int
    node_px: int
    tissue_um: FloatArray  # distance inside the tissue's outline, negative on glass
    pen_um: FloatArray
    pen: Pen | None
    border_px: int
    glands: npt.NDArray[np.int64]  # rows of y, x (centre, px), which gland, which of 8 turns


def lay_out(
    width: int, height: int, mpp: float, seed: int, pieces: int, pen: Pen | None, border: bool
) -> Scene:
    """Lay out a slide; the arguments are those of `paint_slide`."""
    rng = np.random.default_rng([seed, width, height])
    node_px = int(np.clip(2 ** round(np.log2(_NODE_UM / mpp)), 1, BAND_PX))
    # One more band of nodes than the slide needs, so that the last tiles find all their corners.
    shape = tuple(-(-size // BAND_PX) * BAND_PX // node_px + 1 for size in (height, width))
    y, x = np.indices(shape, dtype=np.float32) * np.float32(node_px)
    node_um = node_px * mpp
    tissue = np.zeros(shape, np.bool_)
    for piece in range(pieces):
        tissue |= _piece(y / height, x / width * pieces - piece, rng)
    tissue_um = _signed_distance(tissue, node_um)
    pen_um = np.full(shape, -_FAR_UM, np.float32)
    if pen is not None:
        # Random numbers of its own, so that every pen lies on the same slide.
        shaky = np.random.default_rng([seed, 1])
        pen_um = _stroke(y, x, width, height, shaky) * np.float32(mpp)
    glands = _gland_places(tissue_um, node_px, width, height, mpp, rng)
    border_px = round(_BORDER_SHARE * min(width, height)) if border else 0
    return Scene(width, height, node_px, tissue_um, pen_um, pen, border_px, glands)


def _piece(v: FloatArray, u: FloatArray, rng: np.random.Generator) -> BoolArray:
    """Return a wobbling blob in a unit cell, u and v being the place within the cell."""
    dv, du = v - rng.uniform(0.47, 0.53), u - rng.uniform(0.47, 0.53)
    angle = np.arctan2(dv, du)
    radius = np.full(v.shape, rng.uniform(0.36, 0.40))
    for waves in range(2, 9):
        size = 0.16 / waves
        radius *= 1 + size * rng.normal() * np.cos(waves * angle + rng.uniform(0, 2 * np.pi))
    blob: BoolArray = np.hypot(dv, du) < radius.clip(0.15, 0.47)
    return blob


def _signed_distance(inside: BoolArray, node_um: float) -> FloatArray:
    if not inside.any():
        return np.full(inside.shape, -_FAR_UM, np.float32)
    depth = ndimage.distance_transform_edt(inside) - ndimage.distance_transform_edt(~inside)
    depth_um = (depth * node_um).astype(np.float32)
    smooth: FloatArray = ndimage.gaussian_filter(depth_um, 1.5)
    return smooth


def _stroke(
    y: FloatArray, x: FloatArray, width: int, height: int, rng: np.random.Generator
) -> FloatArray:
    """Return the distance (px) inside a wavy, nearly upright stroke on the left."""
    phase, waves = rng.uniform(0, 2 * np.pi), rng.uniform(3, 6)
    middle = width * (0.14 + 0.03 * np.sin(waves * y / height + phase))
    half = 0.025 * min(width, height)
    inside = np.minimum(half - np.abs(x - middle), np.minimum(y - 0.2 * height, 0.8 * height - y))
    stroke: FloatArray = inside.astype(np.float32)
    return stroke


def _gland_places(
    tissue_um: FloatArray,
    node_px: int,
    width: int,
    height: int,
    mpp: float,
    rng: np.random.Generator,
) -> npt.NDArray[np.int64]:
    """Return a shaken hexagonal lattice, where the tissue has room and is mucosa."""
    pitch, jitter = _GLAND_PITCH_UM / mpp, _GLAND_JITTER_UM / mpp
    y, x = np.mgrid[0 : height : pitch * np.sqrt(0.75), 0:width:pitch]
    x[1::2] += pitch / 2
    places = np.stack([y.ravel(), x.ravel()], -1)
    places = (places + rng.uniform(-jitter, jitter, places.shape)).round().astype(np.int64)
    places = places[((places >= 0) & (places < (height, width))).all(1)]
    mucosa = ndimage.gaussian_filter(rng.standard_normal(tissue_um.shape), 25)
    mucosa /= mucosa.std()
    nodes = tuple((places // node_px).T)
    room = tissue_um[nodes] > MAX_GLAND_RADIUS_UM + 3 * ROUGHNESS_UM
    places = places[room & (mucosa[nodes] > -0.9)]
    crowded = spatial.cKDTree(places).query_pairs(_GLAND_APART_UM / mpp, output_type="ndarray")
    places = np.delete(places, crowded[:, 1], axis=0)
    kinds = np.stack([rng.integers(1 << 16, size=len(places)), rng.integers(8, size=len(places))])
    return np.concatenate([places, kinds.T], axis=1)
