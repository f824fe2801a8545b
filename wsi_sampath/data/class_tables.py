"""Class tables in YAML: read and checked, their errors explained in one line."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar, get_args

from pydantic import BaseModel, ValidationError

from wsi_sampath.errors import UsageError, WsiError
from wsi_sampath.settings import nearest_name
from wsi_sampath.yaml_files import read_yaml

Table = TypeVar("Table", bound=BaseModel)


def read_table(path: Path, kind: type[Table], hint: str = "") -> Table:
    """Read a YAML table of classes.

    Raises
    ------
    UsageError
        If it cannot be used; `hint` is added where it cannot be read.
    """
    try:
        return kind.model_validate(read_yaml(path))
    except WsiError as error:
        raise UsageError(f"{error.message}{hint}", subject=str(path)) from error
    except ValidationError as error:
        raise UsageError(table_error(error, kind), subject=str(path)) from error


def table_error(error: ValidationError, kind: type[BaseModel]) -> str:
    """Return what is wrong with a table; an unknown key with the nearest known one."""
    errors = error.errors()
    first = next((problem for problem in errors if problem["type"] == "extra_forbidden"), errors[0])
    where = [str(part) for part in first["loc"]]
    if first["type"] != "extra_forbidden":
        return f"{'.'.join(where) or 'file'}: {first['msg'].removeprefix('Value error, ')}"
    part = kind if len(where) == 1 else get_args(kind.model_fields[where[0]].annotation)[0]
    near = nearest_name(where[-1], part.model_fields, least=0.0)
    return f"unknown key '{'.'.join(where)}'; did you mean '{'.'.join([*where[:-1], near])}'?"
