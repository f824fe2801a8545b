"""Texts without the secrets of the addresses in them."""

from __future__ import annotations

import re
from urllib.parse import SplitResult, urlsplit

# pathlib takes the two slashes of an address for one.
_START = r"(?:[a-z][a-z0-9+.-]+://|\b(?:https?|s3|gs):/)"
_ADDRESS = re.compile(rf"{_START}\S*[^\s:,;.)\]'\"]", re.IGNORECASE)
_ARGUMENT = re.compile(rf"(--?[\w-]+=|)({_START}.+)", re.IGNORECASE | re.DOTALL)
_SLASHES = re.compile(r":/+")
# Of an IPv6 address the colons part no port and no password.
_BRACKETED = re.compile(r"\[[^\]@]*\]")


def masked(text: str) -> str:
    """Return a text without what addresses in it must keep to themselves.

    Examples
    --------
    >>> masked("https://me:pass@host/a.svs?token=1: not found")
    'https://host/a.svs: not found'
    """
    return _ADDRESS.sub(lambda found: shown_address(found[0]), text)


def masked_argument(word: str) -> str:
    """Return one argument of a command as `masked` does, where an address ends with the argument.

    Examples
    --------
    >>> masked_argument("https://host/my slide.svs?token=1 2")
    'https://host/my slide.svs'
    """
    found = _ARGUMENT.fullmatch(word)
    return f"{found[1]}{shown_address(found[2])}" if found else masked(word)


def shown_address(address: str) -> str:
    """Return an address without user, password and query: what may be written anywhere."""
    scheme, rest = _SLASHES.split(address, maxsplit=1)
    try:
        parts = split_address(f"{scheme}://{rest}")
    except ValueError:
        return f"{scheme.lower()}://..."
    return f"{scheme.lower()}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def split_address(address: str) -> SplitResult:
    """Take an address apart where it is sure which part is the password.

    Raises
    ------
    ValueError
        Where it is not: a password with a slash in it passes for a host and a port.
    """
    parts = urlsplit(address)
    _ = parts.port
    has_port_or_password = ":" in _BRACKETED.sub("", parts.netloc)
    if has_port_or_password and "@" in f"{parts.path}{parts.query}{parts.fragment}":
        raise ValueError("what stands before the last @ may be a password")
    return parts
