"""HTML pages from the templates of our rooms, all by the same rules."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

Filters = Mapping[str, Callable[..., str]]


def render_template(
    room: str,
    template: str,
    values: Mapping[str, Any],
    *,
    filters: Filters,
) -> str:
    """Fill in a template: everything is escaped, and a name without a value is an error.

    Parameters
    ----------
    room, template
        The package in which the template lies, and its file name.
    values
        What the template shows.
    filters
        Its own filters, by name.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader(room, ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_writable,
    )
    environment.filters |= dict(filters)
    return environment.get_template(template).render(values)


def link(path: str) -> str:
    """Return a path as a URL, by its bytes: a name may be none that UTF-8 can write."""
    return quote(os.fsencode(path))


def _writable(value: object) -> object:
    """Show the bytes of a name that are not UTF-8."""
    if type(value) is not str:  # and not markup, which is ready
        return value
    return value.encode("utf-8", "backslashreplace").decode()
