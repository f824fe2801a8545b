"""SAM itself: image, points and boxes to masks, with the parameter names of the published files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from wsi_sampath.models.network import Embedding, Prompts
from wsi_sampath.models.parts.encoders import SamEncoder, resized
from wsi_sampath.models.parts.norms import with_safe_norms
from wsi_sampath.models.parts.sam_parts import MaskDecoder, PromptEncoder, TwoWayTransformer
from wsi_sampath.models.parts.specs import DecoderSpec, SamSpec, TinyVitSpec
from wsi_sampath.models.parts.tiny_vit import TinyVit

_MASK_CHANNELS = 16
_PUBLISHED = DecoderSpec()


class Sam(nn.Module):
    """SAM with our image encoder (fused attention) and the published prompt encoder and decoder.

    Parameters
    ----------
    spec
        Sizes of the image encoder: SAM's own, or MobileSAM's.
    tile
        Side of the square frame, px, in which prompts are given.
    decoder
        Sizes of what answers prompts; the encoder's neck has its `dim` channels.
    """

    def __init__(
        self,
        spec: SamSpec | TinyVitSpec,
        tile: int = 1024,
        decoder: DecoderSpec = _PUBLISHED,
    ) -> None:
        super().__init__()
        grid = tile // spec.patch
        self.tile = tile
        self.image_encoder = _image_encoder(spec, tile, decoder.dim)
        self.prompt_encoder = PromptEncoder(decoder.dim, (grid, grid), (tile, tile), _MASK_CHANNELS)
        self.mask_decoder = MaskDecoder(
            transformer_dim=decoder.dim,
            transformer=TwoWayTransformer(
                depth=decoder.depth,
                embedding_dim=decoder.dim,
                num_heads=decoder.num_heads,
                mlp_dim=decoder.mlp_dim,
            ),
        )
        with_safe_norms(self)

    def embed(self, views: Sequence[Tensor]) -> Embedding:
        """Return the features of the one view, (1, 3, tile, tile), as (1, dim, grid, grid)."""
        (image,) = views
        return (self.image_encoder(image),)

    def masks(
        self, embedding: Embedding, prompts: Prompts, *, multimask: bool = True
    ) -> tuple[Tensor, Tensor]:
        """Segment what the prompts point at in one image.

        Parameters
        ----------
        embedding
            From `embed`.
        prompts
            In px of the frame.
        multimask
            Three candidates a prompt instead of one.

        Returns
        -------
        tuple of Tensor
            Logits (prompts, 3 or 1, 4 grid, 4 grid) and the predicted IoU (prompts, 3 or 1).
        """
        (features,) = embedding
        # As in `SamPath.decode`: little work, and the first to suffer from half precision.
        with torch.autocast(features.device.type, enabled=False):
            sparse, dense = self.encoded(prompts)
            answer = self.mask_decoder(
                image_embeddings=features.to(dense.dtype),
                image_pe=self.prompt_encoder.get_dense_pe(),
                sparse_prompt_embeddings=sparse,
                dense_prompt_embeddings=dense,
                multimask_output=multimask,
            )
        return cast(tuple[Tensor, Tensor], answer)

    def encoded(self, prompts: Prompts) -> tuple[Tensor, Tensor]:
        """Return p prompts as tokens (p, n, dim), and as an image (p, dim, grid, grid)."""
        points = None if prompts.points is None else (prompts.points, prompts.labels)
        answer = self.prompt_encoder(points, prompts.boxes, prompts.masks)
        return cast(tuple[Tensor, Tensor], answer)

    def at_image_size(
        self, logits: Tensor, used: tuple[int, int], original: tuple[int, int]
    ) -> Tensor:
        """Return logits enlarged to the frame, cut to the part in use, resized to the image.

        Parameters
        ----------
        logits
            (prompts, n, 4 grid, 4 grid).
        used
            Height and width, px, of the image inside the frame.
        original
            Height and width of the image itself.
        """
        frame = resized(logits, self.tile)[..., : used[0], : used[1]]
        return nn.functional.interpolate(frame, size=original, mode="bilinear", align_corners=False)


def _image_encoder(spec: SamSpec | TinyVitSpec, tile: int, channels: int) -> SamEncoder | TinyVit:
    if isinstance(spec, TinyVitSpec):
        return TinyVit(spec, channels)
    return SamEncoder(spec, tile, neck_channels=channels)
