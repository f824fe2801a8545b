"""Parts of requests, and answers that a browser may keep."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import Response

from wsi_sampath.errors import UsageError
from wsi_sampath.viewer.shelf import Missing

_WHOLE = re.compile(r"[0-9]{1,9}")
_FOR_EVER = "private, max-age=31536000, immutable"


def whole(text: str) -> int:
    """Return a number 0, 1, ... that stands in an address.

    Raises
    ------
    Missing
        Where it is none, or longer than any that could be meant.
    """
    if not _WHOLE.fullmatch(text):
        raise Missing("there is nothing of this number")
    return int(text)


def finite(request: Request, name: str) -> float:
    """Return a finite number of the query.

    Raises
    ------
    UsageError
        Where it is missing, or no finite number.
    """
    text = request.query_params.get(name, "")
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise UsageError(f"{name} must be a finite number")
    return value


def kept_for_ever(request: Request, media_type: str, make: Callable[[], bytes]) -> Response:
    """Answer with what never changes under its address, as ids follow the content of files.

    Parameters
    ----------
    request
        Its address alone decides the content. If the browser has that already, nothing is made.
    media_type
        Of the content.
    make
        Returns the content; its errors are passed on.
    """
    address = f"{request.url.path}?{request.url.query}".encode()
    tag = f'"{hashlib.sha256(address).hexdigest()[:24]}"'
    headers = {"ETag": tag, "Cache-Control": _FOR_EVER}
    known = request.headers.get("if-none-match", "")
    if tag in (one.strip().removeprefix("W/") for one in known.split(",")):
        return Response(status_code=304, headers=headers)
    return Response(make(), media_type=media_type, headers=headers)
