import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from wsi_sampath.models.parts.attention import (
    RelPosAttention,
    fused_attention,
    reference_attention,
    relative_table,
    set_attention,
)
from wsi_sampath.models.parts.torchvision_shim import ensure_torchvision_imports

ensure_torchvision_imports()

from segment_anything.modeling.image_encoder import Attention  # noqa: E402

sizes = st.integers(1, 9)


def inputs(seed, batch, heads, height, width, channels, dtype=torch.float64):
    rng = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=rng, dtype=torch.float64).to(dtype)

    tokens = [normal(batch, heads, height, width, channels) for _ in range(3)]
    return *tokens, normal(height, height, channels), normal(width, width, channels)


@settings(deadline=None, max_examples=40)
@given(
    st.integers(0, 10**6), st.integers(1, 3), st.integers(1, 3), sizes, sizes, st.integers(1, 20)
)
def test_fused_is_the_definition(seed, batch, heads, height, width, channels):
    given_ = inputs(seed, batch, heads, height, width, channels)
    reference = reference_attention(*given_)
    assert reference.shape == (batch, heads, height * width, channels)
    torch.testing.assert_close(fused_attention(*given_), reference, rtol=1e-9, atol=1e-10)


def test_single_precision_error():
    given_ = inputs(3, 2, 4, 16, 16, 32, torch.float32)
    exact = reference_attention(*(part.double() for part in given_))
    error = (fused_attention(*given_) - exact).abs().max() / exact.std()
    assert error < 1e-5


def test_gradients_agree():
    def gradients(attend):
        given_ = [part.requires_grad_() for part in inputs(5, 1, 2, 5, 4, 6)]
        attend(*given_).square().sum().backward()
        return [part.grad for part in given_]

    for one, other in zip(gradients(fused_attention), gradients(reference_attention), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("mode", ["fused", "reference"])
@pytest.mark.parametrize("size", [7, 5])
def test_the_published_layer(mode, size):
    """The size differs from the tables' in one case, so that they are resized."""
    torch.manual_seed(1)
    published = Attention(24, 3, qkv_bias=True, use_rel_pos=True, input_size=(7, 7))
    torch.nn.init.normal_(published.rel_pos_h)
    torch.nn.init.normal_(published.rel_pos_w)
    ours = RelPosAttention(24, 3, 7)
    ours.load_state_dict(published.state_dict())
    set_attention(ours, mode)
    tokens = torch.randn(2, size, size, 24)
    torch.testing.assert_close(ours(tokens), published(tokens), rtol=1e-5, atol=1e-6)


@given(st.integers(1, 40))
def test_table_counts_distances(size):
    distances = torch.arange(2 * size - 1, dtype=torch.float64)[:, None] - (size - 1)
    table = relative_table(size, distances)[..., 0]
    index = torch.arange(size)
    assert torch.equal(table, (index[:, None] - index[None, :]).double())
