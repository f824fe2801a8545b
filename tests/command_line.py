"""Commands, run within the tests' process, and their help, asked for in one of its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Collection

import pytest


def ended(monkeypatch, main: Callable[[], None], *words: object) -> int:
    """Run a command to its exit code."""
    monkeypatch.setattr(sys, "argv", [str(word) for word in words])
    with pytest.raises(SystemExit) as stopped:
        main()
    return stopped.value.code or 0


def quick_help(command: str, *words: str, without: Collection[str]) -> str:
    """Return the help of a command, which must import nothing of `without`."""
    module = f"wsi_sampath.cli.{command.removeprefix('wsi-')}"
    code = (
        f"import sys; sys.argv = {[command, *words, '-h']}\n"
        f"from {module} import main\n"
        "try: main()\n"
        "except SystemExit as stop: assert not stop.code\n"
        f"heavy = {set(without)} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout
