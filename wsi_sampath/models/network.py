"""What a network is to the stages above it: two ways to be asked, and what is known of one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, Self, cast, runtime_checkable

import torch
from torch import Tensor

from wsi_sampath.models.spec import ModelSpec, refuse_mapless

Embedding = tuple[Tensor, ...]
"""What a network knows of an image before it is prompted: one tensor or more."""


class Network(Protocol):
    """A torch module that looks at tiles."""

    def preprocess(self, tiles: Tensor) -> Tensor:
        """Return uint8 RGB tiles (n, tile, tile, 3) normalised, float (n, 3, tile, tile)."""

    def to(self, device: str | torch.device) -> Self:
        """Move the weights, as every torch module does."""

    def eval(self) -> Self:
        """Leave training mode, as every torch module does."""

    def compile(self) -> None:
        """Compile the forward pass in place, as every torch module does."""


class TileNetwork(Network, Protocol):
    """A network that turns tiles into maps."""

    def maps(self, images: Tensor, side: int) -> Tensor:
        """Return m maps of every image, ready to be averaged where tiles overlap.

        Parameters
        ----------
        images
            From `preprocess`.
        side
            Height and width of the maps, px. The network resizes before or after its activation,
            whichever it was trained for.

        Returns
        -------
        float32 (n, m, side, side)
            In 0..1.
        """


@dataclass(frozen=True)
class Prompts:
    """Where to look in one image, for each of p objects, in px of the network's frame.

    Attributes
    ----------
    points, labels
        (p, n, 2), x before y, and (p, n): 1 inside the object, 0 outside of it.
    boxes
        (p, 4): x0, y0, x1, y1.
    masks
        (p, 1, 4 grid, 4 grid) logits of an earlier answer.
    """

    points: Tensor | None = None
    labels: Tensor | None = None
    boxes: Tensor | None = None
    masks: Tensor | None = None

    def __post_init__(self) -> None:
        if (self.points is None) != (self.labels is None):
            raise ValueError("points need labels, and labels points")

    def scaled(self, factor: float) -> Prompts:
        """Return the same prompts for the same image `factor` times larger; masks stay as they are.

        Examples
        --------
        >>> Prompts(boxes=torch.tensor([[1.0, 2.0, 3.0, 4.0]])).scaled(2).boxes
        tensor([[2., 4., 6., 8.]])
        """
        points = None if self.points is None else self.points * factor
        boxes = None if self.boxes is None else self.boxes * factor
        return replace(self, points=points, boxes=boxes)

    def to(self, device: torch.device) -> Prompts:
        """Return the same prompts on a device, as float32."""
        return Prompts(
            *(None if part is None else part.to(device, torch.float32) for part in self._parts)
        )

    def batches(self, size: int) -> Iterator[Prompts]:
        """Yield the same prompts, `size` objects at a time."""
        count = max(len(part) for part in self._parts if part is not None)
        for start in range(0, count, size):
            some = slice(start, start + size)
            yield Prompts(*(None if part is None else part[some] for part in self._parts))

    @property
    def _parts(self) -> tuple[Tensor | None, ...]:
        return self.points, self.labels, self.boxes, self.masks


@runtime_checkable
class PromptNetwork(Protocol):
    """A torch module that looks at an image once, and then answers any number of prompts."""

    def embed(self, views: Sequence[Tensor]) -> Embedding:
        """Look at one place: a float image (1, 3, tile, tile) for each of the spec's `views`.

        Images come from `Network.preprocess`; the network enlarges them to its frame.
        """

    def masks(
        self, embedding: Embedding, prompts: Prompts, *, multimask: bool = True
    ) -> tuple[Tensor, Tensor]:
        """Return c candidates for every prompt.

        Parameters
        ----------
        embedding
            From `embed`.
        prompts
            In px of the frame, of which the spec has the side.
        multimask
            Several candidates a prompt, where the network has them, instead of one.

        Returns
        -------
        tuple of Tensor
            Logits (p, c, 4 grid, 4 grid), above 0 inside the object, and the predicted IoU
            (p, c).
        """


@runtime_checkable
class NucleusDecoder(Protocol):
    """A `PromptNetwork` that also makes maps of all nuclei, of what it has embedded."""

    def nucleus_maps(self, embedding: Embedding, side: int) -> Tensor:
        """Return float32 (n, maps, side, side) in 0..1, as `TileNetwork.maps` does.

        The first three are foreground, distance to the centre and to the boundary; where there are
        several classes, one of no nucleus and one for each class follow.
        """


@dataclass(frozen=True)
class LoadedModel:
    """A model ready to run.

    Attributes
    ----------
    module
        The network, in evaluation mode, on its device.
    spec
        What it is.
    weights_sha256
        Of the checkpoint file; of the specification where the weights are random.
    source
        The bundled name, or the path, it was loaded from.
    warnings
        Sentences on the model that belong to each of its results.
    """

    module: Network
    spec: ModelSpec
    weights_sha256: str
    source: str
    warnings: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """What it is called to people: its name, and its file where it was loaded from one."""
        file, name = Path(self.source).name, self.spec.name
        is_named_by_file = not Path(file).suffix or Path(file).stem == name
        return file if is_named_by_file else f"{name} ({file})"

    @property
    def tile_network(self) -> TileNetwork:
        """The network, as one that makes maps.

        Raises
        ------
        UsageError
            Where it answers prompts only.
        """
        refuse_mapless(self.spec)
        return cast(TileNetwork, self.module)
