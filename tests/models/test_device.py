from __future__ import annotations

import pytest
import torch

from wsi_sampath.errors import UsageError
from wsi_sampath.models.device import count_devices, parse_device, resolve_device


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("auto", ("auto", None)),
        ("cpu", ("cpu", None)),
        ("cuda:3", ("cuda", 3)),
        ("mps", ("mps", None)),
    ],
)
def test_kind_and_number(name, meant):
    assert parse_device(name) == meant


@pytest.mark.parametrize("name", ["gpu", "cuda:", "cuda:x", "cuda:-1", "", "meta", "CUDA"])
def test_what_is_not_a_device(name):
    with pytest.raises(UsageError, match="use auto, cpu, cuda, cuda:N or mps"):
        resolve_device(name)


def test_a_device_that_is_not_there():
    for name in (f"cuda:{count_devices('cuda')}", "cpu:1"):
        with pytest.raises(UsageError, match=f"this machine has no device '{name}'"):
            resolve_device(name)


def test_a_device_that_is_there():
    assert resolve_device("cpu") == torch.device("cpu")
    assert count_devices(resolve_device("auto").type) > 0
