"""The specification of a SAM-Path that runs in no time."""

from __future__ import annotations

SPEC = {
    "name": "tiny",
    "classes": [{"name": "a", "color": "#9aa0a6"}, {"name": "b", "color": "#c83264"}],
    "mpp": 1.0,
    "tile": 128,
    "sam": {"embed_dim": 8, "depth": 1, "num_heads": 2, "global_attn_indexes": [0]},
    "pathology": {"encoder": {"embed_dim": 8, "depth": 1, "num_heads": 2}},
    "decoder": {"dim": 16, "depth": 1, "num_heads": 2, "mlp_dim": 16},
}
