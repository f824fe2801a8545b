"""Batched forward passes: device, precision, and retreat when memory runs out."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from copy import copy

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wsi_sampath.errors import WsiError
from wsi_sampath.inference.cuda import Handover, Uploader
from wsi_sampath.inference.settings import Precision
from wsi_sampath.models.device import resolve_device
from wsi_sampath.models.network import LoadedModel

_AUTO_BATCH = {"cuda": 16, "mps": 4, "cpu": 1}
DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}


def resolve_precision(precision: Precision, device: torch.device) -> str:
    """Choose the precision: bf16 (else fp16) on CUDA, fp32 elsewhere, unless one is named."""
    if precision != "auto":
        return precision
    if device.type != "cuda":
        return "fp32"
    return "bf16" if torch.cuda.is_bf16_supported() else "fp16"


class Predictor:
    """Maps of tiles.

    Parameters
    ----------
    model
        A loaded model; moved to `device`.
    tile_px, output_px
        Side of the tiles in model pixels, and of the maps in output pixels.
    device, precision, batch_size, compile
        As in `SegmentSettings`.
    """

    def __init__(
        self,
        model: LoadedModel,
        *,
        tile_px: int,
        output_px: int,
        device: str = "auto",
        precision: Precision = "auto",
        batch_size: int | str = "auto",
        compile: bool = False,
    ) -> None:
        self.device = resolve_device(device)
        self.precision = resolve_precision(precision, self.device)
        self.batch_size = _AUTO_BATCH[self.device.type] if batch_size == "auto" else int(batch_size)
        self.tile_px, self.output_px = tile_px, output_px
        self.upload = Uploader(self.device)
        self._module = model.tile_network.to(self.device).eval()
        if compile:
            # A copy shares the weights, and leaves the caller's network as it is.
            self._module = copy(self._module)
            self._module.compile()

    def __call__(self, images: NDArray[np.uint8]) -> Tensor:
        """Predict a batch: `upload`, then `predict`.

        Parameters
        ----------
        images
            uint8 (n, tile, tile, 3), RGB.
        """
        return self.predict(self.upload(images))

    def predict(self, images: Handover) -> Tensor:
        """Predict a batch that was uploaded, perhaps by another thread.

        Parameters
        ----------
        images
            From `upload`: uint8 (n, tile, tile, 3), RGB.

        Returns
        -------
        float32 (n, maps, output, output), on the device
            On a GPU the call returns before they are computed.

        Raises
        ------
        WsiError
            ``out-of-memory`` where even a single tile does not fit.
        """
        tiles = images.take()
        answers: list[Tensor] = []
        start = 0
        while start < len(tiles):
            stop = start + self.batch_size
            try:
                answers.append(self._predict(tiles[start:stop]))
            except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
                self._retreat(error)
                continue
            start = stop
        return answers[0] if len(answers) == 1 else torch.cat(answers)

    def _retreat(self, error: BaseException) -> None:
        if not is_out_of_memory(error):
            raise error
        if self.batch_size == 1:
            raise WsiError(
                "out-of-memory",
                f"one tile of {self.tile_px} px does not fit on {self.device}; use a smaller "
                "--tile, a lower --precision or another --device",
            ) from None
        self.batch_size //= 2
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    @torch.inference_mode()
    def _predict(self, tiles: Tensor) -> Tensor:
        with self._autocast():
            return self._module.maps(self._module.preprocess(tiles), self.output_px)

    def _autocast(self) -> AbstractContextManager[object]:
        if self.precision == "fp32":
            return nullcontext()
        return torch.autocast(self.device.type, dtype=DTYPES[self.precision])


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error of a network means that its memory did not suffice."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    text = str(error).lower()
    return "out of memory" in text or "can't allocate memory" in text
