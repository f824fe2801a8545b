"""The paper's baselines without training: SAM as published, prompted from the truth."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from wsi_sampath.data.patches import Patch, PatchSet
from wsi_sampath.errors import UsageError
from wsi_sampath.evaluation.metrics import Counts, confusion
from wsi_sampath.models.network import Embedding, Prompts
from wsi_sampath.models.parts.frame import image_in_frame, points_in_frame, size_in_frame
from wsi_sampath.models.sam import Sam
from wsi_sampath.models.spec import IMAGENET_MEAN, IMAGENET_STD

WITHOUT_POST_PROCESSING, WITH_POST_PROCESSING = 1.0, 0.5
"""Largest share of the image that a mask may cover: the two rows of the paper."""
REST = ("background", "other")
_DOTS_AT_ONCE = 16


@dataclass(frozen=True)
class Dot:
    """A pixel, column `x` and row `y`, inside a component of class `label`."""

    x: int
    y: int
    label: int


@dataclass(frozen=True)
class Proposal:
    """What SAM answers to one dot: a mask, bool (height, width), the IoU it expects, a class."""

    mask: NDArray[np.bool_]
    score: float
    label: int


def evaluate_vanilla(
    sam: Sam,
    patches: PatchSet,
    chosen: Sequence[Patch],
    *,
    largest: Sequence[float] = (WITHOUT_POST_PROCESSING, WITH_POST_PROCESSING),
    least_px: int = 1,
) -> Iterator[tuple[Counts, ...]]:
    """Score SAM, prompted with one dot for every component of the truth.

    Touching objects of one class share a dot, since labels do not separate them. Every class but
    ``background`` or ``other`` gets dots; pixels without a mask are that class, or count as not
    found where it does not exist.

    Parameters
    ----------
    sam
        From `load_sam`, on the device to use.
    patches, chosen
        Labelled patches and those of them to score, such as ``patches.split("test")``.
    largest
        Masks that cover a larger share of the image are dropped; SAM is scored once per value.
    least_px
        Components with fewer pixels get no dot.

    Yields
    ------
    tuple of ndarray
        Per patch one `confusion` matrix (k, k + 1) for each of `largest`.

    Raises
    ------
    UsageError
        If no class is left to prompt.
    WsiError
        ``bad-input`` for a patch that cannot be read.

    Notes
    -----
    The paper gives neither the place of its dots nor the choice among SAM's three masks. Here a dot
    lies as deep inside its component as possible, and of the masks the highest expected IoU wins.

    Examples
    --------
    >>> found = open_patches("crag")                                    # doctest: +SKIP
    >>> test = found.split("test")                                      # doctest: +SKIP
    >>> sam = load_sam("sam_vit_b_01ec64.pth").to("cuda")               # doctest: +SKIP
    >>> plain, cleaned = zip(*evaluate_vanilla(sam, found, test))       # doctest: +SKIP
    """
    names = [spec.name.casefold() for spec in patches.classes]
    rest = next((names.index(name) + 1 for name in REST if name in names), 0)
    prompted = [label for label in range(1, len(names) + 1) if label != rest]
    if not prompted:
        raise UsageError("has no class but the rest to ask SAM for", subject=str(patches.root))
    for patch in chosen:
        image, truth = patches.read(patch)
        dots = component_dots(truth, prompted, least_px=least_px)
        found = assemble(truth.shape, propose(sam, image, dots), rest=rest, largest=largest)
        yield tuple(confusion(truth, labels, len(names)) for labels in found)


def component_dots(
    truth: NDArray[np.integer], prompted: Sequence[int], *, least_px: int = 1
) -> list[Dot]:
    """Put one dot into every component (4-connected pixels of one class).

    Parameters
    ----------
    truth
        Labels (height, width).
    prompted
        The labels that get dots, in this order.
    least_px
        Smaller components get no dot.

    Returns
    -------
    list of Dot
        At the pixel farthest from the component's outside (and the image's edge); of several, the
        one nearest to the component's centre of mass.
    """
    return [
        Dot(*_deepest(part), label)
        for label in prompted
        for part in _components(truth == label)
        if part.inside.sum() >= least_px
    ]


@dataclass(frozen=True)
class _Component:
    """A component cut out: `inside`, bool (height, width), from row `top` and column `left`."""

    inside: NDArray[np.bool_]
    top: int
    left: int


def _components(mask: NDArray[np.bool_]) -> Iterator[_Component]:
    numbered, _ = ndimage.label(mask)
    for number, (rows, columns) in enumerate(ndimage.find_objects(numbered), start=1):
        yield _Component(numbered[rows, columns] == number, rows.start, columns.start)


def _deepest(part: _Component) -> tuple[int, int]:
    """Return x and y of the deepest pixel."""
    depth = ndimage.distance_transform_edt(np.pad(part.inside, 1))[1:-1, 1:-1]
    ys, xs = np.nonzero(np.isclose(depth, depth.max()))
    own_ys, own_xs = np.nonzero(part.inside)
    nearest = np.argmin((ys - own_ys.mean()) ** 2 + (xs - own_xs.mean()) ** 2)
    return int(xs[nearest]) + part.left, int(ys[nearest]) + part.top


def propose(sam: Sam, image: NDArray[np.uint8], dots: Sequence[Dot]) -> Iterator[Proposal]:
    """Ask SAM for a mask around every dot.

    Parameters
    ----------
    sam
        The network.
    image
        uint8 (height, width, 3), brought into SAM's frame as its authors do: the longer side
        fills it, the rest is empty.
    dots
        Dots to prompt with.

    Yields
    ------
    Proposal
        One per dot, in their order, of the image's size: of SAM's three masks the one with the
        highest expected IoU, where its logits are above 0.
    """
    if not dots:
        return
    size = (image.shape[0], image.shape[1])
    with torch.inference_mode():
        embedding = sam.embed([_framed(sam, image)])
    for start in range(0, len(dots), _DOTS_AT_ONCE):
        some = dots[start : start + _DOTS_AT_ONCE]
        masks, scores = _best_masks(sam, embedding, some, size)
        for dot, mask, score in zip(some, masks, scores, strict=True):
            yield Proposal(mask, score, dot.label)


def _framed(sam: Sam, image: NDArray[np.uint8]) -> Tensor:
    """Return (1, 3, tile, tile), normalised, zero where the frame is empty."""
    pixels = torch.from_numpy(image_in_frame(image, sam.tile).copy()).permute(2, 0, 1) / 255
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
    frame = torch.zeros(1, 3, sam.tile, sam.tile)
    frame[0, :, : pixels.shape[1], : pixels.shape[2]] = (pixels - mean) / std
    return frame.to(_device(sam))


@torch.inference_mode()
def _best_masks(
    sam: Sam, embedding: Embedding, dots: Sequence[Dot], size: tuple[int, int]
) -> tuple[NDArray[np.bool_], list[float]]:
    # The centre of a pixel stays a centre: SAM adds the half again.
    centres = np.array([[(dot.x + 0.5, dot.y + 0.5)] for dot in dots])
    points = torch.from_numpy(points_in_frame(centres, size, sam.tile) - 0.5).float()
    inside = torch.ones(points.shape[:2], dtype=torch.int)
    device = _device(sam)
    logits, scores = sam.masks(embedding, Prompts(points.to(device), inside.to(device)))
    best = scores.argmax(dim=1)
    rows = torch.arange(len(best), device=device)
    used = size_in_frame(size, sam.tile)
    chosen = sam.at_image_size(logits[rows, best][:, None], used, size)[:, 0] > 0
    return chosen.cpu().numpy(), scores[rows, best].tolist()


def _device(sam: Sam) -> torch.device:
    return next(sam.parameters()).device


def assemble(
    shape: tuple[int, ...],
    proposals: Iterable[Proposal],
    *,
    rest: int = 0,
    largest: Sequence[float] = (WITHOUT_POST_PROCESSING,),
) -> list[NDArray[np.uint8]]:
    """Combine masks into labels; where masks overlap, the highest expected IoU decides.

    Parameters
    ----------
    shape
        Height and width.
    proposals
        Consumed one at a time, so that many large masks need no memory.
    rest
        Label of pixels without a mask.
    largest
        Masks that cover a larger share of the image are dropped: the paper's post-processing.

    Returns
    -------
    list of uint8 (height, width)
        Labels, one for each of `largest`.
    """
    labels = [np.full(shape, rest, np.uint8) for _ in largest]
    scores = [np.full(shape, -np.inf) for _ in largest]
    for proposal in proposals:
        share = proposal.mask.mean()
        for limit, label, score in zip(largest, labels, scores, strict=True):
            if share <= limit:
                wins = proposal.mask & (proposal.score > score)
                label[wins], score[wins] = proposal.label, proposal.score
    return labels
