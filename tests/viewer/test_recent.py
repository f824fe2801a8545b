"""What was used last is kept, within bounds, and made once."""

import threading
import time

import pytest

from wsi_sampath.viewer.recent import Recent


def test_what_was_used_longest_ago_goes_first():
    recent = Recent(10, len)
    for key in ("a", "b", "a", "c"):
        assert recent.fetch(key, lambda key=key: key * 4) == key * 4
    assert (recent.held, recent.made) == (8, 3)
    recent.fetch("a", lambda: pytest.fail("it is held"))
    assert recent.fetch("b", lambda: "made again") == "made again"


def test_the_newest_is_held_however_large():
    recent = Recent(10, len)
    recent.fetch("small", lambda: "s")
    recent.fetch("large", lambda: "l" * 50)
    assert recent.held == 50
    recent.fetch("large", lambda: pytest.fail("it is held"))


def test_threads_that_want_the_same_wait_for_one():
    recent, together, found = Recent(10, len), threading.Barrier(4), []

    def make():
        time.sleep(0.05)
        return "value"

    def ask():
        together.wait()
        found.append(recent.fetch("key", make))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert (found, recent.made) == (["value"] * 4, 1)


def test_what_fails_is_made_again():
    recent = Recent(10, len)
    with pytest.raises(ZeroDivisionError):
        recent.fetch("key", lambda: 1 // 0)
    assert recent.fetch("key", lambda: "value") == "value"
