"""The house rule: imports run downwards only."""

from __future__ import annotations

import ast
from pathlib import Path

import wsi_sampath

ROOT = Path(wsi_sampath.__file__).parent
BASE = {
    "cache",
    "classes",
    "collecting",
    "errors",
    "files",
    "fingerprint",
    "settings",
    "shown",
    "unpacking",
    "yaml_files",
}
MAY_IMPORT = {
    "slides": BASE,
    "models": BASE,
    "outputs": BASE,
    "inference": BASE | {"slides", "models", "outputs"},
    "training": BASE | {"models", "slides"},
    "batch": BASE | {"inference", "slides", "models", "outputs"},
    "viewer": BASE | {"inference", "slides", "models", "outputs"},
}


def imported_rooms(path: Path) -> set[str]:
    rooms = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names = [node.module or ""]
        rooms |= {n.split(".")[1] for n in names if n.startswith("wsi_sampath.")}
    return rooms


def test_imports_run_downwards():
    against = [
        f"{path.relative_to(ROOT)} imports {room}"
        for name, allowed in MAY_IMPORT.items()
        for path in (ROOT / name).rglob("*.py")
        for room in imported_rooms(path) - allowed - {name}
    ]
    assert against == []


def test_every_room_is_ruled():
    rooms = {path.parent.name for path in ROOT.glob("*/*.py")}
    assert rooms <= {*MAY_IMPORT, "cli"}
