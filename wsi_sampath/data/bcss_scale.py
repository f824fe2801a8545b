"""How large the pixels of BCSS's regions really are, from what the regions cover on their slides.

Images of the release are named ``MPP-0.2500``, but the server that cut them seems to have rounded
0.00025 mm to 0.0003: against the extent of the regions in slide pixels they come out at 0.30 um.
"""

from __future__ import annotations

import csv
import statistics
from collections.abc import Mapping
from functools import cache
from importlib import resources

_UM_AT_1X = 10.0
_AXES_AGREE = 0.01
_SAME = 0.02


def measured_mpp(sizes: Mapping[str, tuple[int, int]]) -> float | None:
    """Return the um per pixel of region images, to two decimals.

    Parameters
    ----------
    sizes
        Width and height in px by name (``TCGA-.._xmin.._ymin.._MPP-0.2500``).

    Returns
    -------
    float or None
        The median over the regions of the release, with 0.25 um per slide pixel at 40x and 0.5 at
        20x (true within 2 %); None where no region is one of them, or in its shape.
    """
    found = [_mpp(name, *size) for name, size in sizes.items()]
    known = [mpp for mpp in found if mpp is not None]
    return round(statistics.median(known), 2) if known else None


def differs(measured: float | None, named: float) -> bool:
    """Return whether a measured pixel size contradicts the named one."""
    return measured is not None and abs(measured - named) > _SAME


def _mpp(name: str, width: int, height: int) -> float | None:
    extent = _extents().get(name.split("_MPP-")[0])
    if extent is None:
        return None
    across, down, magnification = extent
    zooms = across / width, down / height
    if abs(zooms[0] / zooms[1] - 1) > _AXES_AGREE:
        return None
    return _UM_AT_1X / magnification * sum(zooms) / 2


@cache
def _extents() -> dict[str, tuple[int, int, int]]:
    """Return width and height in slide px and the magnification of all 151 regions.

    From ``roiBounds.csv`` and ``slide_magnifications.csv`` of the BCSS repository (CC0).
    """
    text = (resources.files(__package__) / "bcss_regions.csv").read_text(encoding="utf-8")
    return {
        row["region"]: (int(row["width_px"]), int(row["height_px"]), int(row["magnification"]))
        for row in csv.DictReader(text.splitlines())
    }
