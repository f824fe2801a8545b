"""Processes that begin at once: forked from one that has imported already what they need."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import cache
from multiprocessing import context, forkserver, get_context
from multiprocessing.process import BaseProcess
from unittest import mock

PRELOADED = ["pytest", "batch_stub", "stub_network", "wsi_sampath.inference.segmenter"]


@cache
def _server() -> context.ForkServerContext:
    server = get_context("forkserver")
    server.set_forkserver_preload(PRELOADED)
    # The server looks for what it imports where Python does by itself.
    with mock.patch.dict(os.environ, PYTHONPATH=os.pathsep.join(filter(None, sys.path))):
        forkserver.ensure_running()
    return server


def begin(function: Callable[..., None], *arguments: object) -> BaseProcess:
    """Call a function of a module in a process of its own; return when that process is there."""
    ready = _server().Event()
    process = _server().Process(target=_called, args=(ready, function, *arguments), daemon=True)
    process.start()
    assert ready.wait(60)
    return process


def _called(ready: object, function: Callable[..., None], *arguments: object) -> None:
    ready.set()
    function(*arguments)
