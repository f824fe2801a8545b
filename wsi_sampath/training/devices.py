"""The devices of a training: Lightning's accelerator and strategy, checked in advance."""

from __future__ import annotations

from wsi_sampath.errors import UsageError
from wsi_sampath.models.device import count_devices, parse_device
from wsi_sampath.training.settings import RunSettings


def accelerator_of(settings: RunSettings) -> tuple[str, int | list[int]]:
    """Return Lightning's accelerator and devices."""
    kind, number = parse_device(settings.device)
    return kind, settings.devices if number is None else [number]


def check_hardware(settings: RunSettings) -> None:
    """Refuse devices that this machine, or a training, does not have.

    Raises
    ------
    UsageError
        Names the devices.
    """
    kind, number = parse_device(settings.device)
    if number is not None and kind != "cuda":
        raise UsageError(f"device={settings.device!r}: only cuda takes a number; use {kind}")
    if number is not None and settings.devices > 1:
        raise UsageError("device names one device, devices asks for several; set device=cuda")
    wanted = settings.devices if number is None else number + 1
    if kind in ("cuda", "mps") and count_devices(kind) < wanted:
        raise UsageError(f"this machine has no device {settings.device!r} {_times(wanted)}".strip())
    gpus = count_devices("cuda")
    if kind != "cpu" and settings.devices > max(1, gpus):
        raise UsageError(f"devices={settings.devices}, but this machine has {gpus} GPUs")


def _times(count: int) -> str:
    return f"({count} of them)" if count > 1 else ""


def strategy_of(settings: RunSettings) -> str:
    """Return Lightning's strategy: one process per device where there are several."""
    if settings.devices == 1:
        return "auto"
    # SAM's embeddings of points and boxes belong to the model but have no part in it.
    return "ddp_find_unused_parameters_true" if settings.trainable == "all" else "ddp"
