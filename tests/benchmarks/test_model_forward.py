"""The forms of SAM's attention that the forward benchmark compares all say the same."""

import sys
from functools import partial
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import attention_forms  # noqa: E402
import model_forward  # noqa: E402
from torch.nn.attention.flex_attention import flex_attention  # noqa: E402

from wsi_sampath.models.parts.attention import reference_attention  # noqa: E402

FORMS = {
    "mask": attention_forms.mask_attention,
    "flex": partial(attention_forms.flex_attention, attend=flex_attention),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
def test_a_form_is_the_definition(form):
    torch.manual_seed(0)
    query, key, value = torch.randn(3, 2, 4, 6, 5, 16)
    rows, columns = torch.randn(6, 6, 16), torch.randn(5, 5, 16)
    expected = reference_attention(query, key, value, rows, columns)
    found = FORMS[form](query, key, value, rows, columns)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("form", ["mask", "fused", "flex"])
@torch.no_grad()
def test_a_whole_encoder_in_another_form_says_the_same(form):
    torch.manual_seed(0)
    module, side = model_forward.build("encoder", "tiny")
    for name, weight in module.named_parameters():
        if "rel_pos" in name:
            weight.normal_()
    tiles = torch.randn(1, 3, side, side)
    with attention_forms.attending(module, "reference", "eager"):
        expected = module(tiles)
    with attention_forms.attending(module, form, "eager"):
        torch.testing.assert_close(module(tiles), expected, rtol=1e-4, atol=1e-4)
    assert attention_forms.attention.reference_attention is reference_attention


def test_the_arithmetic_is_that_of_the_shapes():
    """A ViT-B tile: 12 blocks of dense layers alone are 0.70 TFLOP; the rest is attention."""
    tokens, dim = 64 * 64, 768
    dense = 12 * 2 * tokens * dim * (3 + 1 + 4 + 4) * dim
    windows = 25 * (14 * 14) ** 2
    attention = 2 * 2 * dim * (4 * tokens**2 + 8 * windows)
    # Windows are padded: 70 x 70 tokens go through their dense layers of attention.
    padded = 8 * 2 * (70 * 70 - tokens) * dim * 4 * dim
    biases = 2 * tokens * dim * 2 * (4 * 64 + 8 * 14)
    total = dense + attention + padded + biases
    assert model_forward.arithmetic("encoder", "vit_b") == pytest.approx(total, rel=0.03)
