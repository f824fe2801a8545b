"""Networks to compare SAM-Path with: a plain U-Net, and SAM-Path without its class prompts."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn

from pipelines.unet import PlainUNet
from wsi_sampath.models.sam_path.network import SamPath, SegmentationOutput
from wsi_sampath.models.sam_path.spec import SamPathSpec


class ClassUNet(nn.Module):
    """A `PlainUNet` that answers as SAM-Path does, whatever tile its specification says.

    Parameters
    ----------
    spec
        Gives the classes and the normalisation; its encoders and decoder are not used.
    width
        Of the first level.
    """

    def __init__(self, spec: SamPathSpec, width: int) -> None:
        super().__init__()
        self.spec = spec
        self.body = PlainUNet(spec, width, spec.num_channels)

    def forward(self, images: Tensor) -> SegmentationOutput:
        """Segment a batch: logits at the images' size, and no estimate of the IoU (zeros)."""
        logits = self.body(images)
        return SegmentationOutput(logits, logits.new_zeros(logits.shape[:2]))

    def preprocess(self, tiles: Tensor) -> Tensor:
        """See `PlainUNet.preprocess`."""
        return self.body.preprocess(tiles)


class PlainHead(nn.Module):
    """SAM's upscaling and one convolution, in the place of the decoder with its class prompts."""

    def __init__(self, upscaling: nn.Module, channels: int, num_channels: int) -> None:
        super().__init__()
        self.upscaling = upscaling
        self.classify = nn.Conv2d(channels, num_channels, 1)

    def forward(self, embedding: Tensor, positions: Tensor) -> SegmentationOutput:
        """Return logits at four times the grid of `embedding`; `positions` change nothing."""
        logits = cast(Tensor, self.classify(self.upscaling(embedding)))
        return SegmentationOutput(logits, logits.new_zeros(logits.shape[:2]))


def without_class_prompts(spec: SamPathSpec) -> SamPath:
    """Return SAM-Path with a `PlainHead`, weights random."""
    model = SamPath(spec)
    upscaling = model.decoder.output_upscaling
    head = PlainHead(upscaling, spec.decoder.dim // 8, spec.num_channels)
    model.decoder = head  # type: ignore[assignment]
    return model


def parameters(model: nn.Module) -> int:
    """Return the number of trained weights."""
    return sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
