"""The house rule: imports run downwards only, and never in a circle."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import wsi_sampath

ROOT = Path(wsi_sampath.__file__).parent
FACE = {"__init__", "__main__"}
GROUND = {path.stem for path in ROOT.glob("*.py")} - FACE - {"doctor"}
MAY_IMPORT = {
    "ground": set(),
    "slides": set(),
    "models": set(),
    "outputs": set(),
    "prompt_files": {"slides", "outputs"},
    "synthetic": {"slides"},
    "data": {"slides"},
    "inference": {"slides", "models", "outputs", "prompt_files"},
    "evaluation": {"slides", "models", "outputs", "data", "inference", "prompt_files"},
    "training": {"models", "data", "evaluation"},
    "batch": {"inference", "slides", "models", "outputs"},
    "viewer": {"batch", "inference", "slides", "models", "outputs", "prompt_files"},
    "doctor": {"inference", "slides", "models", "outputs", "synthetic"},
}
MODULES = {
    ".".join(path.relative_to(ROOT.parent).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(ROOT.rglob("*.py"))
}


def room_of(module: str) -> str:
    """Return the folder of a module; all single files but the roof's are the ground floor."""
    name = module.split(".")[1]
    return "ground" if name in GROUND else name


def imported(path: Path) -> Iterator[str]:
    """Yield the modules of ours that a file imports, in functions and for types as well."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in MODULES)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            found = [name for name in names if name in MODULES]
            yield from found
            if len(found) < len(names) and node.module in MODULES:
                yield node.module


INSIDE = {name: path for name, path in MODULES.items() if name.partition(".")[2] not in {"", *FACE}}


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_imports_run_downwards(room):
    allowed = {room, "ground", *MAY_IMPORT[room]}
    against = [
        f"{module} imports {other}"
        for module, path in INSIDE.items()
        if room_of(module) == room
        for other in imported(path)
        if other != "wsi_sampath" and room_of(other) not in allowed
    ]
    assert against == []


def test_every_room_is_ruled():
    assert {room_of(module) for module in INSIDE} == {*MAY_IMPORT, "cli"}


def test_nobody_inside_imports_the_face():
    assert [name for name, path in INSIDE.items() if "wsi_sampath" in imported(path)] == []


def test_nobody_but_the_face_starts_commands():
    users = {
        name
        for name, path in INSIDE.items()
        if not name.startswith("wsi_sampath.cli")
        and any(other.startswith("wsi_sampath.cli") for other in imported(path))
    }
    assert users == set()


def test_no_module_imports_itself_by_others():
    arrows = {name: set(imported(path)) - {name} for name, path in INSIDE.items()}
    cycles, done = [], set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        if name in trail:
            cycles.append(" -> ".join([*trail[trail.index(name) :], name]))
        elif name not in done:
            for other in sorted(arrows.get(name, ())):
                visit(other, (*trail, name))
            done.add(name)

    for name in arrows:
        visit(name, ())
    assert cycles == []


def test_no_module_is_longer_than_400_lines():
    lengths = {
        name: len(path.read_text(encoding="utf-8").splitlines()) for name, path in MODULES.items()
    }
    assert {name: length for name, length in lengths.items() if length > 400} == {}


def test_no_function_is_longer_than_60_lines():
    long = [
        f"{name}.{node.name}: {node.end_lineno - node.lineno + 1}"
        for name, path in MODULES.items()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.end_lineno - node.lineno >= 60
    ]
    assert long == []
