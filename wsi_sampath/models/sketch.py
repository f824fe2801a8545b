"""Networks on torch's meta device, where weights have shapes and take no memory.

So the size of a specified network is known before anything is allocated.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook
from torch.overrides import TorchFunctionMode

from wsi_sampath.errors import WsiError

MAX_WEIGHTS = 4_000_000_000
"""Twice those of the largest pathology encoder with the largest SAM."""
MAX_TENSORS = 20_000
_BYTES = 4


class _Bound:
    """Counts what is registered, and stops a build that would never end."""

    def __init__(self) -> None:
        self.weights = self.tensors = 0

    def __call__(self, _module: nn.Module, _name: str, weight: nn.Parameter | None) -> None:
        if weight is None or _bounds[-1] is not self:
            return
        self.weights += weight.numel()
        self.tensors += 1
        if self.weights > MAX_WEIGHTS or self.tensors > MAX_TENSORS:
            raise WsiError(
                "bad-model",
                f"its specification asks for more than {MAX_WEIGHTS:.0e} weights or "
                f"{MAX_TENSORS} tensors; take smaller dimensions or depths",
            )


_bounds: list[_Bound] = []
_DRAWING = (
    Tensor.normal_,
    Tensor.uniform_,
    nn.init.normal_,
    nn.init.uniform_,
    nn.init.kaiming_uniform_,
)


class _OnPaper(TorchFunctionMode):
    """Leaves out what only changes the numbers of weights, since they have none on the meta device.

    There torch would import its compiler, which takes seconds, to draw or to scale nothing.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        given = kwargs or {}
        # torch's own functions pass the tensor on by name.
        if func in _DRAWING:
            return next(iter((*args, *given.values())))
        if func is Tensor.mul and isinstance(args[1], int | float):
            return args[0]
        return (torch.empty if func is torch.randn else func)(*args, **given)


@contextmanager
def bounded() -> Iterator[None]:
    """Build networks in this block on the meta device, and stop those that grow without bounds.

    Raises
    ------
    WsiError
        ``bad-model`` where a network would have more weights than any real one.
    """
    bound = _Bound()
    _bounds.append(bound)
    hook = register_module_parameter_registration_hook(bound)
    try:
        with torch.device("meta"), _OnPaper():
            yield
    finally:
        hook.remove()
        _bounds.remove(bound)


def check_memory(model: nn.Module, subject: str = "") -> None:
    """Refuse a network whose weights alone are more than this machine's memory.

    Parameters
    ----------
    model
        A network on the meta device.

    Raises
    ------
    WsiError
        ``out-of-memory``.
    """
    needed = sum(weight.numel() for weight in model.state_dict().values()) * _BYTES
    memory = _memory()
    if memory is not None and needed > memory:
        raise WsiError(
            "out-of-memory",
            f"the weights of the model need {needed / 1e9:.1f} GB, and this machine has "
            f"{memory / 1e9:.1f} GB; take smaller dimensions or depths",
            subject=subject,
        )


def _memory() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None
