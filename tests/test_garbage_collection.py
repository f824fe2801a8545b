from __future__ import annotations

import gc
import subprocess
import sys

import pytest

from wsi_sampath.garbage_collection import collection_paused

CYCLE = """
from wsi_sampath.garbage_collection import collect_rarely

class Loop:
    def __init__(self):
        self.itself = self

    def __del__(self):
        print("visited", flush=True)

{call}
Loop()
"""


@pytest.mark.parametrize(("call", "said"), [("", "visited\n"), ("collect_rarely()", "")])
def test_a_command_ends_without_visiting_its_objects(call, said):
    command = [sys.executable, "-c", CYCLE.format(call=call)]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == said


def test_long_runs_are_still_collected():
    call = "collect_rarely()\nfor _ in range(200_000): Loop()\nprint('end', flush=True)"
    command = [sys.executable, "-c", CYCLE.format(call=call)]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert said.index("visited") < said.index("end")


def test_a_pause_ends_as_it_began():
    for enabled in (True, False):
        (gc.enable if enabled else gc.disable)()
        try:
            with collection_paused():
                assert not gc.isenabled()
            assert gc.isenabled() == enabled
        finally:
            gc.enable()
