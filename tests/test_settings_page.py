"""docs/settings.md names what there is."""

from __future__ import annotations

import re
from pathlib import Path

import typer

from wsi_sampath.cli.segment import Request, app
from wsi_sampath.inference.settings import SegmentSettings
from wsi_sampath.settings import belongs

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
OWN = re.compile(r"\bWSI_SAMPATH_[A-Z]+\b")


def test_every_environment_variable_of_ours_is_listed():
    folders = ("wsi_sampath", "pipelines", "benchmarks", "tests")
    files = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    used = {name for path in files for name in OWN.findall(path.read_text(encoding="utf-8"))}
    rows = [line for line in PAGE.splitlines() if line.startswith("|")]
    listed = {name for row in rows for name in OWN.findall(row)}
    assert "WSI_SAMPATH_CACHE" in used
    assert listed == used


def test_what_no_file_and_no_repetition_takes_is_named():
    flags = {one.name: one.opts[0] for one in typer.main.get_command(app).params}
    kept = {
        flags[name]
        for kind in (SegmentSettings, Request)
        for name, field in kind.model_fields.items()
        if belongs(field) is not None
    }
    assert "--region" in kept
    assert [flag for flag in kept if f"`{flag}`" not in PAGE] == []
