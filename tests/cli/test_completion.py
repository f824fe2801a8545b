"""What shells are told when they complete a line."""

from __future__ import annotations

from importlib import import_module

import pytest
from command_line import ended

from wsi_sampath.__main__ import main as as_module
from wsi_sampath.cli import COMMANDS
from wsi_sampath.cli.entry import completion_variable


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (["wsi-segment", "a.svs", "--mod"], {"--model", "--mode"}),
        (["wsi-segment", "a.svs", "--model", "g"], {"gland-mini"}),
        (["wsi-prompt", "a.svs", "-m", "nuclei"], {"nuclei-mini"}),
        (["wsi-segment", "--precision", ""], {"auto", "fp16", "bf16", "fp32"}),
        (["wsi-segment", "--tissue", ""], {"otsu", "none"}),
        (["wsi-segment", "a.sv"], set()),
        (["wsi-models", "i"], {"info", "import"}),
        (["wsi-models", "info", "gland"], {"gland-mini"}),
        (["wsi-models", "fetch", "hipt"], {"hipt-vit256"}),
    ],
)
def test_words_are_completed(monkeypatch, capsys, line, expected):
    command = line[0]
    monkeypatch.setenv(completion_variable(command), "complete_bash")
    monkeypatch.setenv("COMP_WORDS", " ".join(line))
    monkeypatch.setenv("COMP_CWORD", str(len(line) - 1))
    main = import_module(f"wsi_sampath.cli.{command.removeprefix('wsi-')}").main
    assert ended(monkeypatch, main, command) == 0
    assert set(capsys.readouterr().out.split()) == expected


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_is_told_of_every_command(monkeypatch, capsys, shell):
    assert ended(monkeypatch, as_module, "wsi_sampath", "completion", shell) == 0
    script = capsys.readouterr().out
    for name in COMMANDS:
        assert f"_WSI_{name.upper()}_COMPLETE=complete_{shell}" in script


def test_without_a_word_it_is_the_shell_in_use(monkeypatch, capsys):
    for shell, expected in (("/usr/bin/fish", "complete_fish"), ("/bin/tcsh", "complete_bash")):
        monkeypatch.setenv("SHELL", shell)
        assert ended(monkeypatch, as_module, "wsi_sampath", "completion") == 0
        assert expected in capsys.readouterr().out


def test_an_unknown_shell_is_named(monkeypatch, capsys):
    assert ended(monkeypatch, as_module, "wsi_sampath", "completion", "csh") == 2
    said = capsys.readouterr().err
    assert said.startswith(
        "error: bad-input: Invalid value for 'shell': 'csh' is not one of 'bash'"
    )
