"""What of a network's answer to one prompt is the object: the candidate, and its pieces."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from wsi_sampath.inference.prompting.settings import Pick

Flags = NDArray[np.bool_]
Places = NDArray[np.int64]


def ranked(logits: Tensor, quality: Tensor, pick: Pick) -> list[int]:
    """Return the candidates in the order in which they may be meant, the likeliest first.

    Parameters
    ----------
    logits
        (candidates, height, width), above 0 inside.
    quality
        (candidates,), predicted IoU.
    pick
        What comes first: the one that the network thinks best, or the one of most or of fewest
        pixels. Candidates without a pixel come last.
    """
    areas = (logits > 0).flatten(1).sum(dim=1)
    empty = areas == 0
    match pick:
        case "best":
            scores = quality.double().nan_to_num(nan=-torch.inf)
        case "largest":
            scores = areas.double()
        case "smallest":
            scores = -areas.double()
    scores = torch.where(empty, -torch.inf, scores)
    order: list[int] = scores.argsort(descending=True, stable=True).tolist()
    return order


def without_specks(
    mask: Flags, on: NDArray[np.int64], beside: NDArray[np.int64], share: float
) -> Flags:
    """Leave out small islands, and fill small holes; pointed-at ones stay.

    Parameters
    ----------
    mask
        bool (height, width).
    on, beside
        (n, 2), row before column: pixels on the object, and beside it. An island with one of the
        first stays, as does a hole with one of the second.
    share
        Islands and holes are small that have less than this share of the largest island.
    """
    if not mask.any():
        return mask
    islands, sizes = _pieces(mask)
    least = share * sizes.max()
    kept = sizes >= least
    kept[islands[tuple(on.T)]] = True
    kept[0] = False
    solid = kept[islands]
    gaps, sizes = _pieces(~solid)
    filled = sizes < least
    filled[gaps[tuple(beside.T)]] = False
    filled[_on_rim(gaps)] = False
    filled[0] = False
    result: Flags = solid | filled[gaps]
    return result


def _pieces(mask: Flags) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Return labels of the connected pieces, and the pixels of each; number 0 has none."""
    labels, _ = ndimage.label(mask)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    return labels, sizes


def _on_rim(labels: NDArray[np.int32]) -> NDArray[np.int32]:
    rim = (labels[0], labels[-1], labels[:, 0], labels[:, -1])
    return np.unique(np.concatenate(rim))
