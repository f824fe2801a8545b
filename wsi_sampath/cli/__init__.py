"""Command line: one thin file a command."""

import os
import sys
from types import TracebackType

COMMANDS = ("segment", "prompt", "models", "prepare", "train", "evaluate", "view", "doctor")
"""As ``wsi-NAME`` and ``python -m wsi_sampath NAME``; module `wsi_sampath.cli.NAME`."""


def _without_traceback(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """End a command that is interrupted while it is still importing as any other: in one line."""
    if issubclass(kind, KeyboardInterrupt):
        os.write(2, b"error: interrupted: stopped by the user; run the command again\n")
        os._exit(1)
    sys.__excepthook__(kind, error, trace)


# Not in a notebook, or a program that has taken a part of us.
if os.path.basename(sys.argv[0] if sys.argv else "").startswith("wsi-"):
    sys.excepthook = _without_traceback
