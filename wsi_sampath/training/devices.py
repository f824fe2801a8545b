"""The devices of a training: Lightning's accelerator and strategy, checked in advance."""

from __future__ import annotations

import torch

from wsi_sampath.errors import UsageError
from wsi_sampath.training.settings import TrainSettings


def accelerator_of(settings: TrainSettings) -> tuple[str, int | list[int]]:
    """Return Lightning's accelerator and devices."""
    kind, colon, index = settings.device.partition(":")
    return kind, [int(index)] if colon else settings.devices


def check_hardware(settings: TrainSettings) -> None:
    """Refuse devices that this machine does not have.

    Raises
    ------
    UsageError
        Names the devices.
    """
    kind, colon, index = settings.device.partition(":")
    if kind not in ("auto", "cpu", "cuda", "mps") or (colon and not index.isdecimal()):
        raise UsageError(f"device={settings.device!r}; use auto, cpu, cuda, cuda:N or mps")
    if colon and kind != "cuda":
        raise UsageError(f"device={settings.device!r}: only cuda takes a number; use {kind}")
    if colon and settings.devices > 1:
        raise UsageError("device names one device, devices asks for several; set device=cuda")
    there = {"cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    wanted = int(index) + 1 if colon else settings.devices
    if kind in there and there[kind] < wanted:
        raise UsageError(f"this machine has no device {settings.device!r} {_times(wanted)}".strip())
    if kind != "cpu" and settings.devices > max(1, there["cuda"]):
        raise UsageError(f"devices={settings.devices}, but this machine has {there['cuda']} GPUs")


def _times(count: int) -> str:
    return f"({count} of them)" if count > 1 else ""


def strategy_of(settings: TrainSettings) -> str:
    """Return Lightning's strategy: one process per device where there are several."""
    if settings.devices == 1:
        return "auto"
    # SAM's embeddings of points and boxes belong to the model but have no part in it.
    return "ddp_find_unused_parameters_true" if settings.trainable == "all" else "ddp"
