"""Text in cells of a CSV, which spreadsheets take for formulas where it begins like one."""

from __future__ import annotations

from wsi_sampath.shown import shown

# As OWASP lists them, with their full-width twins.
_FORMULAS = tuple("=+-@\t\r\uff1d\uff0b\uff0d\uff20")


def quoted(text: str) -> str:
    """Return a cell that every spreadsheet shows as the text it is, on one line.

    Examples
    --------
    >>> quoted("=1+1.svs"), quoted("a.svs")
    ("'=1+1.svs", 'a.svs')
    """
    return f"'{shown(text)}" if text.startswith(_FORMULAS) else shown(text)


def unquoted(cell: str) -> str:
    """Return the text of a cell that `quoted` wrote with an apostrophe."""
    return cell[1:] if cell[:1] == "'" and cell[1:].startswith(_FORMULAS) else cell
