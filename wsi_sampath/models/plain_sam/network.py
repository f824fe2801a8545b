"""SAM or MobileSAM, ready to look at tissue."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from wsi_sampath.models.network import Embedding
from wsi_sampath.models.parts.colours import by_channel, normalised
from wsi_sampath.models.parts.encoders import resized
from wsi_sampath.models.plain_sam.spec import PlainSamSpec
from wsi_sampath.models.sam import Sam


class PlainSam(Sam):
    """A SAM that knows its colours and its scale; the parameters have the published names.

    Parameters
    ----------
    spec
        What to build.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, spec: PlainSamSpec) -> None:
        super().__init__(spec.sam, spec.tile, spec.prompts)
        self.spec = spec
        self.register_buffer("mean", by_channel(spec.mean), persistent=False)
        self.register_buffer("std", by_channel(spec.std), persistent=False)

    def preprocess(self, tiles: Tensor) -> Tensor:
        """Return uint8 RGB tiles (batch, height, width, 3) normalised, (batch, 3, height, width).

        Runs wherever the tiles are, which must be where the model is.
        """
        return normalised(tiles, self.mean, self.std)

    def embed(self, views: Sequence[Tensor]) -> Embedding:
        """See `PromptNetwork`."""
        return super().embed([resized(view, self.tile) for view in views])
