from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def overview(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return pytest.importorskip("overview")


def test_the_page_is_what_the_benchmarks_say(overview):
    assert (ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8") == overview.page()


def test_every_stored_result_has_its_place_on_the_page(overview):
    page = overview.page()
    for path in (ROOT / "benchmarks" / "results").glob("*.json"):
        assert f"results/{path.name}" in page, path.name
