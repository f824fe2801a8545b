"""What the page asks of a session, made into events."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from wsi_sampath.classes import color_of, name_key
from wsi_sampath.errors import WsiError
from wsi_sampath.prompt_files.grouping import MOST_POINTS
from wsi_sampath.prompt_files.prompt import Prompt
from wsi_sampath.viewer.drawn import (
    Box,
    ClassName,
    Color,
    Drawn,
    DrawnClass,
    Id,
    Name,
    Point,
    Told,
    ToldFeature,
    ToldGeometry,
    shape_of,
)
from wsi_sampath.viewer.events import MOST_OBJECTS, Event, Put, Remove, Turn
from wsi_sampath.viewer.making import Maker
from wsi_sampath.viewer.session import Session


class Add(Told):
    """A new object.

    Attributes
    ----------
    feature
        What it is; an id of its own if it has none.
    token
        Of the candidate that was accepted, which then counts for outline, quality and prompt.
    """

    type: Literal["add"]
    feature: ToldFeature
    token: Annotated[str, Field(max_length=64)] | None = None


class Change(Told):
    """Another outline, name or class of an object; what is not given stays, and None removes."""

    type: Literal["change"]
    id: Id
    geometry: ToldGeometry | None = None
    name: Name | None = None
    class_name: Annotated[ClassName | None, Field(alias="class")] = None


class Delete(Told):
    """Objects to remove."""

    type: Literal["delete"]
    ids: Annotated[tuple[Id, ...], Field(min_length=1, max_length=MOST_OBJECTS)]


class SetClass(Told):
    """A new class, or another colour of one."""

    type: Literal["class"]
    name: Annotated[ClassName, Field(min_length=1)]
    color: Color


class Step(Told):
    """A step back or forth."""

    type: Literal["undo", "redo"]


class ToldStep(Told):
    """An event as the page asks for it, and the state that it saw."""

    revision: Annotated[int, Field(ge=0)]
    event: Annotated[Add | Change | Delete | SetClass | Step, Field(discriminator="type")]


class Question(Told):
    """What is asked of the network, all of it, and the candidate that it may go on from."""

    points: Annotated[tuple[Point, ...], Field(max_length=MOST_POINTS)] = ()
    box: Box | None = None
    outline: ToldGeometry | None = None
    previous: Annotated[str, Field(max_length=64)] | None = None

    def prompt(self, size: tuple[int, int]) -> Prompt:
        """Return the prompt, on a slide of a size.

        Raises
        ------
        WsiError
            ``bad-input`` for an outline that is none.
        """
        outline = None if self.outline is None else shape_of(self.outline, size)
        places = np.array(self.points, np.float64).reshape(-1, 3)
        box = None
        if self.box is not None:
            (x0, y0), (x1, y1) = np.sort(np.reshape(self.box, (2, 2)), axis=0).tolist()
            box = (x0, y0, x1, y1)
        labels = places[:, 2].astype(np.int64)
        return Prompt(id="", points=places[:, :2], labels=labels, box=box, outline=outline)


def event_for(
    asked: Add | Change | Delete | SetClass | Step,
    session: Session,
    accepted: Callable[[str], Drawn],
    maker: Maker | None,
) -> Event:
    """Return the event that does what the page asks for.

    Parameters
    ----------
    asked
        What it asks for.
    session
        Where.
    accepted
        Gives what the candidate of a token becomes.
    maker
        The network, which made whatever has a prompt.

    Raises
    ------
    WsiError
        ``bad-input`` where it makes no sense.
    """
    match asked:
        case Add():
            return _added(asked, session, accepted, maker)
        case Change():
            return _changed(asked, session)
        case Delete():
            return Remove(asked.ids)
        case SetClass():
            known = session.drawing.class_of(asked.name)
            name = known.name if known else asked.name
            return Put("class", classes=(DrawnClass(name=name, color=asked.color),))
        case Step():
            return Turn(asked.type)


def with_classes(
    kind: Literal["add", "change", "import"],
    session: Session,
    objects: Iterable[Drawn],
    colors: dict[str, str | None],
) -> Put:
    """Return an event that puts objects, with the classes that are new among theirs.

    Parameters
    ----------
    kind
        What is done.
    session
        Where. Names of classes that differ only in capitals from those there become those.
    objects
        Their classes need not be there yet.
    colors
        By `name_key`, what is known of the colours of new classes.
    """
    known = {name_key(one.name): one for one in session.classes()}
    new: dict[str, DrawnClass] = {}
    put = []
    for one in objects:
        key = name_key(one.class_name)
        if one.class_name and key not in session.drawing.classes and key not in new:
            color = colors.get(key) or color_of(one.class_name)
            new[key] = known.get(key) or DrawnClass(name=one.class_name, color=color)
        spec = session.drawing.classes.get(key) or new.get(key)
        put.append(replace(one, class_name=spec.name if spec else ""))
    return Put(kind, tuple(put), tuple(new.values()))


def _added(
    asked: Add, session: Session, accepted: Callable[[str], Drawn], maker: Maker | None
) -> Event:
    told = asked.feature.properties
    if asked.token is None:
        (drawn,) = Drawn.told([asked.feature], session.subject.frame.size)
        if drawn.prompt is not None and not drawn.model and maker is not None:
            drawn = replace(drawn, model=maker.model, weights=maker.weights)
    else:
        drawn = accepted(asked.token)
        drawn = replace(drawn, name=told.name or "", class_name=told.class_name or "")
    if drawn.id in session.drawing.objects:
        raise WsiError("bad-input", f"there is an object {drawn.id} already")
    return with_classes("add", session, [drawn], {name_key(drawn.class_name): told.color})


def _changed(asked: Change, session: Session) -> Event:
    before = drawn = session.drawing.object(asked.id)
    if asked.geometry is not None:
        shape = shape_of(asked.geometry, session.subject.frame.size)
        if shape != before.shape:
            # What a network thought of its own outline says nothing of another one.
            edited = bool(before.model) or before.edited
            drawn = replace(drawn, shape=shape, quality=None, edited=edited)
    if "name" in asked.model_fields_set:
        drawn = replace(drawn, name=asked.name or "")
    if "class_name" in asked.model_fields_set:
        drawn = replace(drawn, class_name=asked.class_name or "")
    return with_classes("change", session, [drawn], {})
