"""Where networks run: the names of devices, and which of them this machine has."""

from __future__ import annotations

import torch

from wsi_sampath.errors import UsageError

_KINDS = ("auto", "cpu", "cuda", "mps")


def parse_device(name: str) -> tuple[str, int | None]:
    """Return the kind of a device and its number, None where it has none.

    Raises
    ------
    UsageError
        For anything but ``auto|cpu|cuda|cuda:N|mps``.

    Examples
    --------
    >>> parse_device("cuda:1"), parse_device("auto")
    (('cuda', 1), ('auto', None))
    """
    kind, colon, number = name.partition(":")
    if kind not in _KINDS or (colon and not number.isdecimal()):
        raise UsageError(f"no device {name!r}; use auto, cpu, cuda, cuda:N or mps")
    return kind, int(number) if colon else None


def count_devices(kind: str) -> int:
    """Return how many devices of a kind this machine has."""
    if kind == "cuda":
        return torch.cuda.device_count()
    return int(kind == "cpu" or (kind == "mps" and torch.backends.mps.is_available()))


def resolve_device(device: str = "auto") -> torch.device:
    """Turn ``auto|cpu|cuda|cuda:N|mps`` into a device that is really there.

    Raises
    ------
    UsageError
        For a name that is not a device's, or a device that this machine does not have.
    """
    kind, number = parse_device(device)
    if kind == "auto":
        return torch.device(_best_device())
    if (number or 0) >= count_devices(kind):
        raise UsageError(f"this machine has no device {device!r}; use --device auto")
    return torch.device(device)


def _best_device() -> str:
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"
