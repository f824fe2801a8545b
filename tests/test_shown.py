"""Names on screens and in files: nothing acts, nothing is lost, nothing raises."""

from __future__ import annotations

import json
import os

from hypothesis import given
from hypothesis import strategies as st

from wsi_sampath.errors import UsageError, WsiError
from wsi_sampath.shown import json_line, plural, shortened, shown

ANY_TEXT = st.text(alphabet=st.characters(codec=None, categories=None), max_size=40)


@given(ANY_TEXT)
def test_what_is_shown_is_one_line_that_any_utf8_screen_takes(text):
    line = shown(text)
    assert line.encode("utf-8").decode("utf-8") == line
    assert len(line.splitlines()) <= 1
    assert not any(ord(character) < 32 or 127 <= ord(character) < 160 for character in line)
    assert shown(line) == line


@given(ANY_TEXT)
def test_json_comes_back_as_it_was(text):
    line = json_line({"slide": text})
    assert json.loads(line.encode("utf-8")) == {"slide": text}
    assert len(line.splitlines()) == 1


def test_bytes_that_are_not_utf8_are_shown_as_bytes():
    assert shown(os.fsdecode(b"bad\xff.svs")) == r"bad\xff.svs"


def test_plain_names_are_shown_as_they_are():
    for name in ("Schnitt µm é 組織.svs", "a b#1 50%25 [x]{y}&q=1.svs", "quote'\"<b>.svs"):
        assert shown(name) == name


def test_an_error_about_an_evil_name_is_one_harmless_line():
    for kind in (
        WsiError("unreadable", "no", subject="a\x1b[2J\r\nerror: b.svs"),
        UsageError("\x9bm"),
    ):
        assert len(kind.line().splitlines()) == 1
        assert "\x1b" not in kind.line()
        assert "\x9b" not in kind.line()


def test_endless_names_lose_their_middle():
    line = WsiError("unreadable", "no", subject="a" * 5000 + ".svs").line()
    assert len(line) < 400
    assert ".svs: unreadable" in line
    assert shortened("a" * 400) == "a" * 400


def test_one_is_singular():
    assert [plural(n, "tile") for n in (0, 1, 2)] == ["0 tiles", "1 tile", "2 tiles"]
