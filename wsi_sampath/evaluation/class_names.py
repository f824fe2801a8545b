"""Classes of a model and those of what it is scored against, matched by name, capitals or not."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wsi_sampath.classes import ClassSpec, alike, name_key
from wsi_sampath.errors import UsageError
from wsi_sampath.settings import nearest_name

Pairs = Sequence[tuple[str, str]]
"""A pair of ``--same``: a class of the model, and a name that means it."""


@dataclass(frozen=True)
class Matched:
    """The classes that are scored, and where the labels of data and model go among them.

    Attributes
    ----------
    names
        Names of the scored classes: those of the data, several as one where one class of the model
        means them all.
    of_data, of_model
        uint8, the scored label of every label of the data and of the model; 0 stays 0.
    """

    names: list[str]
    of_data: NDArray[np.uint8]
    of_model: NDArray[np.uint8]

    def legend(self, classes: Sequence[ClassSpec]) -> list[ClassSpec]:
        """Return the scored classes in the colours of the data's, several as the first of them."""
        scored = self.of_data.tolist()
        return [
            ClassSpec(name=name, color=classes[scored.index(label) - 1].color)
            for label, name in enumerate(self.names, start=1)
        ]


def labels_by_name(names: Sequence[str], whose: str, subject: str) -> dict[str, int]:
    """Return the labels 1..k of the names in lower case.

    Raises
    ------
    UsageError
        If two names differ only in capitals.
    """
    pair = alike(names)
    if pair:
        message = f"{whose} several classes of one name ({', '.join(pair)}): rename all but one"
        raise UsageError(message, subject=subject)
    return {name_key(name): label for label, name in enumerate(names, start=1)}


def check_known(names: Iterable[str], known: Sequence[str], where: str) -> None:
    """Refuse a name that is not among the known ones.

    Parameters
    ----------
    names, known
        Names, capitals or not.
    where
        The option, and what has the known names.

    Raises
    ------
    UsageError
        With the nearest known name.
    """
    lower = {name_key(name): name for name in known}
    for name in names:
        if name_key(name) not in lower:
            near = nearest_name(name_key(name), lower, least=0.0)
            hint = f"; did you mean {lower[near]!r}?" if near else ""
            raise UsageError(f"{where} no {name!r} (but {', '.join(known) or 'nothing'}){hint}")


def match(ours: Sequence[str], theirs: Sequence[str], pairs: Pairs, subject: str) -> Matched:
    """Match the classes of a model with those of labelled patches.

    A class of the model means the names that `pairs` give it, and its own name unless `pairs`
    mention both.

    Parameters
    ----------
    ours, theirs
        Classes of the model and of the patches, in the order of their labels.
    pairs
        Classes of the model that the patches name otherwise.
    subject
        The folder of the patches.

    Raises
    ------
    UsageError
        For an unknown name, for equal names, or if a class of the model has no counterpart.
    """
    check_known([name for name, _ in pairs], ours, "--same: the model has")
    check_known([name for _, name in pairs], theirs, "--same: the data have")
    our = labels_by_name(ours, "the model has", subject)
    their = labels_by_name(theirs, "classes.yaml has", subject)
    stated = {(our[name_key(ours)], their[name_key(other)]) for ours, other in pairs}
    means = _meanings(our, their, stated)
    lacking = [name for name, meant in zip(ours, means, strict=True) if not meant]
    if lacking:
        raise UsageError(
            f"the model has {', '.join(ours)}, the data {', '.join(theirs)}: "
            f"say what {lacking[0]!r} is by --same MODEL=DATA",
            subject=subject,
        )
    return _joined(theirs, means)


def _meanings(
    our: dict[str, int], their: dict[str, int], stated: set[tuple[int, int]]
) -> list[set[int]]:
    """Return the labels of the data that every class of the model means, in its order."""
    named, taken = {label for label, _ in stated}, {other for _, other in stated}
    own = {(label, their[name]) for name, label in our.items() if name in their}
    kept = stated | {
        (label, other) for label, other in own if label not in named or other not in taken
    }
    return [{other for first, other in kept if first == label} for label in our.values()]


def _joined(theirs: Sequence[str], means: Sequence[set[int]]) -> Matched:
    """Merge all labels that a class of the model means into one class."""
    lowest = np.arange(len(theirs) + 1)
    for meant in means:
        together = lowest[sorted(meant)]
        lowest[np.isin(lowest, together)] = together.min()
    kept, of_data = np.unique(lowest, return_inverse=True)
    names = [
        " + ".join(name for name, to in zip(theirs, lowest[1:], strict=True) if to == label)
        for label in kept[1:]
    ]
    of_model = [0, *(of_data[min(meant)] for meant in means)]
    return Matched(names, of_data.astype(np.uint8), np.array(of_model, np.uint8))
