"""WSI-SAM (PMLR 254:25-37): a frozen SAM that looks at two resolutions of one place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Self, cast

import torch
from torch import Tensor, nn

from wsi_sampath.models.network import Embedding, Prompts
from wsi_sampath.models.parts.colours import by_channel, normalised
from wsi_sampath.models.parts.encoders import resized
from wsi_sampath.models.parts.norms import ChannelNorm
from wsi_sampath.models.parts.sam_parts import MLP
from wsi_sampath.models.sam import Sam
from wsi_sampath.models.wsi_sam.low_view import in_low_view
from wsi_sampath.models.wsi_sam.spec import WsiSamSpec

_MLP_DEPTH = 3


class Look(NamedTuple):
    """What the frozen encoder says of images of one resolution.

    Attributes
    ----------
    features
        (n, dim, grid, grid), after the neck.
    early
        (n, early channels, grid, grid), of an early stage.
    """

    features: Tensor
    early: Tensor

    def of(self, index: int) -> Look:
        """Return what is said of one of the images."""
        return Look(*(part[index : index + 1] for part in self))


class Resolution(nn.Module):
    """What is learned of one resolution, under the published names: all else is SAM's.

    A token that SAM's decoder carries along, a network that turns the answer into weights, and
    convolutions that bring features of three stages to one size and add them up.

    Parameters
    ----------
    dim
        Channels of SAM's decoder.
    early_channels
        Of the early features.
    """

    def __init__(self, dim: int, early_channels: int) -> None:
        super().__init__()
        middle, narrow = dim // 4, dim // 8
        self.hf_token = nn.Embedding(1, dim)
        self.hf_mlp = MLP(dim, dim, narrow, _MLP_DEPTH)
        self.compress_vit_feat = _enlarging(early_channels, dim, narrow)
        self.embedding_encoder = _enlarging(dim, middle, narrow)
        self.embedding_maskfeature = nn.Sequential(
            nn.Conv2d(narrow, middle, 3, padding=1),
            ChannelNorm(middle),
            nn.GELU(),
            nn.Conv2d(middle, narrow, 3, padding=1),
        )

    def fused(self, look: Look) -> Tensor:
        """Return what no prompt changes of the mask features, (n, dim / 8, 4 grid, 4 grid)."""
        with torch.autocast(look.features.device.type, enabled=False):
            dtype = self.hf_token.weight.dtype
            late = self.embedding_encoder(look.features.to(dtype))
            return cast(Tensor, late + self.compress_vit_feat(look.early.to(dtype)))

    def mask_features(self, upscaled: Tensor, fused: Tensor) -> Tensor:
        """Add what SAM's decoder makes of p prompts to `fused`, (p, dim / 8, 4 grid, 4 grid)."""
        return cast(Tensor, self.embedding_maskfeature(upscaled) + fused)


class _Decoded(NamedTuple):
    """Tokens (p, n, dim) and image (p, dim, grid, grid) after SAM's decoder, and our weights."""

    tokens: Tensor
    image: Tensor
    weights: Tensor


class WsiSam(nn.Module):
    """A SAM that stays as it is, in training as well, and what is learned of two resolutions.

    Its answers are SAM's mask of the high resolution plus a correction: features of the high
    resolution weighted by what both resolutions say of the prompt.

    Parameters
    ----------
    spec
        What to build.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, spec: WsiSamSpec) -> None:
        super().__init__()
        self.spec = spec
        self.sam = Sam(spec.sam, spec.tile, spec.prompts)
        self.sam.requires_grad_(False)
        self.high = Resolution(spec.prompts.dim, spec.sam.early_channels)
        self.low = Resolution(spec.prompts.dim, spec.sam.early_channels)
        self.register_buffer("mean", by_channel(spec.mean), persistent=False)
        self.register_buffer("std", by_channel(spec.std), persistent=False)

    def train(self, mode: bool = True) -> Self:
        """Set the mode of what is learned; SAM stays in evaluation mode."""
        super().train(mode)
        self.sam.eval()
        return self

    def preprocess(self, tiles: Tensor) -> Tensor:
        """Return uint8 RGB tiles (batch, height, width, 3) normalised, (batch, 3, height, width).

        Runs wherever the tiles are, which must be where the model is.
        """
        return normalised(tiles, self.mean, self.std)

    def look(self, views: Sequence[Tensor]) -> tuple[Look, Look]:
        """Encode places at the high and the low resolution, all in one batch.

        Nothing that is learned comes before the answer, so that it may be computed once and kept.

        Parameters
        ----------
        views
            High and low: (n, 3, tile, tile) each, from `preprocess`, around the same n centres.
        """
        high, low = (resized(view, self.spec.frame) for view in views)
        features, early = self.sam.image_encoder.forward_with_early(torch.cat([high, low]))
        count = len(high)
        return Look(features[:count], early[:count]), Look(features[count:], early[count:])

    def embed(self, views: Sequence[Tensor]) -> Embedding:
        """See `PromptNetwork`; the views are of the high and the low resolution.

        What fuses the features of the low resolution is skipped: no answer needs it.

        Returns
        -------
        tuple of Tensor
            Features of both resolutions (1, dim, grid, grid), and those of the masks
            (1, dim / 8, 4 grid, 4 grid).
        """
        high, low = self.look(views)
        parts = (high.features, low.features, self.high.fused(high))
        # None of them keeps the memory of another.
        return tuple(part.clone(memory_format=torch.contiguous_format) for part in parts)

    def masks(
        self, embedding: Embedding, prompts: Prompts, *, multimask: bool = True
    ) -> tuple[Tensor, Tensor]:
        """Return one mask for every prompt.

        Parameters
        ----------
        embedding
            From `embed`.
        prompts
            In px of the high resolution; `in_low` makes those of the low one.
        multimask
            Correct the likeliest of SAM's three masks instead of its single one.

        Returns
        -------
        tuple of Tensor
            Logits (p, 1, 4 grid, 4 grid), and the IoU (p, 1) that SAM predicts for the mask
            that is corrected.
        """
        high, low, fused = embedding
        with torch.autocast(high.device.type, enabled=False):
            near = self._decoded(self.high, high, prompts)
            far = self._decoded(self.low, low, self.in_low(prompts))
            upscaled = self.sam.mask_decoder.output_upscaling(near.image)
            features = self.high.mask_features(upscaled, fused.to(upscaled.dtype))
            correction = _weighted(self._joined(near, far), features)
            mask, quality = self._sam_mask(near, upscaled, multimask=multimask)
            return mask + correction, quality

    def paired_logits(
        self, looks: tuple[Look, Look], high: Prompts, low: Prompts
    ) -> tuple[Tensor, Tensor]:
        """Return what is trained: masks of both resolutions, without SAM's.

        Parameters
        ----------
        looks
            From `look`, of one place.
        high, low
            The same p prompts in px of either frame; `in_low` makes the latter.

        Returns
        -------
        tuple of Tensor
            Logits of the high and the low resolution, (p, 1, 4 grid, 4 grid).
        """
        parts = (self.high, self.low)
        with torch.autocast(looks[0].features.device.type, enabled=False):
            decoded = [
                self._decoded(part, look.features, prompts)
                for part, look, prompts in zip(parts, looks, (high, low), strict=True)
            ]
            weights = self._joined(*decoded)
            upscaled = [self.sam.mask_decoder.output_upscaling(one.image) for one in decoded]
            answers = [
                _weighted(weights, part.mask_features(one, part.fused(look)))
                for part, one, look in zip(parts, upscaled, looks, strict=True)
            ]
        return answers[0], answers[1]

    def in_low(self, prompts: Prompts) -> Prompts:
        """Return prompts of the high resolution in px of the low one's frame."""
        floored = self.spec.compat.floored_boxes
        return in_low_view(prompts, self.spec.frame, floored_boxes=floored)

    def _decoded(self, part: Resolution, features: Tensor, prompts: Prompts) -> _Decoded:
        """Run SAM's decoder on one image, with the token of one resolution beside its own."""
        decoder = self.sam.mask_decoder
        sparse, dense = self.sam.encoded(prompts)
        own = (decoder.iou_token, decoder.mask_tokens, part.hf_token)
        fixed = torch.cat([one.weight for one in own]).expand(len(sparse), -1, -1)
        image = features.to(dense.dtype) + dense
        positions = self.sam.prompt_encoder.get_dense_pe().expand_as(image)
        tokens, keys = decoder.transformer(image, positions, torch.cat([fixed, sparse], dim=1))
        weights = part.hf_mlp(tokens[:, fixed.shape[1] - 1])[:, None]
        return _Decoded(tokens, keys.transpose(1, 2).reshape(image.shape), weights)

    def _joined(self, near: _Decoded, far: _Decoded) -> Tensor:
        both = near.weights + far.weights
        return both / 2 if self.spec.aggregation == "mean" else both

    def _sam_mask(
        self, decoded: _Decoded, upscaled: Tensor, *, multimask: bool
    ) -> tuple[Tensor, Tensor]:
        """Return SAM's single mask, or the likeliest of its others, and its predicted IoU."""
        decoder = self.sam.mask_decoder
        quality = decoder.iou_prediction_head(decoded.tokens[:, 0])
        chosen = torch.zeros_like(quality[:, 0], dtype=torch.long)
        if multimask:
            chosen = 1 + quality[:, 1:].argmax(dim=1)
        mlps = decoder.output_hypernetworks_mlps
        weights = torch.stack([mlp(decoded.tokens[:, 1 + i]) for i, mlp in enumerate(mlps)], dim=1)
        prompt = torch.arange(len(chosen), device=chosen.device)
        best = weights[prompt, chosen][:, None]
        return _weighted(best, upscaled), quality[prompt, chosen][:, None]


def _weighted(weights: Tensor, features: Tensor) -> Tensor:
    """Return sums (p, n, h, w) of features (p, c, h, w), weighted by (p, n, c)."""
    return torch.einsum("pnc,pchw->pnhw", weights, features)


def _enlarging(channels: int, middle: int, out: int) -> nn.Sequential:
    return nn.Sequential(
        nn.ConvTranspose2d(channels, middle, 2, stride=2),
        ChannelNorm(middle),
        nn.GELU(),
        nn.ConvTranspose2d(middle, out, 2, stride=2),
    )
