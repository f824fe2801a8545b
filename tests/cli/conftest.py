"""Commands for the tests of the command line."""

from __future__ import annotations

from functools import partial

import pytest
from command_line import ended


@pytest.fixture
def command(monkeypatch, capsys):
    """``command(main, *words)`` gives a call that takes more words: exit code, stdout, stderr."""

    def call(main, *words):
        code = ended(monkeypatch, main, *words)
        said = capsys.readouterr()
        return code, said.out, said.err

    return lambda main, *words: partial(call, main, *words)
