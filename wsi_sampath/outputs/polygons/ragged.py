"""Lists of different lengths kept as one flat array with offsets."""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import breadth_first_order, connected_components

from wsi_sampath.outputs.polygons.runs import Ints

END = -1


def offsets_of(sizes: Ints) -> Ints:
    """Return (n + 1,) offsets of n lists of the given sizes."""
    offsets = np.zeros(len(sizes) + 1, np.int64)
    np.cumsum(sizes, out=offsets[1:])
    return offsets


def positions_in(sizes: Ints) -> Ints:
    """Return 0, 1, .. size - 1 for each list, one list after the other."""
    offsets = offsets_of(sizes)
    return np.arange(offsets[-1]) - np.repeat(offsets[:-1], sizes)


def take_lists(offsets: Ints, chosen: Ints) -> Ints:
    """Return the flat indices of the chosen lists, in the order chosen."""
    sizes = np.diff(offsets)[chosen]
    return np.repeat(offsets[chosen], sizes) + positions_in(sizes)


def order_chains(following: Ints) -> tuple[Ints, Ints]:
    """Put linked elements in order.

    Parameters
    ----------
    following
        (n,) the element after each, or `END`. No element follows two others, so that the
        elements form open chains and cycles. A cycle is cut before its lowest element.

    Returns
    -------
    order, offsets
        (n,) the elements, chain after chain, and (chains + 1,) where each chain begins.
    """
    count = len(following)
    if count == 0:
        return np.zeros(0, np.int64), np.zeros(1, np.int64)
    linked = np.flatnonzero(following != END)
    chains, chain_of = connected_components(_graph(following), directed=True, connection="weak")
    preceding = np.full(count, END, np.int64)
    preceding[following[linked]] = linked
    heads = np.flatnonzero(preceding == END)
    leader = np.empty(chains, np.int64)
    leader[chain_of[::-1]] = np.arange(count)[::-1]
    leader[chain_of[heads]] = heads
    tail = np.empty(chains, np.int64)
    ends = np.flatnonzero(following == END)
    tail[chain_of[ends]] = ends
    closed = preceding[leader] != END
    tail[closed] = preceding[leader[closed]]
    # one path through all chains, so that a single compiled traversal orders everything
    path = following.copy()
    path[tail[:-1]] = leader[1:]
    path[tail[-1]] = END
    order = breadth_first_order(_graph(path), leader[0], return_predecessors=False)
    return order.astype(np.int64), offsets_of(np.bincount(chain_of, minlength=chains))


def _graph(following: Ints) -> csr_array:
    linked = following != END
    indptr = offsets_of(linked.astype(np.int64))
    data = np.ones(indptr[-1])
    count = len(following)
    return csr_array((data, following[linked], indptr), shape=(count, count))
