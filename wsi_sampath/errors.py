"""The one error for bad input: a reason, a subject, and how to mend it."""

from __future__ import annotations

from typing import Literal, get_args

from wsi_sampath.masked import masked
from wsi_sampath.shown import shortened, shown

Reason = Literal[
    "unreadable",
    # The server of a slide: nothing is wrong with the slide, and another try may do.
    "unreachable",
    "no-mpp",
    "implausible-mpp",
    "no-tissue",
    "bad-model",
    "bad-input",
    "out-of-memory",
    "disk-full",
    "busy",
    "interrupted",
    # A defect of the program or a crash of a library, which a batch survives; its log has more.
    "internal",
]
REASONS: tuple[Reason, ...] = get_args(Reason)

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_USAGE = 2


class WsiError(Exception):
    """A failure that a user can understand and mend.

    Parameters
    ----------
    reason
        One of `REASONS`; tools may branch on it.
    message
        What is wrong and how to mend it, one sentence or two, no line break.
    subject
        The slide, file or option concerned. Filled in by the caller that knows it if empty.
    """

    def __init__(self, reason: Reason, message: str, *, subject: str = "") -> None:
        super().__init__(message)
        self.reason: Reason = reason
        self.message = masked(" ".join(message.split()))
        self.subject = masked(subject)

    def about(self, subject: str) -> WsiError:
        """Return this error with its subject set, unless it has one already."""
        self.subject = self.subject or masked(subject)
        return self

    def line(self) -> str:
        """Return the single line that the command line prints."""
        where = f"{shortened(self.subject)}: " if self.subject else ""
        return shown(f"error: {where}{self.reason}: {self.message}")

    def __reduce__(self) -> tuple[object, ...]:
        # Errors travel between processes, pickled by their arguments.
        return _again, (type(self), self.reason, self.message, self.subject)

    def __str__(self) -> str:
        return self.line().removeprefix("error: ")


class UsageError(WsiError):
    """Wrong options or configuration: exit code 2."""

    def __init__(self, message: str, *, subject: str = "") -> None:
        super().__init__("bad-input", message, subject=subject)


class OtherSettingsError(WsiError):
    """What is there was made, or begun, with other settings: it stays, and nothing was tried."""


def _again(kind: type[WsiError], reason: Reason, message: str, subject: str) -> WsiError:
    if issubclass(kind, UsageError):
        return kind(message, subject=subject)
    return kind(reason, message, subject=subject)
