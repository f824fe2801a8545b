"""What all commands share: the settings of their Typer app, and how they end."""

from __future__ import annotations

import io
import logging
import os
import signal
import sys
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import takewhile
from typing import TextIO

import typer

from wsi_sampath.cli.help import WIDEST, Group
from wsi_sampath.errors import (
    EXIT_FAILED,
    EXIT_OK,
    EXIT_USAGE,
    REASONS,
    Reason,
    UsageError,
    WsiError,
)
from wsi_sampath.garbage_collection import collect_rarely
from wsi_sampath.version import __version__

_INTERRUPTED = 130
"""What Typer makes of an interruption inside a command, without a word."""

WRONG_USE: frozenset[Reason] = frozenset({"bad-model", "bad-input"})
MISHAPS: frozenset[Reason] = frozenset(
    {"unreachable", "out-of-memory", "disk-full", "interrupted", "internal"}
)
BEFORE_ANY_SLIDE = frozenset(REASONS) - MISHAPS
"""What is wrong usage where a failing slide has its own way out."""


def new_app(description: str | None = None) -> typer.Typer:
    """Return an app with plain help, ``-h``, and errors left to `run`."""
    return typer.Typer(
        cls=Group,
        add_completion=False,
        rich_markup_mode=None,
        context_settings={
            "help_option_names": ["-h", "--help"],
            "max_content_width": WIDEST,
        },
        pretty_exceptions_enable=False,
        help=description,
    )


def run(
    app: typer.Typer,
    command: str,
    *,
    wrong_use: Collection[Reason] = WRONG_USE,
    words: Sequence[str] | None = None,
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
    words
        What follows the command; None takes what the process was given.
    """
    collect_rarely()
    _take_stderr()
    _listen()
    # What is wrong with a file is said once, by us.
    logging.getLogger("tifffile").setLevel(logging.CRITICAL)
    _write_any_name()
    if completion_variable(command) in os.environ:
        # Imported here: only a shell that completes a line needs it.
        from typer.completion import completion_init  # type: ignore[attr-defined]

        completion_init()
    try:
        if _asks_version():
            code = _tell_version(command)
        else:
            code = app(words, standalone_mode=False, prog_name=command)
        if code == _INTERRUPTED:
            raise KeyboardInterrupt
        with of_stdout():
            if sys.stdout is not None:
                sys.stdout.flush()
    except typer.TyperException as error:
        _tell(UsageError(f"{_in_plain_words(error)} (see {command} --help)"))
        code = EXIT_USAGE
    except WsiError as error:
        _tell(error)
        code = EXIT_USAGE if error.reason in wrong_use else EXIT_FAILED
    except KeyboardInterrupt:
        _tell(WsiError("interrupted", "stopped by the user; run the command again"))
        code = EXIT_FAILED
    except OSError as error:
        _tell(_explained(error))
        code = EXIT_FAILED
    except SystemExit as stopped:
        # Typer's own way with a pipe that nobody reads, without a word.
        if not isinstance(stopped.__context__, BrokenPipeError):
            raise
        _tell(_explained(stopped.__context__))
        code = EXIT_FAILED
    sys.exit(code)


def _in_plain_words(error: typer.TyperException) -> str:
    return error.format_message().replace("Value error, ", "").rstrip(".")


def completion_variable(command: str) -> str:
    """Return the environment variable by which a shell asks a command to complete a line."""
    return f"_{command}_COMPLETE".replace("-", "_").upper()


def _listen() -> None:
    signal.signal(signal.SIGTERM, _terminate)
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, _interrupt)


def _take_stderr() -> None:
    """Let a closed stderr be one that nobody reads: its number must be no other file's."""
    if sys.stderr is None:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        if nowhere != 2:
            os.dup2(nowhere, 2)
            os.close(nowhere)
        sys.stderr = open(2, "w", encoding="utf-8", errors="backslashreplace")  # noqa: SIM115


def _asks_version() -> bool:
    # Not an option of each command: those that take INPUTs or a subcommand would ask for these.
    return "--version" in takewhile(lambda word: word != "--", sys.argv[1:])


def _tell_version(command: str) -> int:
    print(f"{command} {__version__}")
    return EXIT_OK


def _write_any_name() -> None:
    """Let names through that the terminal's encoding lacks, or that are none in UTF-8."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _tell(error: WsiError) -> None:
    try:
        print(error.line(), file=sys.stderr, flush=True)
    except OSError:
        _abandon(sys.stderr)


def _explained(error: OSError) -> WsiError:
    """Say what an output, most often stdout itself, has come to."""
    if isinstance(error, BrokenPipeError):
        _abandon(sys.stdout)
        message = "nobody reads the output any more; what was finished is in its files"
        return WsiError("interrupted", message, subject="stdout")
    # Imported here: most commands never come to it.
    from wsi_sampath.explained import explained

    subject = str(error.filename or "")
    try:
        with explained(subject):
            raise error
    except WsiError as told:
        return told


@contextmanager
def of_stdout() -> Iterator[None]:
    """Let an error of the block say that stdout is what cannot be written."""
    try:
        yield
    except OSError as error:
        error.filename = "stdout"
        raise


def _abandon(stream: TextIO | None) -> None:
    """Send what is left in a stream nowhere, so that Python's own end does not fail on it."""
    with suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())  # type: ignore[union-attr]


def _interrupt(_signal: int, _frame: object) -> None:
    """Stop as soon as what is finished is safe; asked once more, stop at once."""
    signal.signal(signal.SIGINT, _stop_at_once)
    # What the interruption finds half made complains when it is collected.
    sys.unraisablehook = lambda _: None
    _put_at_once("stopping: what is finished is kept; Ctrl-C again stops at once")
    raise KeyboardInterrupt


def _stop_at_once(_signal: int, _frame: object) -> None:
    # Files are whole or not there, whenever a process ends.
    _put_at_once("error: interrupted: stopped at once; run the command again to resume")
    os._exit(EXIT_FAILED)


def _put_at_once(line: str) -> None:
    # Past the stream's buffer, in the middle of whose own writing the signal may have come. A live
    # bar leaves the cursor hidden, and at the end of its own line, whose place is taken.
    before = "\x1b[?25h\r\x1b[2K" if sys.stderr is not None and sys.stderr.isatty() else ""
    with suppress(OSError):
        os.write(2, f"{before}{line}\n".encode())


def _terminate(_signal: int, _frame: object) -> None:
    raise KeyboardInterrupt
