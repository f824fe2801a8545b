"""A network with what is known of it: all that the stages above the models need to see."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from wsi_sampath.models.spec import ModelSpec

if TYPE_CHECKING:
    # Importing the networks takes seconds, which a caller with one of its own need not wait for.
    from wsi_sampath.models.sam_path.network import SamPath


@dataclass(frozen=True)
class LoadedModel:
    """A model ready to run.

    Attributes
    ----------
    module
        The network, in evaluation mode, on its device.
    spec
        What it is.
    weights_sha256
        Of the checkpoint file; of the specification where the weights are random.
    source
        The bundled name, or the path, it was loaded from.
    warnings
        Sentences on the model that belong to each of its results.
    """

    module: SamPath
    spec: ModelSpec
    weights_sha256: str
    source: str
    warnings: tuple[str, ...] = ()
