"""PanNuke as released: ``images.npy``, ``masks.npy`` and ``types.npy`` of every fold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsi_sampath.data.nucleus_labels import read_array, whole_numbers
from wsi_sampath.data.pairing import check_name
from wsi_sampath.data.patches import several
from wsi_sampath.errors import UsageError, WsiError

CHUNK = 64
"""Patches that are written before a stop can resume behind them."""
_KINDS = 5
"""Channels of nuclei: neoplastic, inflammatory, connective, dead, epithelial; then background."""
_IMAGES, _MASKS, _TISSUES = "images.npy", "masks.npy", "types.npy"
_WHITE = 255


@dataclass(frozen=True)
class Release:
    """One fold.

    Attributes
    ----------
    images, masks
        Its arrays, (n, side, side, 3) and (n, side, side, 6).
    img_ids
        The n names: fold, tissue where ``types.npy`` tells it, and number.
    """

    images: Path
    masks: Path
    img_ids: tuple[str, ...]

    def read(self, number: int) -> tuple[NDArray[np.uint8], NDArray[np.uint16], NDArray[np.uint16]]:
        """Return one image (side, side, 3), its nuclei and their types 1..5, (side, side).

        Raises
        ------
        WsiError
            ``bad-input`` for pixels that are not 0..255, and labels that are not whole numbers.
        """
        pixels = np.asarray(read_array(self.images)[number])
        if not bool(((pixels >= 0) & (pixels <= _WHITE)).all()):
            message = f"image {number} holds pixels outside of 0..{_WHITE}"
            raise WsiError("bad-input", message, subject=str(self.images))
        if pixels.dtype.kind == "f" and 0 < pixels.max() <= 1:
            message = f"image {number} holds 0 to 1 and not 0 to {_WHITE}; multiply by {_WHITE}"
            raise WsiError("bad-input", message, subject=str(self.images))
        instances, types = nuclei_of(read_array(self.masks)[number], self.masks)
        return pixels.round().astype(np.uint8), instances, types


def nuclei_of(mask: NDArray[Any], path: Path) -> tuple[NDArray[np.uint16], NDArray[np.uint16]]:
    """Return nuclei and their types from one mask (height, width, 6).

    A nucleus has its number in the channel of its type; channels are numbered apart, and where
    they overlap the later one counts.
    """
    shape = mask.shape[:2]
    instances, types = np.zeros(shape, np.uint16), np.zeros(shape, np.uint16)
    for kind in range(_KINDS):
        numbers = whole_numbers(mask[..., kind], "masks", path)
        there = numbers > 0
        _, own = np.unique(numbers[there], return_inverse=True)
        instances[there] = own + 1 + int(instances.max(initial=0))
        types[there] = kind + 1
    return instances, types


def find_releases(images: Sequence[Path], masks: Sequence[Path]) -> list[Release]:
    """Return the folds below the folders, by name; none where there is no ``images.npy``.

    Raises
    ------
    WsiError
        ``bad-input`` for arrays that do not belong together, and where there is no nucleus.
    UsageError
        Where some folders hold arrays and others do not.
    """
    found = [sorted(folder.rglob(_IMAGES)) for folder in images]
    if not any(found):
        return []
    if not all(found):
        raise UsageError(
            f"some --images hold PanNuke's {_IMAGES}, others do not; prepare them apart"
        )
    releases: dict[str, Release] = {}
    for folder, paths in zip(masks, found, strict=True):
        partners = {path.parent.name: path for path in sorted(folder.rglob(_MASKS))}
        for path in paths:
            name = path.parent.name
            if name in releases or name not in partners:
                message = f"no {_MASKS} of its own in a folder {name} below {folder}"
                raise WsiError("bad-input", message, subject=str(path))
            releases[name] = _release(name, path, partners[name])
    if not any(_has_nuclei(one) for one in releases.values()):
        raise WsiError("bad-input", "there is no nucleus in any of them", subject=str(masks[0]))
    return [releases[name] for name in sorted(releases)]


def _release(name: str, images: Path, masks: Path) -> Release:
    check_name(images)
    one, other = read_array(images), read_array(masks)
    wanted = (*one.shape[:3], _KINDS + 1)
    if one.ndim != 4 or one.shape[3] != 3 or other.shape != wanted or one.dtype.kind not in "uif":
        message = f"is {other.shape}, its {_IMAGES} {one.shape}; PanNuke has (n, 256, 256, 6) and 3"
        raise WsiError("bad-input", message, subject=str(masks))
    tissues = [""] * len(one)
    if (images.parent / _TISSUES).is_file():
        tissues = [f"_{tissue}" for tissue in read_array(images.parent / _TISSUES).ravel()]
    if len(tissues) != len(one):
        message = f"names {len(tissues)} tissues for {len(one)} images"
        raise WsiError("bad-input", message, subject=str(images.parent / _TISSUES))
    odd = [tissue for tissue in tissues if not tissue.replace("-", "_").isidentifier() and tissue]
    if odd:
        message = f"names tissues {several(odd)}, which cannot be part of a file's name"
        raise WsiError("bad-input", message, subject=str(images.parent / _TISSUES))
    ids = tuple(f"{name}{tissue}_{number:04d}" for number, tissue in enumerate(tissues))
    return Release(images, masks, ids)


def _has_nuclei(release: Release) -> bool:
    masks = read_array(release.masks)
    return any(bool(mask[..., :_KINDS].any()) for mask in masks)
