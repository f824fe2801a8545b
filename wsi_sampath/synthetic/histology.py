"""Pictures of stained tissue, drawn from nothing: stroma, glass and single colonic glands.

All is drawn as amounts of haematoxylin and eosin and turned into colour by the Beer-Lambert law,
so that shades mix as they do on a slide. `painted` lays these pieces out on a slide.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy import fft, ndimage, spatial, special

UInt8Array = npt.NDArray[np.uint8]
BoolArray = npt.NDArray[np.bool_]
FloatArray = npt.NDArray[np.float32]

GLASS_RGB = (243, 241, 244)
_HAEMATOXYLIN_OD = np.array([0.64, 0.72, 0.27], np.float32)
_EOSIN_OD = np.array([0.12, 0.82, 0.42], np.float32)
STROMA_PERIOD_UM = 640.0
MAX_GLAND_RADIUS_UM = 56.0
_FINEST_MPP = 0.5
_GLAND_COUNT = 12
_CLEFT_UM = 2.5
# Cells are narrow around the gland and long towards its middle.
_PETAL_ROUND, _PETAL_DEEP = 30.0, 28.0


@dataclass(frozen=True)
class Gland:
    """One gland and the pale cleft around it.

    Parameters
    ----------
    rgb
        Its pixels, uint8 (h, w, 3).
    drawn
        Which of them are to be painted (h, w).
    inside
        Which of them are gland and not cleft (h, w).
    """

    rgb: UInt8Array
    drawn: BoolArray
    inside: BoolArray


@dataclass(frozen=True)
class Palette:
    """The textures and glands that a slide is painted with.

    Parameters
    ----------
    glass, stroma
        Textures that repeat without a seam, uint8 (p, p, 3).
    glands
        Different glands, each about 70 to 110 um across.
    roughness
        Noise about 0 +- 1 with the period of the stroma, for ragged outlines, float32 (p, p).
    """

    glass: UInt8Array
    stroma: UInt8Array
    glands: tuple[Gland, ...]
    roughness: FloatArray


@lru_cache(maxsize=2)
def make_palette(mpp: float, seed: int) -> Palette:
    """Draw everything a slide of this pixel size needs.

    Parameters
    ----------
    mpp
        Microns per pixel. Nothing finer than 0.5 um is drawn: below, pixels are interpolated.
    seed
        Equal seeds give equal pictures.
    """
    rng = np.random.default_rng(seed)
    drawn_mpp = max(mpp, _FINEST_MPP)
    zoom = drawn_mpp / mpp
    stain = np.stack([_HAEMATOXYLIN_OD, _EOSIN_OD]) * rng.uniform(0.92, 1.08, (2, 1))
    side = max(64, round(STROMA_PERIOD_UM / drawn_mpp))
    stroma = _colour(*_stroma(side, drawn_mpp, rng), stain.astype(np.float32), rng)
    glands = tuple(_gland(drawn_mpp, rng, stain, zoom) for _ in range(_GLAND_COUNT))
    glass = (
        np.asarray(GLASS_RGB)
        + rng.normal(0, 1.2, (512, 512, 1))
        + rng.normal(0, 0.8, (512, 512, 3))
    )
    rough = _noise(side, (12 / drawn_mpp, 12 / drawn_mpp), rng)
    return Palette(
        glass.round().clip(0, 255).astype(np.uint8),
        _zoom_rgb(stroma, zoom, "grid-wrap"),
        glands,
        ndimage.zoom(rough, zoom, order=1, mode="grid-wrap", grid_mode=True) if zoom > 1 else rough,
    )


def _colour(
    haematoxylin: FloatArray, eosin: FloatArray, stain: FloatArray, rng: np.random.Generator
) -> UInt8Array:
    """Amounts of stain (h, w) to colours, with a little noise of the camera."""
    density = haematoxylin[..., None] * stain[0] + eosin[..., None] * stain[1]
    light = np.asarray(GLASS_RGB, np.float32) * np.exp(-density)
    light += rng.normal(0, 2.0, light.shape[:2]).astype(np.float32)[..., None]
    rounded: UInt8Array = light.round().clip(0, 255).astype(np.uint8)
    return rounded


def _noise(side: int, sigma: tuple[float, float], rng: np.random.Generator) -> FloatArray:
    """Smooth noise of unit variance that repeats without a seam, float32 (side, side)."""
    white = fft.rfft2(rng.standard_normal((side, side), dtype=np.float32))
    smooth = fft.irfft2(ndimage.fourier_gaussian(white, sigma, n=side), s=(side, side))
    scaled: FloatArray = (smooth / smooth.std()).astype(np.float32)
    return scaled


def _zoom_rgb(rgb: UInt8Array, zoom: float, mode: str) -> UInt8Array:
    if zoom <= 1:
        return rgb
    planes = [
        ndimage.zoom(rgb[..., c].astype(np.float32), zoom, order=1, mode=mode, grid_mode=True)
        for c in range(3)
    ]
    zoomed: UInt8Array = np.stack(planes, -1).round().clip(0, 255).astype(np.uint8)
    return zoomed


def _stroma(side: int, mpp: float, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
    """Draw pink fibres, pale gaps, and nuclei of lymphocytes and fibroblasts."""
    fibres = _fibres(side, mpp, rng)
    gaps = _noise(side, (7 / mpp, 7 / mpp), rng)
    eosin = 0.38 + 0.11 * fibres + 0.09 * gaps
    eosin *= 1 - 0.85 * _step(_noise(side, (5 / mpp, 5 / mpp), rng) + 0.4 * fibres, 1.35, 0.3)
    haematoxylin = 0.14 + 0.04 * _noise(side, (15 / mpp, 15 / mpp), rng)
    crowding = _noise(side, (40 / mpp, 40 / mpp), rng)
    for _ in range(round((side * mpp) ** 2 * 0.0125)):
        y, x = rng.integers(side, size=2)
        if crowding[y, x] + rng.normal(0, 0.7) > -0.6:
            _add_nucleus(haematoxylin, y, x, mpp, rng)
    for _ in range(round((side * mpp) ** 2 * 0.00016)):
        y, x = rng.integers(side, size=2)
        _add_red_cell(eosin, y, x, mpp, rng)
    return haematoxylin.clip(0.02, 2.2), eosin.clip(0.03, 1.6)


def _fibres(side: int, mpp: float, rng: np.random.Generator) -> FloatArray:
    """Fibres that turn slowly: three directions, each where a smooth field prefers it."""
    thin, long = 0.7 / mpp, 6 / mpp
    across, along = _noise(side, (thin, long), rng), _noise(side, (long, thin), rng)
    skew = np.arange(side)[:, None]
    oblique = _noise(side, (long, thin), rng)[skew, (np.arange(side)[None, :] + skew) % side]
    field = _noise(side, (30 / mpp, 30 / mpp), rng)
    left, right = _step(field, -0.5, 0.4), _step(field, 0.5, 0.4)
    mixed: FloatArray = across * (1 - left) + oblique * (left - right) + along * right
    return mixed


def _step(values: FloatArray, at: float, width: float) -> FloatArray:
    """Return a soft step from 0 to 1."""
    stepped: FloatArray = special.expit((values - at) * (4 / width)).astype(np.float32)
    return stepped


def _blob(
    semi: tuple[float, float], angle: float, edge: float
) -> tuple[FloatArray, npt.NDArray[np.int64]]:
    """Draw a soft ellipse of semi-axes in pixels; return it and its offsets from the centre."""
    reach = int(np.ceil(max(semi) + 2))
    offsets = np.arange(-reach, reach + 1)
    v, u = np.meshgrid(offsets, offsets, indexing="ij")
    along = (u * np.cos(angle) + v * np.sin(angle)) / semi[0]
    across = (v * np.cos(angle) - u * np.sin(angle)) / semi[1]
    return _step(-np.hypot(along, across).astype(np.float32), -1, edge), offsets


def _add_nucleus(plane: FloatArray, y: int, x: int, mpp: float, rng: np.random.Generator) -> None:
    spindle = rng.random() < 0.3
    semi = (rng.uniform(5, 7), rng.uniform(1.2, 1.8)) if spindle else (rng.uniform(2.3, 3.4),) * 2
    stretched = (semi[0] / mpp * rng.uniform(0.9, 1.2), semi[1] / mpp)
    blob, offsets = _blob(stretched, rng.uniform(0, np.pi), 0.6)
    side = plane.shape[0]
    at = np.ix_((offsets + y) % side, (offsets + x) % side)
    plane[at] = np.maximum(plane[at], blob * rng.uniform(1.2, 2.0))


def _add_red_cell(plane: FloatArray, y: int, x: int, mpp: float, rng: np.random.Generator) -> None:
    blob, offsets = _blob((3.2 / mpp, 2.6 / mpp), rng.uniform(0, np.pi), 0.5)
    side = plane.shape[0]
    at = np.ix_((offsets + y) % side, (offsets + x) % side)
    plane[at] = np.maximum(plane[at], blob * rng.uniform(0.9, 1.2))


def _gland(
    mpp: float, rng: np.random.Generator, stain: npt.NDArray[np.float64], zoom: float
) -> Gland:
    """Draw one crypt cut across: basal nuclei, goblet cells, and a pale lumen."""
    short = rng.uniform(36, 44)
    semi = short * rng.uniform(1.0, 1.24), short
    half = int(np.ceil((MAX_GLAND_RADIUS_UM + 6) / mpp))
    um = (np.arange(-half, half + 1) * mpp).astype(np.float32)
    y, x = np.meshgrid(um, um, indexing="ij")
    angle, turn = np.arctan2(y, x), np.float32(rng.uniform(0, np.pi))
    radius = _outline(angle - turn, semi, rng)
    depth = radius - np.hypot(x, y)
    haematoxylin, eosin = _epithelium(x, y, depth, radius, rng)
    rgb = _colour(haematoxylin, eosin, stain.astype(np.float32), rng)
    if zoom > 1:
        depth = ndimage.zoom(depth, zoom, order=1, grid_mode=True, mode="nearest")
        rgb = _zoom_rgb(rgb, zoom, "nearest")
    return Gland(rgb, depth > -_CLEFT_UM, depth > 0)


def _outline(angle: FloatArray, semi: tuple[float, float], rng: np.random.Generator) -> FloatArray:
    """Radius of a wobbling ellipse in every direction, um."""
    long, short = semi
    radius = long * short / np.hypot(short * np.cos(angle), long * np.sin(angle))
    for waves in (3, 4, 5):
        radius *= 1 + rng.normal(0, 0.012) * np.cos(waves * angle + rng.uniform(0, 6.3))
    return np.minimum(radius, MAX_GLAND_RADIUS_UM).astype(np.float32)


def _epithelium(
    x: FloatArray, y: FloatArray, depth: FloatArray, radius: FloatArray, rng: np.random.Generator
) -> tuple[FloatArray, FloatArray]:
    """Amounts of haematoxylin and eosin from the depth (um) under the gland's outline."""
    share = (depth / radius).clip(-1, 1)
    nearest, wall, pale = _cells(x, y, share, rng)
    mucin = _step(share, 0.27, 0.10) * pale[nearest] * _step(wall, 0.7, 1.2)
    haematoxylin = 0.60 - 0.42 * mucin
    eosin = 0.45 - 0.30 * mucin
    basal = _nuclei(x, y, depth, radius, rng)
    haematoxylin = np.maximum(haematoxylin, basal)
    ragged = 0.05 * ndimage.gaussian_filter(rng.normal(0, 8, x.shape), 2.5)
    lumen = _step((share + ragged).astype(np.float32), rng.uniform(0.74, 0.9), 0.06)
    haematoxylin = haematoxylin * (1 - lumen) + 0.07 * lumen
    eosin = eosin * (1 - lumen) + rng.uniform(0.03, 0.18) * lumen
    cleft = _step(depth, -0.4, 1.2)
    haematoxylin = haematoxylin * cleft + 0.08 * (1 - cleft)
    eosin = eosin * cleft + 0.26 * (1 - cleft)
    grain = ndimage.gaussian_filter(rng.normal(0, 0.14, x.shape), 1.2).astype(np.float32)
    return (haematoxylin + grain).clip(0.02, 2.2), (eosin + grain).clip(0.02, 1.6)


def _cells(
    x: FloatArray, y: FloatArray, share: FloatArray, rng: np.random.Generator
) -> tuple[npt.NDArray[np.int64], FloatArray, FloatArray]:
    """Cells like petals: each pixel's cell, its distance from the wall, the cell's paleness."""
    around = np.arctan2(y, x)
    shape = np.array([_PETAL_ROUND, _PETAL_ROUND, _PETAL_DEEP])
    count = int(rng.integers(44, 64))
    angle, level = rng.uniform(0, 2 * np.pi, count), rng.uniform(0.3, 0.85, count)
    points = np.stack([np.cos(angle), np.sin(angle), level], -1) * shape
    grid = np.stack([np.cos(around), np.sin(around), share], -1).reshape(-1, 3) * shape
    distance, index = spatial.cKDTree(points).query(grid, k=2)
    wall = ((distance[:, 1] - distance[:, 0]) / 2).reshape(x.shape).astype(np.float32)
    pale = (rng.random(count) < rng.uniform(0.6, 1.0)) * rng.uniform(0.7, 1.0, count)
    return index[:, 0].reshape(x.shape), wall, pale.astype(np.float32)


def _nuclei(
    x: FloatArray, y: FloatArray, depth: FloatArray, radius: FloatArray, rng: np.random.Generator
) -> FloatArray:
    """Elongated nuclei that stand side by side along the outline."""
    dark = np.zeros_like(x)
    rim = np.abs(depth - 6) < 9
    around, deep, out = np.arctan2(y, x)[rim], depth[rim], np.hypot(x, y)[rim]
    count = round(2 * np.pi * float(np.median(radius)) / 4.4)
    darkest = np.zeros_like(deep)
    for angle in (np.arange(count) + rng.uniform(-0.25, 0.25, count)) * 2 * np.pi / count:
        turned = np.abs((around - np.float32(angle) + np.pi) % (2 * np.pi) - np.pi)
        across = turned * out / rng.uniform(1.9, 2.7)
        along = (deep - rng.uniform(4.0, 7.5)) / rng.uniform(3.4, 4.8)
        blob = _step(-np.hypot(across, along).astype(np.float32), -1, 0.7)
        np.maximum(darkest, blob * rng.uniform(1.3, 2.0), out=darkest)
    dark[rim] = darkest
    return dark
