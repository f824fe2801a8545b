"""PathoSAM: SAM's encoder, and decoders that turn its features into maps of nuclei."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from wsi_sampath.models.network import Embedding, Prompts
from wsi_sampath.models.parts.colours import by_channel, normalised
from wsi_sampath.models.parts.encoders import resized
from wsi_sampath.models.parts.unetr import Unetr
from wsi_sampath.models.patho_sam.spec import PathoSamSpec
from wsi_sampath.models.sam import Sam

NUCLEUS_MAPS = ("foreground", "centre distance", "boundary distance")
"""What the first maps are: 1 inside of nuclei, and 0 at their centres and deep inside of them."""


class PathoSam(nn.Module):
    """A whole SAM, which answers prompts, and a decoder or two for all nuclei at once.

    Parameters
    ----------
    spec
        What to build.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, spec: PathoSamSpec) -> None:
        super().__init__()
        self.spec = spec
        self.sam = Sam(spec.sam, spec.frame, spec.prompts)
        self.decoder = _decoder(spec, len(NUCLEUS_MAPS))
        # One map more than classes: the first is for everything outside of nuclei.
        self.class_decoder = _decoder(spec, 1 + len(spec.classes)) if spec.class_decoder else None
        self.register_buffer("mean", by_channel(spec.mean), persistent=False)
        self.register_buffer("std", by_channel(spec.std), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits of all maps, (batch, maps, frame, frame).

        Parameters
        ----------
        images
            (batch, 3, height, width) float, normalised by `preprocess`; enlarged to the frame.
        """
        return self.decode(cast(Tensor, self.sam.image_encoder(resized(images, self.spec.frame))))

    def decode(self, embedding: Tensor) -> Tensor:
        """Return what the decoders say of the encoder's features, one after the other."""
        decoders = [one for one in (self.decoder, self.class_decoder) if one is not None]
        return torch.cat([decoder(embedding) for decoder in decoders], dim=1)

    def preprocess(self, tiles: Tensor) -> Tensor:
        """Return uint8 RGB tiles (batch, height, width, 3) normalised, (batch, 3, height, width).

        Runs wherever the tiles are, which must be where the model is.
        """
        if self.spec.compat.stretched_tiles:
            tiles = _stretched(tiles)
        return normalised(tiles, self.mean, self.std)

    def maps(self, images: Tensor, side: int) -> Tensor:
        """Return `NUCLEUS_MAPS` and those of the class decoder, float32 (batch, maps, side, side).

        Those of the classes begin with that of no nucleus. The sigmoid comes before the resizing,
        as the published programs have it.
        """
        return _answers(self(images), side)

    def embed(self, views: Sequence[Tensor]) -> Embedding:
        """See `PromptNetwork`."""
        return self.sam.embed([resized(view, self.spec.frame) for view in views])

    def masks(
        self, embedding: Embedding, prompts: Prompts, *, multimask: bool = True
    ) -> tuple[Tensor, Tensor]:
        """See `PromptNetwork`."""
        return self.sam.masks(embedding, prompts, multimask=multimask)

    def nucleus_maps(self, embedding: Embedding, side: int) -> Tensor:
        """See `NucleusDecoder`."""
        return _answers(self.decode(embedding[0]), side)


def _answers(logits: Tensor, side: int) -> Tensor:
    with torch.autocast(logits.device.type, enabled=False):
        return resized(logits.float().sigmoid(), side)


def _decoder(spec: PathoSamSpec, out_channels: int) -> Unetr:
    return Unetr(
        spec.decoder,
        spec.prompts.dim,
        out_channels,
        cropped_skips=spec.compat.cropped_skips,
        batch_statistics=spec.compat.batch_statistics,
    )


def _stretched(tiles: Tensor) -> Tensor:
    """Return uint8 tiles (batch, h, w, 3) as float32, each channel of each from 0 to 255."""
    tiles = tiles.float()
    lowest, highest = tiles.amin(dim=(1, 2), keepdim=True), tiles.amax(dim=(1, 2), keepdim=True)
    share = (tiles - lowest) / (highest - lowest).clamp(min=1)
    return (share * 255).floor()
