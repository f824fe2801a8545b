"""The committed page is the one that was built from the committed source."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

import wsi_sampath.viewer

ROOM = Path(wsi_sampath.viewer.__file__).parent
BUILT = json.loads((ROOM / "static" / "built.json").read_text(encoding="utf-8"))
MOST_BYTES = 1_200_000


def hashes(folder: Path, *, without: str) -> dict[str, str]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
        if without not in path.relative_to(folder).parts
    }


@pytest.mark.parametrize(
    ("part", "folder", "without"),
    [("sources", ROOM / "source", "node_modules"), ("outputs", ROOM / "static", "built.json")],
)
def test_page_was_built_from_this_source(part, folder, without):
    assert hashes(folder, without=without) == BUILT[part], (
        "run make viewer, and commit what it makes"
    )


def test_page_is_small_and_fetches_nothing_from_elsewhere():
    sizes = [path.stat().st_size for path in (ROOM / "static").iterdir()]
    assert sum(sizes) < MOST_BYTES
    page = (ROOM / "static" / "index.html").read_text(encoding="utf-8")
    assert "<style" not in page
    assert 'style="' not in page
    assert 'src="viewer.js"' in page
    assert "//" not in page, "an address of elsewhere"


def test_licences_of_what_is_bundled_are_there():
    package = json.loads((ROOM / "source" / "package.json").read_text(encoding="utf-8"))
    text = (ROOM / "static" / "THIRD_PARTY_LICENSES.txt").read_text(encoding="utf-8")
    for name, version in package["dependencies"].items():
        assert f"{name} {version} (" in text
    assert "Redistribution and use in source and binary forms" in text
