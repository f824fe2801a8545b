"""A loaded network that answers prompts, and a square of tissue that it has looked at."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from wsi_sampath.errors import UsageError, WsiError
from wsi_sampath.inference.predictor import DTYPES, is_out_of_memory, resolve_precision
from wsi_sampath.inference.settings import Precision
from wsi_sampath.models.device import resolve_device
from wsi_sampath.models.network import (
    Embedding,
    LoadedModel,
    NucleusDecoder,
    PromptNetwork,
    Prompts,
)

Mode = Literal["amg", "apg"]
_N_MAPS = 3


def refuse_unable(model: LoadedModel, mode: Mode) -> None:
    """Make sure that a model can do what a mode asks of it.

    Raises
    ------
    UsageError
        Naming what the model lacks.
    """
    if not isinstance(model.module, PromptNetwork) or model.spec.views != (1.0,):
        message = f"a {model.spec.architecture} network answers no prompts, which mode {mode} needs"
        raise UsageError(f"{message}; use a PathoSAM", subject=model.source)
    if mode == "apg" and not isinstance(model.module, NucleusDecoder):
        message = f"a {model.spec.architecture} network makes no maps of nuclei, which mode apg"
        raise UsageError(f"{message} needs; use mode amg or a PathoSAM", subject=model.source)


def refuse_promptless(model: LoadedModel) -> None:
    """Make sure that a model answers prompts.

    Raises
    ------
    UsageError
        For one that does not.
    """
    if not isinstance(model.module, PromptNetwork):
        message = f"a {model.spec.architecture} network answers no prompts"
        advice = "use a SAM, a PathoSAM such as nuclei-mini, or a WSI-SAM"
        raise UsageError(f"{message}; {advice}", subject=model.source)


class FieldNetwork:
    """A network that looks at squares of tissue, and is then asked about them.

    Parameters
    ----------
    model
        A loaded model; moved to `device`.
    device, precision
        As in `SegmentSettings`.

    Raises
    ------
    UsageError
        For a model that answers no prompts.
    """

    def __init__(
        self, model: LoadedModel, *, device: str = "auto", precision: Precision = "auto"
    ) -> None:
        refuse_promptless(model)
        self.device = resolve_device(device)
        self._n_threads = torch.get_num_threads()
        self.precision = resolve_precision(precision, self.device)
        self._tiles = model.module.to(self.device).eval()
        self.module = cast(PromptNetwork, self._tiles)
        self.side = model.spec.tile
        self.scale = model.spec.frame / model.spec.tile

    def look(self, *views: NDArray[np.uint8]) -> Field | None:
        """Look at a square; None if what the network makes of it is not finite.

        Parameters
        ----------
        views
            uint8 (side, side, 3), RGB: one for each of the spec's views.
        """
        tiles = [torch.tensor(view[None]).to(self.device) for view in views]
        with self.running():
            embedding = self.module.embed([self._tiles.preprocess(one) for one in tiles])
            is_finite = all(bool(torch.isfinite(part).all()) for part in embedding)
        return Field(self, embedding) if is_finite else None

    @contextmanager
    def running(self) -> Iterator[None]:
        """Run the network in the block, in its precision and without gradients.

        A thread that has fewer processors to itself than the one that made this gets as many.

        Raises
        ------
        WsiError
            ``out-of-memory``.
        """
        dtype = DTYPES[self.precision]
        half = dtype != torch.float32
        autocast = torch.autocast(self.device.type, dtype=dtype) if half else nullcontext()
        before = torch.get_num_threads()
        torch.set_num_threads(self._n_threads)
        try:
            with torch.inference_mode(), autocast:
                yield
        except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            message = (
                f"a field of {self.side} px and its prompts do not fit on {self.device}; answer "
                "fewer points at once, or use another --device"
            )
            raise WsiError("out-of-memory", message) from None
        finally:
            torch.set_num_threads(before)


@dataclass(frozen=True)
class Field:
    """A square that a network has looked at; a `MaskSource`.

    Attributes
    ----------
    network
        What has looked at it.
    embedding
        What it knows of it.
    """

    network: FieldNetwork
    embedding: Embedding

    @property
    def size(self) -> tuple[int, int]:
        """Height and width, px."""
        return self.network.side, self.network.side

    def ask(self, prompts: Prompts, *, multimask: bool) -> tuple[Tensor, Tensor]:
        """See `MaskSource`; the logits are (p, c, side / 4 in the frame, the same)."""
        return self.ask_in_frame(prompts.scaled(self.network.scale), multimask=multimask)

    def ask_in_frame(self, prompts: Prompts, *, multimask: bool) -> tuple[Tensor, Tensor]:
        """Ask as in `ask`, with prompts in px of the network's frame."""
        prompts = prompts.to(self.network.device)
        with self.network.running():
            logits, quality = self.network.module.masks(
                self.embedding, prompts, multimask=multimask
            )
            return logits.float(), quality.float()

    def enlarge(self, logits: Tensor) -> Tensor:
        """See `MaskSource`."""
        # At once, and not by way of the frame as SAM does: where a pixel of the logits is a whole
        # number of pixels wide, both are the same.
        with self.network.running():
            return functional.interpolate(logits[:, None], self.size, mode="bilinear")[:, 0]

    def nucleus_maps(self) -> NDArray[np.float32]:
        """Return what the network's decoder says, float32 (3, side, side).

        Foreground, distance to the centre and to the boundary, 0 to 1.
        """
        decoder = cast(NucleusDecoder, self.network.module)
        with self.network.running():
            maps = decoder.nucleus_maps(self.embedding, self.network.side)[0, :_N_MAPS]
        found: NDArray[np.float32] = maps.float().cpu().numpy()
        return found
