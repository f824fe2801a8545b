"""Texts without the secrets of the addresses in them."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

# pathlib takes the two slashes of an address for one.
_ADDRESS = re.compile(
    r"(?:[a-z][a-z0-9+.-]+://|\b(?:https?|s3|gs):/)\S*[^\s:,;.)\]'\"]", re.IGNORECASE
)
_SLASHES = re.compile(r":/+")


def masked(text: str) -> str:
    """Return a text without what addresses in it must keep to themselves.

    Examples
    --------
    >>> masked("https://me:pass@host/a.svs?token=1: not found")
    'https://host/a.svs: not found'
    """
    return _ADDRESS.sub(lambda found: shown_address(found[0]), text)


def shown_address(address: str) -> str:
    """Return an address without user, password and query: what may be written anywhere."""
    scheme, rest = _SLASHES.split(address, maxsplit=1)
    try:
        parts = urlsplit(f"{scheme}://{rest}")
        # A password with a slash in it passes for a host and a port that is no number.
        _ = parts.port
    except ValueError:
        return f"{scheme.lower()}://..."
    return f"{scheme.lower()}://{parts.netloc.rpartition('@')[2]}{parts.path}"
