"""Forms of SAM's attention with relative positions that are timed beside the package's own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from unittest import mock

import torch
from torch import Tensor, nn
from torch.nn import functional

from wsi_sampath.models.parts import attention


def mask_attention(
    query: Tensor, key: Tensor, value: Tensor, rows: Tensor, columns: Tensor
) -> Tensor:
    """Attend with the bias as an additive mask of the fused kernel."""
    height, width = query.shape[2:4]
    by_row, by_column = attention.relative_bias(query, rows, columns)
    bias = (by_row[..., :, None] + by_column[..., None, :]).reshape(
        *query.shape[:2], height * width, height * width
    )
    q, k, v = (part.flatten(2, 3) for part in (query, key, value))
    return functional.scaled_dot_product_attention(q, k, v, attn_mask=bias)


def flex_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    rows: Tensor,
    columns: Tensor,
    *,
    attend: Callable[..., Tensor],
) -> Tensor:
    """Attend with the bias as FlexAttention's change of the score; `attend` is it, compiled."""
    width = query.shape[3]
    by_row, by_column = (
        bias.flatten(2, 3) for bias in attention.relative_bias(query, rows, columns)
    )

    def biased(score: Tensor, batch: Tensor, head: Tensor, q: Tensor, k: Tensor) -> Tensor:
        return score + by_row[batch, head, q, k // width] + by_column[batch, head, q, k % width]

    q, k, v = (part.flatten(2, 3) for part in (query, key, value))
    return attend(q, k, v, score_mod=biased)


def _compiled_flex(backend: str) -> Callable[..., Tensor]:
    from torch.nn.attention.flex_attention import flex_attention as flex

    return partial(flex_attention, attend=torch.compile(flex, dynamic=False, backend=backend))


@contextmanager
def attending(module: nn.Module, form: str, backend: str) -> Iterator[None]:
    """Let all of SAM's attention inside `module` take one form."""
    others = {"mask": lambda: mask_attention, "flex": lambda: _compiled_flex(backend)}
    attention.set_attention(module, "fused" if form == "fused" else "reference")
    if form not in others:
        yield
        return
    with mock.patch.object(attention, "reference_attention", others[form]()):
        yield
