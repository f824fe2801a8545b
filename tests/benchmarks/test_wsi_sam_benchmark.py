"""The page on WSI-SAM says what was measured."""

from __future__ import annotations

import json
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))

import wsi_sam  # noqa: E402


def test_the_page_has_the_measured_numbers():
    result = json.loads((ROOT / "benchmarks" / "results" / "wsi_sam.json").read_text())
    page = (ROOT / "docs" / "wsi-sam.md").read_text()
    missing = [row for row in wsi_sam.table(result) if row not in page]
    assert missing == []
    patients = result["patients"]
    assert str(result["test"]["seed 0"]["objects"]) in page
    assert f"{patients['train']} patients" in page
