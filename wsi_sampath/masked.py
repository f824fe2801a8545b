"""Texts without the secrets of the addresses in them."""

from __future__ import annotations

import re
from urllib.parse import SplitResult, urlsplit

# pathlib takes the two slashes of an address for one.
_START = r"(?:[a-z][a-z0-9+.-]+://|\b(?:https?|s3|gs):/)"
_ADDRESS = re.compile(rf"{_START}\S*[^\s:,;.)\]'\"]", re.IGNORECASE)
_ARGUMENT = re.compile(rf"(--?[\w-]+=|)({_START}.+)", re.IGNORECASE | re.DOTALL)
_SLASHES = re.compile(r":(/+)")
# Of an IPv6 address the colons part no port and no password.
_BRACKETED = re.compile(r"\[[^\]@]*\]")
# Where in an archive or a repository pip finds a package, and the commit that it takes of it.
_FOLDER = re.compile(r"#subdirectory=[\w.~%/-]+\Z", re.ASCII)
_COMMIT = re.compile(r"@[^/@]*\Z")


def masked(text: str) -> str:
    """Return a text without what addresses in it must keep to themselves.

    Examples
    --------
    >>> masked("https://me:pass@host/a.svs?token=1: not found")
    'https://host/a.svs: not found'
    """
    return _ADDRESS.sub(lambda found: _shown(found[0]), text)


def _shown(address: str) -> str:
    folder = _FOLDER.search(address)
    return shown_address(address) + (folder[0] if folder else "")


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
    """Return an address without user, password and query: what may be written anywhere.

    A user without a password stays where the protocol is SSH, whose users are no secret.
    """
    scheme, slashes, rest = _SLASHES.split(address, maxsplit=1)
    if scheme.lower() == "file" and slashes == "///":
        # The third slash is the root of the disk, since no host is named.
        rest = f"/{rest}"
    try:
        parts = split_address(f"{scheme}://{rest}")
    except ValueError:
        return f"{scheme.lower()}://..."
    user, _, host = parts.netloc.rpartition("@")
    by = f"{user}@" if user and ":" not in user and scheme.lower().endswith("ssh") else ""
    return f"{scheme.lower()}://{by}{host}{parts.path}"


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
    path = _COMMIT.sub("", parts.path) if "+" in parts.scheme else parts.path
    if has_port_or_password and "@" in f"{path}{parts.query}{parts.fragment}":
        raise ValueError("what stands before the last @ may be a password")
    return parts
