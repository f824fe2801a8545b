"""Names and counts as people read them; no character of a name acts on a terminal."""

from __future__ import annotations

import json
import re
from typing import Any

# Control characters, line and paragraph separators, marks that turn the direction of writing, and
# the halves by which Python stands for bytes that are not UTF-8.
_ACTING = re.compile(
    "[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
)
_LONGEST = 400


def shown(text: object) -> str:
    r"""Return a text with everything escaped that would act on a terminal, or not be printed.

    Examples
    --------
    >>> print(shown("a\x1b[31m\nb.svs"))
    a\x1b[31m\nb.svs
    >>> print(shown("Schnitt µm.svs"))
    Schnitt µm.svs
    """
    return _ACTING.sub(_escaped, str(text))


def shortened(text: str) -> str:
    """Return a text without its middle where it is longer than any sensible path."""
    if len(text) <= _LONGEST:
        return text
    return f"{text[: _LONGEST // 2]}...{text[-_LONGEST // 4 :]}"


def plural(number: int, noun: str, several: str = "") -> str:
    """Return a count with its noun: ``"1 tile"``, ``"2 tiles"``, or `several` where not one."""
    return f"{number} {noun if number == 1 else several or noun + 's'}"


def format_duration(seconds: float) -> str:
    """Return a time as a person would write it: ``"4.2 s"``, ``"3 min 20 s"``, ``"7 h 5 min"``."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def json_line(values: Any, *, compact: bool = False) -> str:
    r"""Return JSON values as one line that any terminal, pipe or file takes.

    Names that are not UTF-8 come back from `json.loads` as `os.fsdecode` gave them.

    Parameters
    ----------
    values
        What `json.dumps` takes.
    compact
        Whether to leave out spaces between members.

    Examples
    --------
    >>> print(json_line({"slide": "µ\udcff\x9b.svs"}))
    {"slide": "µ\udcff\u009b.svs"}
    """
    separators = (",", ":") if compact else None
    text = json.dumps(values, ensure_ascii=False, separators=separators)
    return _ACTING.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _escaped(found: re.Match[str]) -> str:
    code = ord(found[0])
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    return found[0].encode("unicode_escape", "surrogatepass").decode()
