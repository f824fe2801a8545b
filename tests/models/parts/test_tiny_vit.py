"""TinyViT by itself; the parity tests hold it to the official numbers."""

import pytest
import torch
from torch.nn import functional

from wsi_sampath.models.parts.specs import TinyVitSpec
from wsi_sampath.models.parts.tiny_vit import TinyVit, WindowAttention

SPEC = TinyVitSpec(
    widths=(8, 8, 12, 16), depths=(1, 1, 2, 1), num_heads=(2, 3, 2), windows=(3, 5, 3)
)


def with_biases(seed):
    torch.manual_seed(seed)
    encoder = TinyVit(SPEC, 16).eval()
    for name, weight in encoder.named_parameters():
        if name.endswith("attention_biases"):
            torch.nn.init.normal_(weight)
    return encoder


@torch.no_grad()
def test_nothing_is_left_of_the_weights_before():
    image = torch.randn(1, 3, 64, 64)
    one, other = with_biases(0), with_biases(1)
    before = one(image)
    one.load_state_dict(other.state_dict())
    assert torch.equal(one(image), other(image))
    assert not torch.allclose(one(image), before)


@pytest.mark.parametrize("side", [32, 80, 128])
@torch.no_grad()
def test_any_grid(side):
    features, early = with_biases(0).forward_with_early(torch.randn(2, 3, side, side))
    assert features.shape == (2, 16, side // 16, side // 16)
    assert early.shape == (2, 12, side // 16, side // 16)


@torch.no_grad()
def test_attention_as_it_is_written_down():
    torch.manual_seed(0)
    attention = WindowAttention(6, heads=2, window=3)
    torch.nn.init.normal_(attention.attention_biases)
    tokens = torch.randn(4, 9, 6)
    heads = []
    all_parts = attention.qkv(attention.norm(tokens)).view(4, 9, 2, 9)
    for head in range(2):
        query, key, value = all_parts[:, :, head].split(3, dim=2)
        bias = torch.empty(9, 9)
        for i in range(9):
            for j in range(9):
                apart = abs(i // 3 - j // 3) * 3 + abs(i % 3 - j % 3)
                bias[i, j] = attention.attention_biases[head, apart]
        weight = functional.softmax(query @ key.transpose(1, 2) / 3**0.5 + bias, dim=2)
        heads.append(weight @ value)
    torch.testing.assert_close(attention(tokens), attention.proj(torch.cat(heads, dim=2)))
