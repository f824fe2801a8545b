"""The objects of a patch, each of which can be asked for: areas of classes, in their context."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from wsi_sampath.classes import ClassSpec, name_key
from wsi_sampath.data.context import TIMES
from wsi_sampath.data.patches import several
from wsi_sampath.errors import UsageError

Numbers = NDArray[np.int32]
Labels = NDArray[np.uint8]

_TOUCHING = np.ones((3, 3), bool)


@dataclass(frozen=True)
class Objects:
    """The objects of a patch.

    Attributes
    ----------
    near
        int32 (height, width): 0, or the number of an object, 1..n; every one has a pixel.
    wide
        The same in the context, where the same objects go on; None without a context.
    """

    near: Numbers
    wide: Numbers | None

    @property
    def count(self) -> int:
        """How many there are."""
        return int(self.near.max(initial=0))


def wanted_labels(classes: Sequence[ClassSpec], names: Sequence[str]) -> NDArray[np.bool_]:
    """Return for every label, 0 among them, whether its areas are objects.

    Parameters
    ----------
    classes
        Of the data.
    names
        The classes whose areas are objects, whatever their capitals; none of them means all.

    Raises
    ------
    UsageError
        For names that the data do not have.
    """
    known = {name_key(one.name): label for label, one in enumerate(classes, start=1)}
    unknown = [name for name in names if name_key(name) not in known]
    if unknown:
        has = ", ".join(one.name for one in classes)
        raise UsageError(f"objects: there is no class {several(unknown)}; the data have {has}")
    wanted = np.zeros(len(classes) + 1, bool)
    wanted[[known[name_key(name)] for name in names] if names else slice(1, None)] = True
    return wanted


def separate_objects(
    labels: Labels, context: Labels | None, wanted: NDArray[np.bool_], least_px: int = 1
) -> Objects:
    """Tell apart the areas of a patch that touch nowhere, and follow each into the context.

    Parameters
    ----------
    labels, context
        uint8 (side, side): classes of patch and context, see `data.context`.
    wanted
        Of `wanted_labels`.
    least_px
        Areas of fewer pixels of the patch are none.

    Returns
    -------
    Objects
        Within the patch an object of the context is what it is in the patch; beyond it goes on as
        far as it touches. What is reached by two objects is of the one that it touches more.
    """
    near = renumbered(_parts(np.where(wanted[labels], labels, 0)), least_px)
    if context is None:
        return Objects(near, None)
    return Objects(near, _continued(near, np.where(wanted[labels], labels, 0), context, wanted))


def united_objects(
    labels: Labels, context: Labels | None, wanted: NDArray[np.bool_], least_px: int = 1
) -> Objects:
    """Take all areas of a patch for one object, as the published WSI-SAM does.

    Parameters and return value are those of `separate_objects`; all areas of the context are of the
    object, whether they touch it or not.
    """
    near = wanted[labels].astype(np.int32)
    if np.count_nonzero(near) < least_px:
        near[:] = 0
    return Objects(near, None if context is None else wanted[context].astype(np.int32))


def _parts(classes: NDArray[np.integer]) -> Numbers:
    """Return numbers of the connected areas, those of two classes apart; corners touch."""
    found = np.zeros(classes.shape, np.int32)
    count = 0
    for label in np.unique(classes[classes > 0]):
        parts, number = ndimage.label(classes == label, _TOUCHING)
        found = np.where(parts > 0, parts + count, found)
        count += number
    return found.astype(np.int32)


def renumbered(numbers: NDArray[np.integer], least_px: int) -> Numbers:
    """Return numbers 1..n of the areas that are large enough, in their order."""
    sizes = np.bincount(numbers.ravel())
    kept = sizes >= max(1, least_px)
    kept[0] = False
    table = np.where(kept, np.cumsum(kept), 0).astype(np.int32)
    found: Numbers = table[numbers]
    return found


def _continued(
    near: Numbers, classes: Labels, context: Labels, wanted: NDArray[np.bool_]
) -> Numbers:
    side = len(near)
    middle = slice(side // 4, side // 4 + side // TIMES)
    outside = np.where(wanted[context], context, 0)
    outside[middle, middle] = 0
    wide = np.zeros_like(near)
    # Where four pixels are of several objects, the most frequent one would do as well.
    blocks = np.stack([near[row::2, column::2] for row in (0, 1) for column in (0, 1)])
    wide[middle, middle] = blocks.max(axis=0)
    kinds = np.zeros_like(near)
    kinds[middle, middle] = _kinds(near, classes)[wide[middle, middle]]
    parts = _parts(outside)
    owners = _owners(parts, outside, wide, kinds)
    return np.where(parts > 0, owners[parts], wide).astype(np.int32)


def _kinds(near: Numbers, classes: Labels) -> Numbers:
    """Return the class of every object by its number."""
    kinds = np.zeros(int(near.max(initial=0)) + 1, np.int32)
    kinds[near.ravel()] = classes.ravel()
    kinds[0] = 0
    return kinds


def _owners(parts: Numbers, outside: Labels, wide: Numbers, kinds: Numbers) -> Numbers:
    """Return for every part around the patch the object that it touches most, or 0."""
    votes = np.zeros((int(parts.max(initial=0)) + 1, int(wide.max(initial=0)) + 1), np.int64)
    rows, columns = parts.shape
    for down in (-1, 0, 1):
        for right in (-1, 0, 1):
            here = np.s_[
                max(0, down) : rows + min(0, down), max(0, right) : columns + min(0, right)
            ]
            there = np.s_[
                max(0, -down) : rows + min(0, -down), max(0, -right) : columns + min(0, -right)
            ]
            touch = (parts[here] > 0) & (wide[there] > 0) & (outside[here] == kinds[there])
            np.add.at(votes, (parts[here][touch], wide[there][touch]), 1)
    owners: Numbers = votes.argmax(axis=1).astype(np.int32)
    owners[votes.max(axis=1, initial=0) == 0] = 0
    return owners
