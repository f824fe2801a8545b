"""A model for tiles of another size, so that most of a training may run on small ones."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor, nn

Model = TypeVar("Model", bound=nn.Module)


def with_tile(model: Model, like: Model, distant: Model | None = None) -> Model:
    """Fill `like`, the same model for tiles of another size, with the weights of `model`.

    Position tables of global attention are cut or widened around distance zero.

    Parameters
    ----------
    model
        Gives the weights.
    like
        Takes them, and is returned.
    distant
        The model for the larger tile that `model` came from: it keeps the positions of distances
        that `model` cannot see. Without it, these get the position of the farthest one it can.
    """
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    far = distant.state_dict() if distant is not None else {}
    for name, wanted in like.state_dict().items():
        if "rel_pos" in name and state[name].shape != wanted.shape:
            state[name] = _recentred(state[name], len(wanted), far.get(name))
    like.load_state_dict(state)
    return like


def _recentred(table: Tensor, length: int, distant: Tensor | None) -> Tensor:
    distance = torch.arange(length) - length // 2
    half = len(table) // 2
    known = table[distance.clamp(-half, half) + half]
    if distant is None or len(distant) != length:
        return known
    return torch.where((distance.abs() <= half)[:, None], known, distant)
