"""ResNet-18 without timm: the same network, whichever of both makes it."""

import pytest
import torch

from wsi_sampath.models.parts.resnet import ResNet18Encoder
from wsi_sampath.models.parts.timm_encoders import timm_encoder


def differing(encoder):
    """Fill batch norms with numbers that are not those they start with."""
    for name, tensor in encoder.state_dict().items():
        if "bn" in name or "downsample.1" in name:
            tensor.copy_(torch.rand(tensor.shape) + 0.5)
    return encoder


@pytest.mark.parametrize("stride", [4, 32])
@pytest.mark.parametrize("mode", ["eval", "train"])
def test_it_answers_as_timms_to_the_bit(stride, mode):
    torch.manual_seed(stride)
    theirs = differing(timm_encoder("resnet18", stride=stride, tile=96, options={}))
    ours = ResNet18Encoder(stride)
    ours.load_state_dict(theirs.state_dict())
    images = torch.randn(2, 3, 96, 96)
    with torch.no_grad():
        answers = [one.train(mode == "train")(images) for one in (ours, theirs)]
    assert torch.equal(*answers)
    assert answers[0].shape == (2, ours.out_channels, 96 // stride, 96 // stride)
    assert (ours.patch, ours.out_channels) == (theirs.patch, theirs.out_channels)


def test_training_starts_from_weights_like_timms():
    torch.manual_seed(0)
    ours = ResNet18Encoder(16).state_dict()
    theirs = timm_encoder("resnet18", stride=16, tile=64, options={}).state_dict()
    assert list(ours) == list(theirs)
    for name, tensor in theirs.items():
        wanted = tensor.float()
        assert torch.allclose(ours[name].float().mean(), wanted.mean(), atol=0.005), name
        spread = [one.std(correction=0) for one in (ours[name].float(), wanted)]
        assert torch.allclose(*spread, rtol=0.05), name
