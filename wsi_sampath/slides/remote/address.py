"""Addresses of slides on servers: which are taken, what is shown of them, what they are named."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from urllib.parse import unquote

from wsi_sampath.errors import UsageError
from wsi_sampath.masked import shown_address, split_address

PROTOCOLS = ("https", "http", "s3", "gs")
_WEB = ("https", "http")
# One letter is a drive of Windows.
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
# What pathlib makes of an address: it takes two slashes for one.
_COLLAPSED = re.compile(rf"({'|'.join(PROTOCOLS)}):/(?!/)", re.IGNORECASE)


def as_address(place: str | os.PathLike[str]) -> str | None:
    """Return the address that a text or a path is; None where it is a local path."""
    text = os.fspath(place)
    if _SCHEME.match(text):
        return text
    found = None if isinstance(place, str) else _COLLAPSED.match(text)
    return f"{found[1]}://{text[found.end() :]}" if found else None


@dataclass(frozen=True)
class Address:
    """The address of a slide.

    Attributes
    ----------
    full
        As it was given, with what may be secret in it.
    shown
        Without user, password and query: what may be written anywhere.
    name
        The last part of its path, as a file's name.
    """

    full: str
    shown: str
    name: str

    def __repr__(self) -> str:
        return f"Address({self.shown!r})"

    @property
    def protocol(self) -> str:
        """One of `PROTOCOLS`."""
        return self.shown.partition("://")[0]

    @property
    def is_web(self) -> bool:
        """Whether it is fetched by HTTP, rather than from a store of objects."""
        return self.protocol in _WEB


def parse_address(text: str) -> Address:
    """Take an address apart.

    Raises
    ------
    UsageError
        Where its protocol is not read, or it names no file.
    """
    shown = shown_address(text)
    try:
        parts = split_address(text)
    except ValueError:
        message = (
            "this is not a valid URL; escape /, # and ? of a password as %2F, %23 and %3F, and @ "
            "after the host as %40"
        )
        raise UsageError(message, subject=shown) from None
    protocol = parts.scheme.lower()
    if protocol not in PROTOCOLS:
        there = ", ".join(f"{one}://" for one in PROTOCOLS)
        message = f"slides are not read from {protocol}://; there are {there} and local paths"
        raise UsageError(message, subject=shown)
    if protocol not in _WEB and (parts.query or parts.fragment or "@" in parts.netloc):
        message = (
            f"a {protocol}:// address is a bucket and a key, without user, ? or #; a signed link "
            "is given as it is, with https://"
        )
        raise UsageError(message, subject=shown)
    if protocol in _WEB and re.search(r"\s", text):
        # Where a text is searched for addresses, they end with a space, and a secret may follow.
        raise UsageError("this URL holds a space; write it as %20", subject=shown)
    last = parts.path.rpartition("/")[2]
    name = re.sub(r"[/\0]", "_", unquote(last) if protocol in _WEB else last)
    if not parts.netloc.rpartition("@")[2] or name in ("", ".", ".."):
        raise UsageError("this URL names no file: slides are named one by one", subject=shown)
    return Address(text, shown, name)
