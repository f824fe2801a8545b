"""SAM's attention with decomposed relative positions, exactly, on fused kernels.

The attention weight of query (y, x) and key (y', x') is softmax(s q.k + q.Rh[y-y'] + q.Rw[x-x']).
The two last terms need no dense bias: with one-hot row and column indicators appended to k, and
the vectors q.Rh[y, :] and q.Rw[x, :] appended to s q, the plain dot product is that very sum.

On a CPU, SAM's whole ViT-B encoder takes 0.9 (float32) and 0.6 (bfloat16 with AMX) of the time of
the plain form, in half of its memory (benchmarks/model_forward.py): the default everywhere.
"""

from __future__ import annotations

from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

AttentionMode = Literal["fused", "reference"]

_KERNEL_MULTIPLE = 8
"""Fused kernels need head sizes that are multiples of this."""


def relative_table(size: int, table: Tensor) -> Tensor:
    """Return the (size, size, channels) position vectors of each query row for each key row.

    Parameters
    ----------
    size
        Rows (or columns) of the token grid.
    table
        (2 n - 1, channels), learned for a grid of n rows; resized linearly for another one, as in
        the published encoder.
    """
    length = 2 * size - 1
    if table.shape[0] != length:
        table = functional.interpolate(table.t()[None], size=length, mode="linear")[0].t()
    index = torch.arange(size, device=table.device)
    return table[index[:, None] - index[None, :] + size - 1]


def relative_bias(query: Tensor, rows: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
    """Return the bias of every query for each key row and each key column.

    Parameters
    ----------
    query
        (batch, heads, h, w, channels), *not* scaled.
    rows, columns
        Tables of `relative_table`: (h, h, channels) and (w, w, channels).

    Returns
    -------
    tuple of Tensor
        (batch, heads, h, w, h) and (batch, heads, h, w, w).
    """
    by_row = torch.einsum("bnhwc,hkc->bnhwk", query, rows)
    by_column = torch.einsum("bnhwc,wkc->bnhwk", query, columns)
    return by_row, by_column


def reference_attention(
    query: Tensor, key: Tensor, value: Tensor, rows: Tensor, columns: Tensor
) -> Tensor:
    """Attend with the bias written out: the plain definition, O(tokens^2) memory.

    Parameters
    ----------
    query, key, value
        (batch, heads, h, w, channels).
    rows, columns
        Tables of `relative_table`.

    Returns
    -------
    Tensor
        (batch, heads, h w, channels).
    """
    height, width, channels = query.shape[2:]
    by_row, by_column = relative_bias(query, rows, columns)
    q, k, v = (part.flatten(2, 3) for part in (query, key, value))
    weight = (q * channels**-0.5) @ k.transpose(-2, -1)
    # In place: at SAM's size each copy of this matrix is nearly a gigabyte.
    by_place = weight.view(*query.shape[:4], height, width)
    by_place += by_row[..., :, None]
    by_place += by_column[..., None, :]
    return torch.matmul(weight.softmax(dim=-1), v)


def fused_attention(
    query: Tensor, key: Tensor, value: Tensor, rows: Tensor, columns: Tensor
) -> Tensor:
    """Attend through ``scaled_dot_product_attention``: same arguments, same result, O(tokens)."""
    height, width, channels = query.shape[2:]
    by_row, by_column = relative_bias(query, rows, columns)
    size = channels + height + width
    pad = -size % _KERNEL_MULTIPLE
    q = torch.cat([query * channels**-0.5, by_row, by_column], dim=-1).flatten(2, 3)
    indicators = _indicators(height, width, key).expand(*key.shape[:2], -1, -1)
    k = torch.cat([key.flatten(2, 3), indicators], dim=-1)
    q, k = functional.pad(q, (0, pad)), functional.pad(k, (0, pad))
    v = functional.pad(value.flatten(2, 3), (0, height + width + pad))
    out = functional.scaled_dot_product_attention(q, k, v, scale=1.0)
    return out[..., :channels]


def _indicators(height: int, width: int, like: Tensor) -> Tensor:
    row = torch.eye(height, dtype=like.dtype, device=like.device)
    column = torch.eye(width, dtype=like.dtype, device=like.device)
    return torch.cat([row.repeat_interleave(width, dim=0), column.repeat(height, 1)], dim=-1)


class RelPosAttention(nn.Module):
    """Multi-head self-attention of SAM's image encoder, with the parameter names of its checkpoint.

    Parameters
    ----------
    dim
        Channels of the tokens.
    num_heads
        Attention heads.
    size
        Rows and columns of the token grid that the position tables are made for.
    """

    def __init__(self, dim: int, num_heads: int, size: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.mode: AttentionMode = "fused"
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.rel_pos_h = nn.Parameter(torch.zeros(2 * size - 1, dim // num_heads))
        self.rel_pos_w = nn.Parameter(torch.zeros(2 * size - 1, dim // num_heads))

    def forward(self, tokens: Tensor) -> Tensor:
        """Attend over (batch, h, w, dim) tokens; same shape out."""
        batch, height, width, dim = tokens.shape
        qkv = self.qkv(tokens).view(batch, height, width, 3, self.num_heads, -1)
        query, key, value = qkv.permute(3, 0, 4, 1, 2, 5).unbind(0)
        rows = relative_table(height, self.rel_pos_h).to(query.dtype)
        columns = relative_table(width, self.rel_pos_w).to(query.dtype)
        attend = fused_attention if self.mode == "fused" else reference_attention
        out = attend(query, key, value, rows, columns)
        out = out.transpose(1, 2).reshape(batch, height, width, dim)
        return cast(Tensor, self.proj(out))


def set_attention(module: nn.Module, mode: AttentionMode) -> None:
    """Switch every `RelPosAttention` inside `module` to the other form, which gives the same."""
    for part in module.modules():
        if isinstance(part, RelPosAttention):
            part.mode = mode
