"""How to install what an extra brings, in words that work as they are printed."""

from __future__ import annotations

import json
import shlex
import shutil
import sys
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit
from urllib.request import url2pathname

NAME = "wsi-sampath"


def install_hint(extra: str) -> str:
    """Return the command that adds an extra to the environment at hand.

    Parameters
    ----------
    extra
        As in ``pyproject.toml``.

    Returns
    -------
    str
        It installs from where this package came: the clone, the wheel, or a package index.
    """
    return f"{_pip()} install {_requirement(extra)}"


def _pip() -> str:
    """Return pip's name where that is the pip of this Python, else the long way to it."""
    found = shutil.which("pip")
    ours = found is not None and Path(found).parent == Path(sys.executable).parent
    return "pip" if ours else f"{shlex.quote(sys.executable)} -m pip"


def _requirement(extra: str) -> str:
    origin = _origin()
    url = str(origin.get("url", ""))
    folder = origin.get("dir_info")
    if folder is not None:
        clone = _path(url)
        tested = Path(clone, "constraints.txt")
        options = f"-c {shlex.quote(str(tested))} " if tested.is_file() else ""
        options += "-e " if folder.get("editable") else ""
        return f"{options}{shlex.quote(f'{clone}[{extra}]')}"
    if url:
        commit = origin.get("vcs_info", {})
        url = f"{commit['vcs']}+{url}@{commit['commit_id']}" if commit else url
        part = quote(str(origin.get("subdirectory", "")))
        return shlex.quote(f"{NAME}[{extra}] @ {url}{part and f'#subdirectory={part}'}")
    return shlex.quote(f"{NAME}[{extra}]")


def _origin() -> dict[str, Any]:
    """Return what pip has noted of where this package came from; empty for an index."""
    try:
        text = distribution(NAME).read_text("direct_url.json")
    except PackageNotFoundError:
        # Run from a clone that nobody installed.
        root = Path(__file__).resolve().parents[1]
        return {"url": root.as_uri(), "dir_info": {"editable": True}}
    found: dict[str, Any] = json.loads(text) if text else {}
    return found


def _path(url: str) -> str:
    return url2pathname(urlsplit(url).path)
