"""From a specification to its network."""

from __future__ import annotations

from typing import TYPE_CHECKING, overload

from wsi_sampath.models.patho_sam.spec import PathoSamSpec
from wsi_sampath.models.plain_sam.spec import PlainSamSpec
from wsi_sampath.models.sam_path.spec import SamPathSpec
from wsi_sampath.models.spec import ModelSpec
from wsi_sampath.models.wsi_sam.spec import WsiSamSpec

if TYPE_CHECKING:
    # Only what is built is imported: an architecture may need packages that others do not.
    from wsi_sampath.models.patho_sam.network import PathoSam
    from wsi_sampath.models.plain_sam.network import PlainSam
    from wsi_sampath.models.sam_path.network import SamPath
    from wsi_sampath.models.wsi_sam.network import WsiSam

    AnyNetwork = SamPath | PathoSam | PlainSam | WsiSam
    """The networks there are: a union with one member for each architecture."""


@overload
def build_network(spec: SamPathSpec) -> SamPath: ...
@overload
def build_network(spec: PathoSamSpec) -> PathoSam: ...
@overload
def build_network(spec: PlainSamSpec) -> PlainSam: ...
@overload
def build_network(spec: WsiSamSpec) -> WsiSam: ...
@overload
def build_network(spec: ModelSpec) -> AnyNetwork: ...
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
        case PathoSamSpec():
            from wsi_sampath.models.patho_sam.network import PathoSam

            return PathoSam(spec)
        case PlainSamSpec():
            from wsi_sampath.models.plain_sam.network import PlainSam

            return PlainSam(spec)
        case WsiSamSpec():
            from wsi_sampath.models.wsi_sam.network import WsiSam

            return WsiSam(spec)
        case _:
            raise TypeError(f"no network is built from {type(spec).__name__}")
