"""A stage that works ahead: order, bounds, errors, and an early end."""

from __future__ import annotations

import threading
import time
from contextlib import closing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsi_sampath.inference.stages import Background, ahead


@given(st.lists(st.integers()), st.integers(1, 5))
def test_everything_comes_in_order(items, depth):
    assert list(ahead(items, depth=depth)) == items


@pytest.mark.parametrize("depth", [1, 3])
def test_no_more_than_depth_items_wait(depth):
    made = []

    def make():
        for item in range(20):
            made.append(item)
            yield item

    for seen in ahead(make(), depth=depth):
        time.sleep(0.002)
        assert len(made) <= seen + 1 + depth


def test_an_error_comes_after_the_items_before_it():
    def make():
        yield 1
        raise ValueError("two")

    items = ahead(make())
    assert next(items) == 1
    with pytest.raises(ValueError, match="two"):
        next(items)


def test_an_early_end_cleans_up_the_stage_and_its_thread():
    ended = []

    def make():
        try:
            while True:
                yield threading.current_thread().name
        finally:
            ended.append(threading.current_thread().name)

    with closing(ahead(make())) as items:
        name = next(items)
    assert ended == [name]
    assert all(thread.name != name for thread in threading.enumerate())


def test_it_really_works_while_the_caller_does():
    started = threading.Event()

    def make():
        yield 1
        started.set()
        yield 2

    items = ahead(make())
    next(items)
    assert started.wait(10)
    assert list(items) == [2]


def test_background_counts_what_it_held_its_feeder_back():
    go_on = threading.Event()
    with Background(lambda _: go_on.wait(10), depth=1) as later:
        later.put(1)
        later.put(2)
        assert later.waited < 5
        threading.Timer(0.2, go_on.set).start()
        later.put(3)
    assert 0.05 < later.waited < 10


def test_a_thread_that_cannot_be_prepared_is_told_of():
    done: list[int] = []

    def prepare():
        raise RuntimeError("no stream")

    def feed():
        with Background(done.append, prepare=prepare) as later:
            for number in range(9):
                later.put(number)

    with pytest.raises(RuntimeError, match="no stream"):
        feed()
    assert done == []
