"""Options from the fields of settings: each is declared once, where the setting lives."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import wraps
from inspect import Parameter, signature
from types import UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

import typer
from pydantic.fields import FieldInfo

from wsi_sampath.settings import Flags, Frozen, Help, Panel, Reads

Mark = TypeVar("Mark")


def with_options(**kinds: type[Frozen]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the options that its settings offer, and call it with the settings built.

    Parameters
    ----------
    kinds
        Settings by the names of the command's parameters. Fields marked `Help` become options,
        which `Flags`, `Panel` and `Reads` describe further; all others keep their defaults.

    Raises
    ------
    UsageError
        From the command, before it begins, for a value that its field refuses.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        parameters = signature(command, eval_str=True).parameters.values()
        own = [each for each in parameters if each.name not in kinds]

        @wraps(command)
        def called(**given: Any) -> None:
            built = {name: _built(kind, given) for name, kind in kinds.items()}
            command(**{each.name: given[each.name] for each in own}, **built)

        options = [_option(*each) for kind in kinds.values() for each in offered(kind).items()]
        shown = [each.replace(kind=Parameter.KEYWORD_ONLY) for each in [*own, *options]]
        # What Typer looks at, in place of the command's own signature.
        called.__signature__ = signature(command).replace(parameters=shown)  # type: ignore[attr-defined]
        called.__annotations__ = {each.name: each.annotation for each in shown}
        return called

    return decorate


def offered(kind: type[Frozen]) -> dict[str, FieldInfo]:
    """Return the fields of settings that are options of the command line."""
    return {name: field for name, field in kind.model_fields.items() if _mark(field, Help)}


def flag_of(kind: type[Frozen], name: str) -> str:
    """Return the first flag of a field."""
    return _flags(name, kind.model_fields[name])[0].partition("/")[0]


def _built(kind: type[Frozen], given: Mapping[str, Any]) -> Frozen:
    values = {name: _value(name, field, given[name]) for name, field in offered(kind).items()}
    return kind.build(values, lambda name: flag_of(kind, name))


def _value(name: str, field: FieldInfo, given: Any) -> Any:
    if _switches_off(name, field):
        return not given
    reads = _mark(field, Reads)
    return given if reads is None or given is None else reads.function(given)


def _option(name: str, field: FieldInfo) -> Parameter:
    about, flags, panel = _mark(field, Help), _mark(field, Flags), _mark(field, Panel)
    info = typer.Option(
        *_flags(name, field),
        help=None if about is None else about.text,
        metavar=None if flags is None else flags.metavar,
        rich_help_panel=None if panel is None else panel.value,
    )
    default = False if _switches_off(name, field) else field.default
    if field.is_required():
        default = Parameter.empty
    word = str if _mark(field, Reads) else _plain(field.annotation)
    kind = Union[word, None] if default is None else word  # noqa: UP007 - `word` is a value
    return Parameter(
        name, Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, info]
    )


def _flags(name: str, field: FieldInfo) -> tuple[str, ...]:
    flags = _mark(field, Flags)
    named = () if flags is None else flags.names
    return named or (f"--{name.replace('_', '-')}",)


def _switches_off(name: str, field: FieldInfo) -> bool:
    return field.default is True and _flags(name, field)[0].startswith("--no-")


def _plain(annotation: Any) -> Any:
    """Return the type that Typer reads; bounds and choices are left to the settings."""
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _plain(parts[0])
    if origin in (Union, UnionType):
        return _plain(next(part for part in parts if part is not type(None)))
    if origin is Literal:
        return type(parts[0])
    if origin is not None:
        return origin[tuple(_plain(part) for part in parts)]
    return annotation


def _mark(field: FieldInfo, kind: type[Mark]) -> Mark | None:
    return next((each for each in field.metadata if isinstance(each, kind)), None)
