"""The folder in which all files from the network are kept."""

from __future__ import annotations

import os
from pathlib import Path

CACHE_VARIABLE = "WSI_SAMPATH_CACHE"
_NAME, _EARLIER_NAME = "wsi_sampath", "wsi-sampath"


def cache_folder() -> Path:
    """Return the folder: ``WSI_SAMPATH_CACHE``, or the system's place for caches."""
    named = os.environ.get(CACHE_VARIABLE)
    return Path(named) if named else _system_place(_NAME)


def earlier_cache_folder() -> Path | None:
    """Return where earlier versions kept sample slides; None if the user names a folder."""
    return None if os.environ.get(CACHE_VARIABLE) else _system_place(_EARLIER_NAME)


def _system_place(name: str) -> Path:
    import pooch

    return Path(pooch.os_cache(name))
