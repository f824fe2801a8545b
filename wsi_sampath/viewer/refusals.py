"""Requests that are not answered, as the server says it: JSON, without a path or a traceback."""

from __future__ import annotations

import re

from starlette.responses import JSONResponse

from wsi_sampath.errors import Reason, WsiError
from wsi_sampath.shown import shown

# Of what the machine lacks for now another try may succeed; of a file it may not.
_STATUS: dict[Reason, int] = {"out-of-memory": 503, "disk-full": 503, "busy": 503, "internal": 500}
# Rather a word too much of a sentence than a folder: names of folders may have spaces.
_PATH = re.compile(
    r"(?<![\w.])(?:[A-Za-z]:)?[/\\](?:[^/\\'\"(),;:]+[/\\])+(?=[^/\\\s])|"
    r"(?<![\w.])[/\\](?=\w)"
)


class Refused(Exception):
    """A request that is not answered.

    Parameters
    ----------
    status
        Of HTTP.
    reason
        One word, for programs.
    message
        What is wrong and how to mend it, one sentence; no path of this machine.
    """

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status, self.reason, self.message = status, reason, message

    def response(self) -> JSONResponse:
        """Return this as the server answers it."""
        said = {"error": {"reason": self.reason, "message": self.message}}
        return JSONResponse(said, self.status, headers={"Cache-Control": "no-store"})


def refused(error: WsiError) -> Refused:
    """Say over the network what a user may know of an error: without folders of this machine."""
    status = _STATUS.get(error.reason, 400)
    return Refused(status, error.reason, without_paths(error.message))


def without_paths(message: str) -> str:
    """Return a sentence on one line, with the names of files alone where it has their paths."""
    return shown(_PATH.sub("", message))
