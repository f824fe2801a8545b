"""What a CUDA device needs: tensors between streams without stopping either, and its own clock."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True)
class Handover:
    """A tensor, and the moment of its stream from which it may be used.

    Attributes
    ----------
    tensor
        Not to be touched but through `take`.
    ready
        None on devices without streams.
    """

    tensor: Tensor
    ready: torch.cuda.Event | None = None

    @classmethod
    def of(cls, tensor: Tensor) -> Handover:
        """Hand over what the current stream is making."""
        if tensor.device.type != "cuda":
            return cls(tensor)
        ready = torch.cuda.Event()  # type: ignore[no-untyped-call]
        ready.record(torch.cuda.current_stream(tensor.device))
        return cls(tensor, ready)

    def take(self) -> Tensor:
        """Return the tensor to the current stream, which waits for it; the caller does not."""
        if self.ready is not None:
            stream = torch.cuda.current_stream(self.tensor.device)
            stream.wait_event(self.ready)
            # Else its memory could be given away while this stream still reads.
            self.tensor.record_stream(stream)
        return self.tensor


class Uploader:
    """Tiles to the device by a stream of their own, beside the kernels of the batch before.

    Parameters
    ----------
    device
        Where the tiles go.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._copies = _stream(device) if device.type == "cuda" else None

    def __call__(self, images: NDArray[np.uint8]) -> Handover:
        """Send images, uint8 of any shape."""
        tiles = torch.from_numpy(images)
        if self._copies is None:
            return Handover(tiles.to(self._device))
        with torch.cuda.stream(self._copies):
            # Only from pinned memory does a copy run beside kernels.
            return Handover.of(tiles.pin_memory().to(self._device, non_blocking=True))


def blending_thread(device: torch.device) -> Callable[[], None]:
    """Return what the thread that blends does first.

    On a processor it keeps to itself: a second team of OpenMP threads would spin against the
    network's on the same cores. On a GPU it gets a stream of its own, so that waiting for finished
    rows is not waiting for the next batches; what was made before is complete for it.
    """
    return partial(_prepare, device)


def _prepare(device: torch.device) -> None:
    # Both settings hold for the calling thread alone.
    torch.set_num_threads(1)
    if device.type == "cuda":
        stream = _stream(device)
        stream.wait_stream(torch.cuda.default_stream(device))
        torch.cuda.set_stream(stream)


def _stream(device: torch.device) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


def wait_for_all(device: torch.device) -> None:
    """Wait until all streams are done; nothing to do on devices without."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


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
