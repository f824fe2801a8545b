"""A model for tiles of another size, so that most of a training may run on small ones."""

from __future__ import annotations

import torch
from torch import Tensor

from wsi_sampath.models.sam_path import SamPath


def with_tile(model: SamPath, tile: int) -> SamPath:
    """Return the model for another tile: position tables of global attention cut or widened."""
    other = SamPath(model.spec.model_copy(update={"tile": tile}))
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for name, wanted in other.state_dict().items():
        if "rel_pos" in name and state[name].shape != wanted.shape:
            state[name] = _recentred(state[name], len(wanted))
    other.load_state_dict(state)
    return other


def _recentred(table: Tensor, length: int) -> Tensor:
    """Keep every distance its vector; distances never seen get that of the farthest one."""
    distance = torch.arange(length) - length // 2
    half = len(table) // 2
    return table[distance.clamp(-half, half) + half]
