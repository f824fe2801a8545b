import pytest
import torch

from wsi_sampath.models.checkpoints import build_model
from wsi_sampath.models.sam_path.spec import SamPathSpec

TINY = {
    "name": "tiny",
    "classes": [
        {"name": "other", "color": "#9aa0a6"},
        {"name": "gland", "color": "#c83264"},
        {"name": "mucus", "color": "#3c64c8"},
    ],
    "mpp": 1.0,
    "tile": 128,
    "sam": {
        "embed_dim": 16,
        "depth": 2,
        "num_heads": 2,
        "global_attn_indexes": [1],
        "window_size": 3,
    },
    "pathology": {
        "encoder": {"embed_dim": 12, "depth": 1, "num_heads": 2, "patch": 32, "position_grid": 7}
    },
    "decoder": {"dim": 16, "depth": 1, "num_heads": 2, "mlp_dim": 24},
}


@pytest.fixture
def tiny_values():
    return dict(TINY)


@pytest.fixture(scope="session")
def tiny_spec():
    return SamPathSpec.model_validate(TINY)


@pytest.fixture(scope="session")
def tiny_model(tiny_spec):
    torch.manual_seed(0)
    model = build_model(tiny_spec)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "rel_pos" in name or "pos_embed" in name:
                weight.normal_()
    return model
