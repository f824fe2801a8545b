"""The page of errors names every reason, and no other."""

from __future__ import annotations

import re
from pathlib import Path

from wsi_sampath.errors import EXIT_FAILED, EXIT_OK, EXIT_USAGE, REASONS

PAGE = (Path(__file__).parents[2] / "docs" / "errors.md").read_text(encoding="utf-8")


def test_every_reason_has_its_row():
    assert re.findall(r"^\| `([a-z-]+)` \|", PAGE, re.MULTILINE) == list(REASONS)


def test_every_exit_code_has_its_row():
    rows = re.findall(r"^\| (\d+) \|", PAGE, re.MULTILINE)
    assert list(map(int, rows)) == [EXIT_OK, EXIT_FAILED, EXIT_USAGE]
