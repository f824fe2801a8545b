"""The keys of settings as people read them: name, type, default and meaning, from the fields."""

from __future__ import annotations

import types
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from wsi_sampath.settings import Help

_WORDS = {bool: "true or false", int: "whole number", float: "number", str: "text", dict: "block"}
_NOTHING = type(None)


@dataclass(frozen=True)
class Key:
    """One key of a YAML file.

    Attributes
    ----------
    name
        With the blocks around it: ``augmentation.flip``, or ``classes[].name`` within a list.
    type
        In words.
    default
        As YAML writes it; "" for a block, whose keys have their own; None where it must be given.
    help
        What it means.
    """

    name: str
    type: str
    default: str | None
    help: str


def keys_of(
    kind: type[BaseModel], default: BaseModel | None = None, under: str = ""
) -> Iterator[Key]:
    """Yield the keys of settings, each block followed by its own.

    Parameters
    ----------
    kind
        Settings whose fields are marked `Help`, here or in what they inherit from.
    default
        The values that are used where nothing is given; None takes those of the fields.
    under
        What stands before every name.
    """
    for name, field in kind.model_fields.items():
        value = field.get_default(call_default_factory=True)
        if default is not None:
            value = getattr(default, name)
        yield Key(f"{under}{name}", _type_of(field), _default(value), _help(kind, name))
        for block, inside in _blocks(field.annotation, f"{under}{name}"):
            yield from keys_of(block, value if isinstance(value, block) else None, f"{inside}.")


def grouped(kinds: Mapping[str, type[BaseModel]], common: str) -> dict[str, list[Key]]:
    """Return the keys of related settings: those that all share first, then what each has besides.

    Parameters
    ----------
    kinds
        The settings, by their headings.
    common
        The heading of what they share.
    """
    keys = {title: list(keys_of(kind)) for title, kind in kinds.items()}
    first, *others = keys.values()
    shared = [key for key in first if all(key in other for other in others)]
    own = {title: [key for key in found if key not in shared] for title, found in keys.items()}
    return {common: shared, **own}


def _help(kind: type[BaseModel], name: str) -> str:
    """Return what a field means: its own words, or those of the field it replaces."""
    holders = [one for one in kind.__mro__ if issubclass(one, BaseModel)]
    fields = [one.model_fields[name] for one in holders if name in one.model_fields]
    marks = (mark.text for field in fields for mark in field.metadata if isinstance(mark, Help))
    return next(marks)


def _blocks(annotation: Any, name: str) -> Iterator[tuple[type[BaseModel], str]]:
    """Yield the settings that may stand in a field, and how they are called there."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation, name
    within = f"{name}[]" if get_origin(annotation) is tuple else name
    for one in get_args(annotation):
        yield from _blocks(one, within)


def _type_of(field: FieldInfo) -> str:
    return _type(field.annotation, field.metadata)


def _type(annotation: Any, marks: Iterable[Any] = ()) -> str:
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _type(parts[0], [*_unpacked(parts[1:]), *marks])
    if origin in (Union, types.UnionType):
        words = [_type(one) for one in parts if one is not _NOTHING]
        return _either([*dict.fromkeys(words), *(["null"] if _NOTHING in parts else [])])
    if origin is Literal:
        return _either([_yaml(one) for one in parts])
    if origin is tuple:
        words = ["..." if one is Ellipsis else _type(one) for one in parts]
        alike = len(words) > 1 and len({*words}) == 1
        return f"[{len(words)} x {words[0]}]" if alike else f"[{', '.join(words)}]"
    word = _WORDS.get(origin or annotation, "block")
    return f"{word}{_bounds(marks)}"


def _unpacked(marks: Iterable[Any]) -> Iterator[Any]:
    for mark in marks:
        yield from mark.metadata if isinstance(mark, FieldInfo) else (mark,)


def _bounds(marks: Iterable[Any]) -> str:
    found = {
        name: getattr(mark, name)
        for mark in marks
        for name in ("gt", "ge", "lt", "le")
        if getattr(mark, name, None) is not None
    }
    if "ge" in found and "le" in found:
        return f" {_yaml(found['ge'])} to {_yaml(found['le'])}"
    signs = {"gt": "above", "ge": "at least", "lt": "below", "le": "at most"}
    told = [f"{signs[name]} {_yaml(value)}" for name, value in found.items()]
    return f" {' and '.join(told)}" if told else ""


def _either(words: list[str]) -> str:
    return " or ".join(filter(None, [", ".join(words[:-1]), words[-1]]))


def _default(value: Any) -> str | None:
    if value is PydanticUndefined:
        return None
    return "" if isinstance(value, BaseModel) else _yaml(value)


def _yaml(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case float():
            return f"{value:.4g}"
        case str():
            return value or '""'
        case tuple():
            return f"[{', '.join(map(_yaml, value))}]"
        case dict():
            return f"{{{', '.join(f'{name}: {_yaml(one)}' for name, one in value.items())}}}"
        case BaseModel():
            return _yaml(dict(value))
        case _:
            return str(value)
