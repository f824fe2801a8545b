"""From a specification to its network."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wsi_sampath.models.sam_path.spec import SamPathSpec
from wsi_sampath.models.spec import ModelSpec

if TYPE_CHECKING:
    # Only what is built is imported: an architecture may need packages that others do not.
    from wsi_sampath.models.sam_path.network import SamPath

    AnyNetwork = SamPath
    """The networks there are: a union with one member for each architecture."""


def build_network(spec: ModelSpec) -> AnyNetwork:
    """Return the network of `spec` with random weights, whatever its size; see `build_model`.

    Raises
    ------
    TypeError
        For a specification that no architecture stands behind.
    """
    match spec:
        case SamPathSpec():
            from wsi_sampath.models.sam_path.network import SamPath

            return SamPath(spec)
        case _:
            raise TypeError(f"no network is built from {type(spec).__name__}")
