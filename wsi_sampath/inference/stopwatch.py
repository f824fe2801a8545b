"""How long the network itself worked, whether or not its calls return before it is done."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch


class Stopwatch:
    """Sum up the time of stretches of work on a device.

    Parameters
    ----------
    device
        On a GPU its own clock is read, since there a call returns before the work is done.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stretches: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []
        self._seconds = 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        """Count what happens in the block."""
        if self._device.type == "cuda":
            # Not the current device's: the network may run on another one.
            stream = torch.cuda.current_stream(self._device)
            start, end = _event(), _event()
            start.record(stream)
            yield
            end.record(stream)
            self._stretches.append((start, end))
        else:
            began = time.perf_counter()
            yield
            self._seconds += time.perf_counter() - began

    def seconds(self) -> float:
        """Return the sum; on a GPU all of the work must be done."""
        return self._seconds + sum(float(a.elapsed_time(b)) for a, b in self._stretches) / 1e3


def _event() -> torch.cuda.Event:
    return torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
