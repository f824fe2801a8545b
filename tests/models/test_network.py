from __future__ import annotations

import pytest
import torch

from wsi_sampath.models.build import build_network
from wsi_sampath.models.network import Prompts
from wsi_sampath.models.spec import ModelSpec


def test_points_have_labels():
    with pytest.raises(ValueError, match="labels"):
        Prompts(points=torch.zeros(1, 1, 2))
    with pytest.raises(ValueError, match="labels"):
        Prompts(labels=torch.ones(1, 1))


def test_what_no_architecture_stands_behind_is_not_built():
    values = {"classes": [{"name": "a", "color": "#000000"}], "mpp": 1.0}
    spec = ModelSpec.model_validate({"name": "x", "architecture": "stub", **values})
    with pytest.raises(TypeError, match="ModelSpec"):
        build_network(spec)
