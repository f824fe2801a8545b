"""Squares of one size that together show all of a patch."""

from __future__ import annotations


def starts(length: int, side: int) -> list[int]:
    """Return where the fewest crops begin that cover a length, their overlap spread evenly."""
    room = max(0, length - side)
    count = -(-room // side) + 1
    return [round(room * number / max(1, count - 1)) for number in range(count)]
