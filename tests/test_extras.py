"""What an error line tells to install can be installed."""

from __future__ import annotations

import json
import re
import sys
import tomllib
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

from wsi_sampath import extras
from wsi_sampath.errors import UsageError
from wsi_sampath.extras import install_hint

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
HINT = re.compile(r"install_hint\(\"?'?(\w+)")
LITERAL = re.compile(r"pip install [^\n]*(?:wsi-sampath|\.)\[(\w+)\]")


class Installed:
    def __init__(self, origin):
        self.origin = origin

    def read_text(self, name):
        assert name == "direct_url.json"
        return None if self.origin is None else json.dumps(self.origin)


@pytest.fixture
def installed(monkeypatch):
    monkeypatch.setattr(extras.shutil, "which", lambda _: str(Path(sys.executable).parent / "pip"))
    return lambda origin: monkeypatch.setattr(extras, "distribution", lambda _: Installed(origin))


def test_every_extra_that_is_named_exists():
    files = [*(ROOT / "wsi_sampath").rglob("*.py"), *(ROOT / "pipelines").rglob("*.py")]
    texts = [path.read_text(encoding="utf-8") for path in files if path.name != "extras.py"]
    hinted = {name for text in texts for name in HINT.findall(text)}
    assert {"train", "viewer", "cluster", "geo", "spatial"} <= hinted
    named = {name for text in texts for name in LITERAL.findall(text)}
    assert hinted | named <= PROJECT["optional-dependencies"].keys()
    assert PROJECT["name"] == extras.NAME


@pytest.mark.parametrize(
    ("origin", "told"),
    [
        (None, "'wsi-sampath[train]'"),
        ({"url": "file:///a/b%20c", "dir_info": {}}, "'/a/b c[train]'"),
        ({"url": "file:///a/b", "dir_info": {"editable": True}}, "-e '/a/b[train]'"),
        (
            {"url": "file:///a/w.whl", "archive_info": {}},
            "'wsi-sampath[train] @ file:///a/w.whl'",
        ),
        (
            {"url": "https://h/r.git", "vcs_info": {"vcs": "git", "commit_id": "abc"}},
            "'wsi-sampath[train] @ git+https://h/r.git@abc'",
        ),
        (
            {"url": "https://h:8443/r.git", "vcs_info": {"vcs": "git", "commit_id": "abc"}},
            "'wsi-sampath[train] @ git+https://h:8443/r.git@abc'",
        ),
        (
            {
                "url": "ssh://git@h:22/o/r.git",
                "vcs_info": {"vcs": "git", "commit_id": "abc"},
                "subdirectory": "a b/c",
            },
            "'wsi-sampath[train] @ git+ssh://git@h:22/o/r.git@abc#subdirectory=a%20b/c'",
        ),
        (
            {"url": "https://h/r.zip", "archive_info": {}, "subdirectory": "sub"},
            "'wsi-sampath[train] @ https://h/r.zip#subdirectory=sub'",
        ),
    ],
)
def test_the_hint_goes_back_to_where_the_package_came_from(installed, origin, told):
    installed(origin)
    assert install_hint("train") == f"pip install {told}"
    # What is masked in an error line is no part of it.
    line = UsageError(f"this needs more: {install_hint('train')}; then again").line()
    assert f"pip install {told}; then" in line


def test_a_clone_that_nobody_installed(installed, monkeypatch):
    installed(None)

    def missing(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr(extras, "distribution", missing)
    assert install_hint("train").endswith(f"{ROOT}[train]'")


def test_another_pip_on_the_path_is_not_used(installed, monkeypatch):
    installed(None)
    monkeypatch.setattr(extras.shutil, "which", lambda _: "/usr/bin/pip")
    assert install_hint("train").startswith(f"{sys.executable} -m pip install ")
