"""The events of a session, and the objects and classes that they leave: undo and redo included.

An event says what is there afterwards, not what was done with the mouse, so that it means the same
whenever it is read again. Undo and redo are events themselves.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from pydantic import Field

from wsi_sampath.classes import name_key
from wsi_sampath.errors import WsiError
from wsi_sampath.viewer.drawn import Drawn, DrawnClass, Id, Told, ToldFeature

MOST_OBJECTS = 50_000
MOST_CLASSES = 200
_T = TypeVar("_T")


@dataclass(frozen=True)
class Put:
    """Objects and classes as they are from now on, those of before replaced.

    Attributes
    ----------
    kind
        What was done, for whoever reads the file.
    objects, classes
        Those that are new or other than before.
    """

    kind: Literal["add", "change", "import", "class"]
    objects: tuple[Drawn, ...] = ()
    classes: tuple[DrawnClass, ...] = ()

    def told(self) -> dict[str, Any]:
        """Return it as a line of the file says it."""
        features = [one.feature() for one in self.objects]
        classes = [one.model_dump() for one in self.classes]
        parts = {"features": features, "classes": classes}
        return {"type": self.kind, **{key: value for key, value in parts.items() if value}}


@dataclass(frozen=True)
class Remove:
    """Objects that are gone from now on."""

    ids: tuple[str, ...]

    def told(self) -> dict[str, Any]:
        """Return it as a line of the file says it."""
        return {"type": "delete", "ids": list(self.ids)}


@dataclass(frozen=True)
class Turn:
    """A step back, or forth again."""

    kind: Literal["undo", "redo"]

    def told(self) -> dict[str, Any]:
        """Return it as a line of the file says it."""
        return {"type": self.kind}


Event = Put | Remove | Turn


class _ToldEvent(Told):
    type: Literal["add", "change", "import", "class", "delete", "undo", "redo"]
    features: list[ToldFeature] = Field(default_factory=list)
    classes: list[DrawnClass] = Field(default_factory=list)
    ids: list[Id] = Field(default_factory=list)


def event_of(values: Mapping[str, Any], size: tuple[int, int]) -> Event:
    """Return the event of a line of a session file.

    Parameters
    ----------
    values
        What `told` gave.
    size
        Of the slide.

    Raises
    ------
    WsiError
        ``bad-input`` for anything else.
    """
    told: _ToldEvent = _ToldEvent.read(values)
    match told.type:
        case "delete":
            return Remove(tuple(told.ids))
        case "undo" | "redo":
            return Turn(told.type)
        case _:
            objects = tuple(Drawn.told(told.features, size))
            return Put(told.type, objects, tuple(told.classes))


@dataclass(frozen=True)
class Step:
    """What an event changes: by id, or by key of a class, what was and what is; None for nothing.

    Attributes
    ----------
    objects, classes
        All that changes.
    """

    objects: Mapping[str, tuple[Drawn | None, Drawn | None]] = field(default_factory=dict)
    classes: Mapping[str, tuple[DrawnClass | None, DrawnClass | None]] = field(default_factory=dict)

    def back(self) -> Step:
        """Return the step that undoes this one."""
        return Step(
            {key: (new, old) for key, (old, new) in self.objects.items()},
            {key: (new, old) for key, (old, new) in self.classes.items()},
        )


class Drawing:
    """Objects and classes as events left them.

    Attributes
    ----------
    objects
        By id.
    classes
        By `name_key`, in the order in which they came.
    revision
        How many events there were.
    """

    def __init__(self) -> None:
        self.objects: dict[str, Drawn] = {}
        self.classes: dict[str, DrawnClass] = {}
        self.revision = 0
        self._order: dict[str, int] = {}
        self._done: list[Step] = []
        self._undone: list[Step] = []

    @property
    def can_undo(self) -> bool:
        """Whether there is a step to take back."""
        return bool(self._done)

    @property
    def can_redo(self) -> bool:
        """Whether there is one to take again."""
        return bool(self._undone)

    def ordered(self) -> Iterator[Drawn]:
        """Yield the objects in the order in which they first came."""
        for key in sorted(self.objects, key=self._order.__getitem__):
            yield self.objects[key]

    def class_of(self, name: str) -> DrawnClass | None:
        """Return the class of a name, however it is spelt; None where there is none."""
        return self.classes.get(name_key(name))

    def step(self, event: Event) -> Step:
        """Return what an event would change, without changing it.

        Raises
        ------
        WsiError
            ``bad-input`` where it makes no sense now.
        """
        match event:
            case Turn("undo"):
                return _last(self._done, "nothing to undo").back()
            case Turn():
                return _last(self._undone, "nothing to redo")
            case Remove():
                return self._removal(event)
            case Put():
                return self._putting(event)

    def take(self, event: Event, step: Step) -> None:
        """Let an event happen.

        Parameters
        ----------
        event
            The event.
        step
            What `step` said of it.
        """
        for key, (_, new) in step.objects.items():
            self._order.setdefault(key, len(self._order))
            _put(self.objects, key, new)
        for key, (_, spec) in step.classes.items():
            _put(self.classes, key, spec)
        match event:
            case Turn("undo"):
                self._undone.append(self._done.pop())
            case Turn():
                self._done.append(self._undone.pop())
            case _:
                self._done.append(step)
                self._undone.clear()
        self.revision += 1

    def _removal(self, event: Remove) -> Step:
        if not event.ids or len(set(event.ids)) < len(event.ids):
            raise WsiError("bad-input", "ids must name objects, each once")
        return Step({one: (self.object(one), None) for one in event.ids})

    def object(self, key: str) -> Drawn:
        """Return the object of an id.

        Raises
        ------
        WsiError
            ``bad-input`` where there is none.
        """
        if key not in self.objects:
            raise WsiError("bad-input", f"there is no object {key}")
        return self.objects[key]

    def _putting(self, event: Put) -> Step:
        objects = {one.id: (self.objects.get(one.id), one) for one in event.objects}
        classes = {
            name_key(one.name): (self.classes.get(name_key(one.name)), one) for one in event.classes
        }
        if not objects and not classes:
            raise WsiError("bad-input", "there is nothing in it")
        if len(objects) < len(event.objects) or len(classes) < len(event.classes):
            raise WsiError("bad-input", "an object, or a class, comes twice in it")
        if len(self.objects.keys() | objects.keys()) > MOST_OBJECTS:
            raise WsiError("bad-input", f"more than {MOST_OBJECTS:,} objects are too many to edit")
        known = self.classes.keys() | classes.keys()
        if len(known) > MOST_CLASSES:
            raise WsiError("bad-input", f"more than {MOST_CLASSES} classes are too many")
        for one in event.objects:
            if one.class_name and name_key(one.class_name) not in known:
                raise WsiError("bad-input", f"there is no class {one.class_name!r}")
        return Step(objects, classes)


def _last(steps: list[Step], otherwise: str) -> Step:
    if not steps:
        raise WsiError("bad-input", f"there is {otherwise}")
    return steps[-1]


def _put(held: dict[str, _T], key: str, value: _T | None) -> None:
    if value is None:
        held.pop(key, None)
    else:
        held[key] = value
