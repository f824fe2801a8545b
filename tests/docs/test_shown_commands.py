"""Every command in README and docs is one that there is, with options and values that it takes."""

from __future__ import annotations

import importlib.util
import re
import tomllib
from itertools import pairwise

import pytest
from shown_code import (
    ELSEWHERE,
    LANGUAGES,
    PAGES,
    ROOT,
    blocks_of,
    command_lines,
    own_command,
    parse,
    split_line,
)

EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"][
    "optional-dependencies"
]
MAKEFILE = (ROOT / "Makefile").read_text("utf-8")
INLINE = re.compile(r"`(wsi-[a-z]+ [^`]+)`")
PLACEHOLDER = re.compile(r"\.\.\.|\b[a-z]+\|[a-z]+\b|\bN\b")


def page_id(page):
    return page.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_every_block_says_what_it_is(page):
    for block in blocks_of(page):
        assert block.language in LANGUAGES, f"{block.place}: ```{block.language}"


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_no_command_hides_in_an_indented_block(page):
    text = re.sub(r"^( *)```.*?^\1```$", "", page.read_text("utf-8"), flags=re.M | re.S)
    assert re.findall(r"^ {4,}(?:\$ )?(?:wsi-|make |pip |python ).*", text, re.M) == []


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_every_command_line_can_be_given(page, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    for block in blocks_of(page):
        if block.language in ("bash", "console"):
            for words in command_lines(block):
                try:
                    check_line(words, monkeypatch)
                except Exception as error:
                    raise AssertionError(f"{block.place}: {' '.join(words)}: {error}") from error


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_every_command_within_a_sentence_has_options_that_there_are(page, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    for found in INLINE.findall(page.read_text("utf-8")):
        text = PLACEHOLDER.sub("1", found.replace("\\|", "|"))
        for words in split_line(text):
            if own_command(words):
                try:
                    parse(words, monkeypatch, whole=False)
                except Exception as error:
                    raise AssertionError(f"{page.name}: {found}: {error}") from error


def check_line(words, monkeypatch):
    own = own_command(words)
    if own is not None:
        parse(own, monkeypatch)
    elif words[0] == "make":
        assert all(re.search(rf"^{word}:", MAKEFILE, re.M) for word in words[1:])
    elif words[0] == "pip":
        check_pip(words[1:])
    elif re.search(r"(^|/)python3?$", words[0]):
        check_python(words[1:])
    else:
        assert words[0] in ELSEWHERE or (ROOT / words[0]).is_file(), "unknown command"


def check_pip(words):
    assert words[0] == "install"
    assert all((ROOT / name).is_file() for flag, name in pairwise(words) if flag == "-c")
    for listed in re.findall(r"(?:^|[ ./])(?:wsi-sampath)?\[([a-z,]+)\]", " ".join(words)):
        assert set(listed.split(",")) <= EXTRAS.keys()


def check_python(words):
    """See that a script of ours is there and mentions the options that it is given."""
    if words[0] == "-m" and words[1] in ("venv", "pip", "pytest"):
        return
    if words[0] == "-m":
        found = importlib.util.find_spec(words[1])
        assert found is not None, f"no module {words[1]}"
        source, options = found.origin, words[2:]
    else:
        source, options = ROOT / words[0], words[1:]
    with open(source, encoding="utf-8") as file:
        text = file.read()
    lacking = [word for word in options if word.startswith("--") and f'"{word}"' not in text]
    assert not lacking, f"{source} has no {lacking}"
