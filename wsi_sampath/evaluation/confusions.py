"""Which class is taken for which: a matrix of counts with its names, and as a table of text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

NONE = "none"
"""Row of what was found where nothing is true, column of what is true and was not found."""
_NAME, _COLUMN, _SUPPORT = 16, 5, 9


def named_confusion(counts: NDArray[np.int64], names: Sequence[str], unit: str) -> dict[str, Any]:
    """Return a matrix of counts with the names of its rows and columns, ready for JSON.

    Parameters
    ----------
    counts
        (k, k + 1), or (k + 1, k + 1) where a first row is of what was found and is not true; the
        first column is of what was not found, or not analysed.
    names
        Names of the k classes.
    unit
        What is counted: ``pixels`` or ``nuclei``.
    """
    rows = [NONE, *names] if len(counts) > len(names) else [*names]
    return {"unit": unit, "true": rows, "predicted": [NONE, *names], "counts": counts.tolist()}


def confusion_lines(confusion: Mapping[str, Any], width: int) -> Iterator[str]:
    """Return the matrix as a table, each row in percent of its sum.

    Parameters
    ----------
    confusion
        From `named_confusion`.
    width
        Columns of the screen; of a wider table it is only said where it can be found.
    """
    counts = np.array(confusion["counts"])
    names, unit = confusion["predicted"], confusion["unit"]
    # The first column says nothing where everything was found.
    shown = [column for column in range(len(names)) if column or counts[:, 0].any()]
    if _NAME + _COLUMN * len(shown) + _SUPPORT > width:
        yield f"  confusion matrix of {len(names) - 1} classes: too wide to show, see --json"
        return
    yield f"  % of the {unit} of each true class (rows) by what was found (columns)"
    heads = [NONE if not column else str(column) for column in shown]
    yield f"{'':{_NAME}}{''.join(f'{head:>{_COLUMN}}' for head in heads)}{unit:>{_SUPPORT}}"
    for name, row in zip(confusion["true"], counts, strict=True):
        total = int(row.sum())
        number = names.index(name)
        label = f"  {number} {name}" if number else f"  {NONE}"
        cells = "".join(f"{_percent(row[column], total):>{_COLUMN}}" for column in shown)
        yield f"{_cut(label):{_NAME}}{cells}{_count(total):>{_SUPPORT}}"


def _cut(label: str) -> str:
    return label if len(label) < _NAME else f"{label[: _NAME - 3]}.."


def _percent(part: int, whole: int) -> str:
    if not whole:
        return "-"
    # Only what is whole is 100, which also keeps the columns apart.
    return f"{min(99.9, 100 * part / whole):.1f}" if part < whole else "100"


def _count(number: int) -> str:
    return f"{number:,}" if number < 1_000_000 else f"{number / 1e6:,.4g} M"
