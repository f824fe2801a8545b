"""Options from the fields of settings: each is declared once, where the setting lives."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from functools import wraps
from inspect import Parameter, signature
from types import UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

import typer
from pydantic.fields import FieldInfo

from wsi_sampath.settings import Flags, Frozen, Help, Panel, Reads, Suggests, parts_of

Mark = TypeVar("Mark")
_CONTEXT = Parameter("context", Parameter.KEYWORD_ONLY, annotation=typer.Context)


Values = Mapping[str, Mapping[str, Any]]
"""Values of settings by the name of the command's parameter, and by that of the field."""
Earlier = Callable[[dict[str, Any], Collection[str], Mapping[str, type[Frozen]]], Values]
"""From all options, the names of those that were given, and the settings of the command."""


def with_options(
    earlier: Earlier | None = None, /, **kinds: type[Frozen]
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the options that its settings offer, and call it with the settings built.

    Parameters
    ----------
    earlier
        Finds values from elsewhere, as files, for what the command line does not give.
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
        # Typer hands out its context once.
        context = next((each for each in own if each.annotation is typer.Context), _CONTEXT)

        @wraps(command)
        def called(**given: Any) -> None:
            said = _said(given[context.name], given)
            found = {} if earlier is None else earlier(given, said, kinds)
            built = {
                name: _built(kind, given, _without(found.get(name, {}), said))
                for name, kind in kinds.items()
            }
            command(**{each.name: given[each.name] for each in own}, **built)

        options = [_option(*each) for kind in kinds.values() for each in offered(kind).items()]
        added = [] if context in own else [context]
        shown = [each.replace(kind=Parameter.KEYWORD_ONLY) for each in [*own, *options, *added]]
        # What Typer looks at, in place of the command's own signature.
        called.__signature__ = signature(command).replace(parameters=shown)  # type: ignore[attr-defined]
        called.__annotations__ = {each.name: each.annotation for each in shown}
        return called

    return decorate


def offered(kind: type[Frozen]) -> dict[str, FieldInfo]:
    """Return the fields of settings that are options of the command line."""
    return {name: field for name, field in kind.model_fields.items() if mark_of(field, Help)}


def blocks_of(kind: type[Frozen]) -> dict[str, type[Frozen]]:
    """Return the blocks within settings that are settings themselves."""
    return {name: part for name, part in parts_of(kind).items() if issubclass(part, Frozen)}


def flag_of(kind: type[Frozen], name: str) -> str:
    """Return the first flag of a field."""
    return _flags(name, kind.model_fields[name])[0].partition("/")[0]


def _said(context: typer.Context, names: Iterable[str]) -> set[str]:
    """Return the names of the options that the command line gives."""
    sources = {name: context.get_parameter_source(name) for name in names}
    return {name for name, source in sources.items() if source and source.name == "COMMANDLINE"}


def _without(values: Mapping[str, Any], names: Collection[str]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name not in names}


def _built(kind: type[Frozen], given: Mapping[str, Any], found: Mapping[str, Any]) -> Frozen:
    values = {name: _value(name, field, given[name]) for name, field in offered(kind).items()}
    return kind.build({**values, **found}, lambda name: flag_of(kind, name))


def _value(name: str, field: FieldInfo, given: Any) -> Any:
    if switches_off(name, field):
        return not given
    return given if given is None else read_word(field, given)


def reads(field: FieldInfo) -> bool:
    """Return whether a setting is read from one word; see `Reads`."""
    return mark_of(field, Reads) is not None


def read_word(field: FieldInfo, word: Any) -> Any:
    """Return what a word means for a setting that is read from one, and all else as it is."""
    mark = mark_of(field, Reads)
    return word if mark is None else mark.function(word)


def _option(name: str, field: FieldInfo) -> Parameter:
    about, flags, panel = mark_of(field, Help), mark_of(field, Flags), mark_of(field, Panel)
    info = typer.Option(
        *_flags(name, field),
        help=None if about is None else about.text,
        metavar=None if flags is None else flags.metavar,
        rich_help_panel=None if panel is None else panel.value,
        autocompletion=suggesting(lambda: _suggested(field)),
    )
    default = False if switches_off(name, field) else field.default
    if field.is_required():
        default = Parameter.empty
    word = str if mark_of(field, Reads) else plain_type(field)
    kind = Union[word, None] if default is None else word  # noqa: UP007 - `word` is a value
    return Parameter(
        name, Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, info]
    )


def suggesting(find: Callable[[], Iterable[str]]) -> Callable[[str], list[str]]:
    """Return what Typer calls to complete the beginning of a word."""

    def complete(incomplete: str) -> list[str]:
        return [word for word in find() if word.startswith(incomplete)]

    return complete


def _suggested(field: FieldInfo) -> Iterable[str]:
    mark = mark_of(field, Suggests)
    return _choices(field.annotation) if mark is None else mark.find()


def _choices(annotation: Any) -> list[str]:
    parts = get_args(annotation)
    if get_origin(annotation) is Literal:
        return [str(part) for part in parts]
    return [word for part in parts for word in _choices(part)]


def _flags(name: str, field: FieldInfo) -> tuple[str, ...]:
    flags = mark_of(field, Flags)
    named = () if flags is None else flags.names
    return named or (f"--{name.replace('_', '-')}",)


def switches_off(name: str, field: FieldInfo) -> bool:
    """Return whether a setting's only flag makes it false."""
    return field.default is True and _flags(name, field)[0].startswith("--no-")


def plain_type(field: FieldInfo) -> Any:
    """Return the type of a setting without bounds, choices and None, as Typer reads it."""
    return _plain(field.annotation)


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


def mark_of(field: FieldInfo, kind: type[Mark]) -> Mark | None:
    """Return the mark of a kind that a field has, if it has one."""
    return next((each for each in field.metadata if isinstance(each, kind)), None)
