"""Encoders of timm on the model's grid: fitted to the tile, or refused, before a weight is made.

Many of timm's networks take images of one size alone, or need to be told the size when they are
made. Each is tried on torch's meta device, where shapes are worked out and nothing is computed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, cast

import torch
from torch import Tensor, nn

from wsi_sampath.errors import WsiError
from wsi_sampath.models.parts.specs import TIMM_PREFIX, nearest_multiple
from wsi_sampath.models.parts.torchvision_shim import ensure_torchvision_imports
from wsi_sampath.models.sketch import bounded
from wsi_sampath.settings import did_you_mean

_FAILURES = (
    AssertionError,
    RuntimeError,
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    AttributeError,
    ImportError,
)
"""What timm's networks raise for options and image sizes that they do not take."""
_SHOWN = 120


@dataclass(frozen=True)
class TimmChoice:
    """One of timm's networks, as it is to be made.

    Attributes
    ----------
    name
        What timm calls it.
    options
        Keyword arguments of ``timm.create_model``.
    patch
        Input px a feature.
    channels_last
        Whether it answers (batch, height, width, channels).
    """

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    patch: int = 16
    channels_last: bool = False

    def make(self) -> Any:
        """Return the network with random weights."""
        import timm

        return timm.create_model(self.name, **self.options)


class TimmVitEncoder(nn.Module):
    """Patch tokens after the final norm of any timm vision transformer."""

    def __init__(self, choice: TimmChoice) -> None:
        super().__init__()
        made = choice.make()
        self.vit = made
        self.prefix = int(made.num_prefix_tokens)
        self.patch = int(made.patch_embed.patch_size[0])
        self.out_channels = int(made.num_features)

    def forward(self, images: Tensor) -> Tensor:
        """Return (batch, out_channels, height / patch, width / patch)."""
        height, width = (side // self.patch for side in images.shape[-2:])
        tokens = self.vit.forward_features(images)[:, self.prefix :]
        return on_grid(tokens, height, width)


class TimmConvEncoder(nn.Module):
    """One stage of a timm model, the one with the wanted stride."""

    def __init__(self, choice: TimmChoice) -> None:
        super().__init__()
        made = choice.make()
        self.net = made
        self.patch = choice.patch
        self.channels_last = choice.channels_last
        self.out_channels = int(made.feature_info.channels()[-1])

    def forward(self, images: Tensor) -> Tensor:
        """Return (batch, out_channels, height / stride, width / stride)."""
        features = cast(Tensor, self.net(images)[-1])
        return features.permute(0, 3, 1, 2) if self.channels_last else features


TimmEncoder = TimmVitEncoder | TimmConvEncoder


def timm_encoder(
    name: str, *, stride: int, tile: int, options: Mapping[str, object]
) -> TimmEncoder:
    """Return an encoder for images of `tile` px, with random weights.

    Parameters
    ----------
    name
        What timm calls it.
    stride
        Input px a feature; vision transformers have that of their patches.
    tile
        Side of the model's input, px.
    options
        For ``timm.create_model``.

    Raises
    ------
    WsiError
        ``bad-model`` if timm knows no such model, or it takes neither such images nor options.
    """
    # timm takes a second to import, which SAM alone need not wait for.
    ensure_torchvision_imports()
    import timm

    if not timm.is_model(name):
        hint = did_you_mean(name, timm.list_models()) or "; see timm.list_models()"
        raise WsiError("bad-model", f"timm knows no model '{name}'{hint}")
    given = tuple(sorted(options.items()))
    if timm.models.model_entrypoint(name).__module__.endswith("vision_transformer"):
        return TimmVitEncoder(_fitting_vit(name, tile, given))
    return TimmConvEncoder(_fitting_stage(name, stride, tile, given))


Items = tuple[tuple[str, object], ...]


@lru_cache(maxsize=16)
def _fitting_vit(name: str, tile: int, options: Items) -> TimmChoice:
    choice = TimmChoice(name, {"num_classes": 0, "dynamic_img_size": True, **dict(options)})
    try:
        with bounded():
            encoder = TimmVitEncoder(choice)
            _check_answer(encoder, nearest_multiple(tile, encoder.patch))
    except _FAILURES as error:
        raise _unfit(name, tile, error) from error
    return choice


@lru_cache(maxsize=16)
def _fitting_stage(name: str, stride: int, tile: int, options: Items) -> TimmChoice:
    """Choose the stage, and say the size of the image where the network has to know it."""
    side = nearest_multiple(tile, stride)
    given = dict(options)
    sized = [] if "img_size" in given else [{"img_size": side}]
    failure: Exception | None = None
    for extra in ({}, *sized):
        try:
            with bounded():
                choice = _stage(name, stride, {**given, **extra})
                _check_answer(TimmConvEncoder(choice), side)
        except _FAILURES as error:
            # A network without the option was made and asked before, and that told more.
            failure = failure or error
        else:
            return choice
    raise _unfit(name, tile, failure) from failure


def _stage(name: str, stride: int, options: dict[str, Any]) -> TimmChoice:
    whole = TimmChoice(name, {"features_only": True, **options}).make()
    strides = whole.feature_info.reduction()
    if stride not in strides:
        known = ", ".join(map(str, sorted(set(strides))))
        message = f"{TIMM_PREFIX}{name} has features at strides {known}, not {stride}"
        raise WsiError("bad-model", message)
    # From the end, where timm lists no more than the last stages; of equal strides the deepest.
    index = -1 - strides[::-1].index(stride)
    chosen = {"features_only": True, "out_indices": (index,), **options}
    last = str(getattr(whole, "output_fmt", "NCHW")).endswith("NHWC")
    return TimmChoice(name, chosen, stride, last)


def _check_answer(encoder: TimmEncoder, side: int) -> None:
    """Let a network of the meta device answer to one image of the meta device."""
    with torch.no_grad():
        answer = encoder.eval()(torch.empty(1, 3, side, side, device="meta"))
    if answer.ndim != 4 or answer.shape[1] != encoder.out_channels:
        raise ValueError(f"its features are not a map but of shape {tuple(answer.shape)}")


def _unfit(name: str, tile: int, error: Exception | None) -> WsiError:
    said = " ".join(str(error).split())[:_SHOWN] or type(error).__name__
    return WsiError(
        "bad-model",
        f"{TIMM_PREFIX}{name} cannot be built for tiles of {tile} px ({said}); "
        "take another encoder, tile or options",
    )


def on_grid(tokens: Tensor, height: int, width: int) -> Tensor:
    """Return (batch, height width, channels) tokens as a map (batch, channels, height, width)."""
    batch, _, channels = tokens.shape
    return tokens.transpose(1, 2).reshape(batch, channels, height, width)
