"""The maps that nuclei are cut out of, as the root image of a zarr holds them."""

from __future__ import annotations

from wsi_sampath.classes import ClassSpec

NUCLEUS_CHANNELS: tuple[ClassSpec, ...] = (
    ClassSpec(name="foreground", color="#ffffff"),
    ClassSpec(name="centre distance", color="#00a0ff"),
    ClassSpec(name="boundary distance", color="#ff8000"),
)
"""What the maps of nuclei are: 255 inside of nuclei, and 0 at their centres and deep inside."""
