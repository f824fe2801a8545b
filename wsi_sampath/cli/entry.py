"""What all commands share: the settings of their Typer app, and how they end."""

from __future__ import annotations

import logging
import signal
import sys
from collections.abc import Collection

import typer

from wsi_sampath.errors import EXIT_FAILED, EXIT_USAGE, REASONS, Reason, UsageError, WsiError

_INTERRUPTED = 130
"""What Typer makes of an interruption inside a command, without a word."""

WRONG_USE: frozenset[Reason] = frozenset({"bad-model", "bad-input"})
MISHAPS: frozenset[Reason] = frozenset({"out-of-memory", "disk-full", "interrupted", "internal"})
BEFORE_ANY_SLIDE = frozenset(REASONS) - MISHAPS
"""What is wrong usage where a failing slide has its own way out."""


def new_app(description: str | None = None) -> typer.Typer:
    """Return an app with plain help, ``-h``, and errors left to `run`."""
    return typer.Typer(
        add_completion=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
        pretty_exceptions_enable=False,
        help=description,
    )


def run(
    app: typer.Typer,
    command: str,
    *,
    wrong_use: Collection[Reason] = WRONG_USE,
) -> None:
    """Run a command to its exit code; every known failure is one line on stderr.

    Parameters
    ----------
    app
        From `new_app`.
    command
        Its name, for the hint at ``--help``.
    wrong_use
        Reasons that end with the code of wrong usage, all others with that of failure.
    """
    signal.signal(signal.SIGTERM, _terminate)
    # What is wrong with a file is said once, by us.
    logging.getLogger("tifffile").setLevel(logging.CRITICAL)
    try:
        code = app(standalone_mode=False)
        if code == _INTERRUPTED:
            raise KeyboardInterrupt
    except typer.TyperException as error:
        _tell(UsageError(f"{error.format_message()} (see {command} --help)"))
        code = EXIT_USAGE
    except WsiError as error:
        _tell(error)
        code = EXIT_USAGE if error.reason in wrong_use else EXIT_FAILED
    except KeyboardInterrupt:
        _tell(WsiError("interrupted", "stopped by the user; run the command again"))
        code = EXIT_FAILED
    sys.exit(code)


def _tell(error: WsiError) -> None:
    print(error.line(), file=sys.stderr, flush=True)


def _terminate(_signal: int, _frame: object) -> None:
    raise KeyboardInterrupt
