"""Where nuclei come from while the rows of a plane go by."""

from __future__ import annotations

from typing import Any, Protocol

from wsi_sampath.inference.durable.ledger import Arrays
from wsi_sampath.inference.instances.pieces import Values
from wsi_sampath.inference.instances.terrain import Maps
from wsi_sampath.outputs.nuclei.patch import NucleusPatch


class NucleusSource(Protocol):
    """Final nuclei with the ids 1..n in the order in which they are returned."""

    @property
    def settled(self) -> int:
        """Rows of the plane, from the top, in which no later patch paints."""
        ...

    def append(self, maps: Maps, values: Values, analysed: Values) -> list[NucleusPatch]:
        """Take the next rows, and return the nuclei that they complete.

        Parameters
        ----------
        maps
            float32 (3, rows, columns), 0 to 1: foreground, distance to the centre, distance to the
            boundary.
        values
            uint8 (channels, rows, columns): what a patch has of every pixel.
        analysed
            uint8 (rows, columns): 1 where the network was asked, else 0.
        """
        ...

    def finish(self) -> list[NucleusPatch]:
        """Return the nuclei that the bottom of the plane completes."""
        ...

    def state(self) -> tuple[dict[str, Any], Arrays]:
        """Return JSON notes and arrays, enough to resume after the rows appended last."""
        ...
