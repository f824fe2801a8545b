"""SAM-Path: SAM and a pathology encoder side by side, one decoder pass for all classes."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, Self, cast

import torch
from torch import Tensor, nn

from wsi_sampath.models.parts.colours import by_channel, normalised
from wsi_sampath.models.parts.encoders import PathologyEncoder, SamEncoder, neck, resized
from wsi_sampath.models.parts.norms import with_safe_norms
from wsi_sampath.models.parts.sam_parts import MaskDecoder, PromptEncoder, TwoWayTransformer
from wsi_sampath.models.parts.specs import DecoderSpec
from wsi_sampath.models.parts.timm_encoders import on_grid
from wsi_sampath.models.sam_path.spec import SamPathSpec

_MASK_CHANNELS = 16
_IOU_DEPTH = 3


class SegmentationOutput(NamedTuple):
    """What a network says about a batch of tiles.

    Attributes
    ----------
    logits
        (batch, k + 1, tile / 4, tile / 4); channel 0 is the ignored class of training.
    iou
        (batch, k + 1), the network's own estimate of the IoU of each channel's mask.
    """

    logits: Tensor
    iou: Tensor


class ClassDecoder(MaskDecoder):  # type: ignore[misc]
    """SAM's mask decoder with one token a class and no prompts, batched over images.

    Token 0 is carried along for the published weights but yields no output.
    """

    def __init__(self, spec: DecoderSpec, num_channels: int) -> None:
        super().__init__(
            transformer_dim=spec.dim,
            transformer=TwoWayTransformer(
                depth=spec.depth,
                embedding_dim=spec.dim,
                num_heads=spec.num_heads,
                mlp_dim=spec.mlp_dim,
            ),
            num_multimask_outputs=num_channels,
            iou_head_depth=_IOU_DEPTH,
            iou_head_hidden_dim=spec.dim,
        )

    def forward(self, embedding: Tensor, positions: Tensor) -> SegmentationOutput:
        """Decode all classes of all images.

        Parameters
        ----------
        embedding
            (batch, dim, h, w), with the no-mask embedding already added.
        positions
            (1, dim, h, w), the positional encoding of the grid.

        Returns
        -------
        SegmentationOutput
            Logits at 4 h x 4 w.
        """
        batch, _, height, width = embedding.shape
        tokens = torch.cat([self.iou_token.weight, self.mask_tokens.weight])
        tokens = tokens.expand(batch, -1, -1)
        queries, keys = self.transformer(embedding, positions.expand(batch, -1, -1, -1), tokens)
        upscaled = self.output_upscaling(on_grid(keys, height, width))
        networks = self.output_hypernetworks_mlps[1:]
        hyper = torch.stack([net(queries[:, 2 + i]) for i, net in enumerate(networks)], dim=1)
        logits = torch.einsum("bkc,bchw->bkhw", hyper, upscaled)
        return SegmentationOutput(logits, self.iou_prediction_head(queries[:, 0])[:, 1:])


class SamPath(nn.Module):
    """SAM-Path and its two ablations, of any size.

    With both encoders their features are concatenated and fused by a neck; with one encoder alone
    the neck takes its features (SAM's own neck, if the model was imported).

    Parameters
    ----------
    spec
        What to build.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, spec: SamPathSpec) -> None:
        super().__init__()
        self.spec = spec
        self.sam_encoder = SamEncoder(spec.sam, spec.tile) if spec.sam else None
        self.pathology_encoder = PathologyEncoder(spec.pathology, spec) if spec.pathology else None
        self.neck = neck(sum(one.out_channels for one in self._encoders()), spec.decoder.dim)
        self.prompt_encoder = PromptEncoder(
            embed_dim=spec.decoder.dim,
            image_embedding_size=(spec.grid, spec.grid),
            input_image_size=(spec.tile, spec.tile),
            mask_in_chans=_MASK_CHANNELS,
        )
        self.decoder = ClassDecoder(spec.decoder, spec.num_channels)
        with_safe_norms(self)
        self.register_buffer("mean", by_channel(spec.mean), persistent=False)
        self.register_buffer("std", by_channel(spec.std), persistent=False)
        self._fixed: list[nn.Module] = []

    def forward(self, images: Tensor) -> SegmentationOutput:
        """Segment a batch.

        Parameters
        ----------
        images
            (batch, 3, height, width) float, normalised by `preprocess`; resized to the model's tile
            if they have another size.

        Returns
        -------
        SegmentationOutput
            Logits at a quarter of the tile, with the ignored channel first.
        """
        return self.forward_features(self.features(images))

    def features(self, images: Tensor) -> Tensor:
        """Return what the encoders say of images, (batch, channels, grid, grid).

        Nothing that `trainable("decoder")` leaves to training comes before them, so that they may
        be computed once and kept.
        """
        ready = resized(images, self.spec.tile)
        return torch.cat([encoder(ready) for encoder in self._encoders()], dim=1)

    def feature_sources(self) -> tuple[dict[str, Any], list[nn.Module]]:
        """Return all that decides `features`: a part of the specification, and the encoders."""
        names = {"sam", "pathology", "tile", "mean", "std"}
        return (
            self.spec.model_dump(mode="json", include=names, exclude_none=True),
            [*self._encoders()],
        )

    def forward_features(self, features: Tensor) -> SegmentationOutput:
        """Segment a batch whose `features` are known."""
        return self.decode(self.neck(features))

    def decode(self, embedding: Tensor) -> SegmentationOutput:
        """Run the decoder on the features that the neck fused, in the precision of its weights.

        In bfloat16 the decoder alone, a three-hundredth of the arithmetic, would change four times
        as many labels as both encoders together, and its position encoding would be wrong by whole
        turns.
        """
        no_mask = self.prompt_encoder.no_mask_embed.weight.view(1, -1, 1, 1)
        with torch.autocast(embedding.device.type, enabled=False):
            positions = self.prompt_encoder.get_dense_pe()
            features = embedding.to(no_mask.dtype) + no_mask
            return cast(SegmentationOutput, self.decoder(features, positions))

    def trainable(self, what: Literal["decoder", "all"]) -> None:
        """Choose, before training, what it may change; the rest stays in evaluation mode as well.

        Parameters
        ----------
        what
            "decoder" is the paper's choice: the neck and the decoder. Without a pathology encoder
            the neck is SAM's own and stays as it is, too.
        """
        # The network of the token without output: no gradient ever reaches it.
        self.decoder.output_hypernetworks_mlps[0].requires_grad_(False)
        if what == "all":
            return
        self._fixed = [*self._encoders(), self.prompt_encoder]
        if self.pathology_encoder is None:
            self._fixed.append(self.neck)
        for part in self._fixed:
            part.requires_grad_(False)

    def train(self, mode: bool = True) -> Self:
        """Set the mode of what trains."""
        super().train(mode)
        for part in self._fixed:
            part.eval()
        return self

    def preprocess(self, tiles: Tensor) -> Tensor:
        """Return uint8 RGB tiles (batch, height, width, 3) normalised, (batch, 3, height, width).

        Runs wherever the tiles are, which must be where the model is.
        """
        return normalised(tiles, self.mean, self.std)

    def maps(self, images: Tensor, side: int) -> Tensor:
        """Return the probabilities of the k classes, float32 (batch, k, side, side).

        They add up to 1. Logits, not probabilities, are interpolated, as the paper evaluates.
        """
        logits = self(images).logits
        with torch.autocast(logits.device.type, enabled=False):
            # Channels-last answers would cost the softmax and the blending several times their
            # price.
            logits = logits.float().contiguous()
            if side > logits.shape[-1]:
                logits = resized(logits, side)
            probabilities = self.class_probabilities(logits)
            if side < probabilities.shape[-1]:
                probabilities = nn.functional.adaptive_avg_pool2d(probabilities, side)
        return probabilities

    @staticmethod
    def labels(output: SegmentationOutput, side: int) -> Tensor:
        """Return the likeliest class of every pixel, 1..k, at `side` px: (batch, side, side)."""
        return resized(output.logits.float(), side)[:, 1:].argmax(dim=1) + 1

    @staticmethod
    def class_probabilities(logits: Tensor) -> Tensor:
        """Return (batch, k, h, w): softmax over the real classes, the ignored channel left out."""
        return logits[:, 1:].float().softmax(dim=1)

    def _encoders(self) -> list[SamEncoder | PathologyEncoder]:
        both = (self.sam_encoder, self.pathology_encoder)
        return [encoder for encoder in both if encoder is not None]
