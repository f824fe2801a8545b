"""Who is let in: the rules of the server, before any of its rooms sees a request.

Listening on a loopback address is no boundary: a page of any site can send requests there, and by
DNS rebinding (a name of the attacker that suddenly means 127.0.0.1) read the answers, too. So:

* ``Host`` must be a name of this machine that no attacker can own. For ``localhost``, ``127.0.0.1``
  and ``[::1]`` the port may be any, since ``ssh -L 9000:localhost:8642`` sends ``localhost:9000``;
  it is the name that stops rebinding, not the port.
* Everything below ``/api`` needs a cookie, for which the token in the printed link is exchanged.
  Browsers send cookies of one host to all its ports, so the cookie's name holds the port by which
  the browser knows us.
* Whatever a browser says comes from elsewhere (``Origin``, ``Sec-Fetch-Site``) is refused, and what
  writes must say that it comes from our own page.
* Nothing is read without a limit of size and time.
"""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import re
import secrets
import socket
import time

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import cookie_parser
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from wsi_sampath.viewer.refusals import Refused

LOGIN = "/api/login"
_API = "/api"
_METHODS = frozenset({"GET", "HEAD", "POST"})
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "[::1]"})
_WILDCARDS = frozenset({"0.0.0.0", "::"})
_HOST = re.compile(r"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+)(?::([0-9]{1,5}))?")
_HTTP_PORT = 80

SMALL_BODY = 64 << 10
# An outline of as many corners as one may have, edited.
MIDDLE_BODY = 4 << 20
LARGE_BODY = 64 << 20
_MIDDLE = re.compile(r"/api/slides/[0-9a-f]+/session")
_LARGE = re.compile(r"/api/slides/[0-9a-f]+/annotations")
# A body may take this long, and longer only if it keeps up this rate.
_PATIENCE_S, _SLOWEST_BYTES_PER_S = 10.0, 64 << 10
_SINGLE_S = 60.0

_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; img-src 'self' blob: data:; object-src 'none'; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}


class Access:
    """Whom a server lets in.

    Parameters
    ----------
    host, port
        Where it listens.

    Attributes
    ----------
    token
        In the printed link, behind the ``#`` that browsers send nowhere.
    ticket
        What the cookie holds, so that the token stands in the link alone.
    """

    def __init__(self, host: str, port: int) -> None:
        self.host, self.port = host, port
        self.token, self.ticket = secrets.token_urlsafe(32), secrets.token_urlsafe(32)
        self._single, self._single_until = "", 0.0
        # Asked for once: a server of names may take its time, and would for every foreign name.
        everywhere = host in _WILDCARDS
        self._names = {socket.gethostname(), socket.getfqdn()} if everywhere else set()

    def single_token(self) -> str:
        """Return a token that is admitted once, and for a minute.

        It is for the command line of a browser, which other users of the machine can read.
        """
        self._single, self._single_until = secrets.token_urlsafe(32), time.monotonic() + _SINGLE_S
        return self._single

    def knows(self, host: str) -> bool:
        """Return whether a ``Host`` header names this server."""
        parts = _HOST.fullmatch(host)
        if parts is None:
            return False
        name, port = parts[1].lower(), int(parts[2] or _HTTP_PORT)
        return name in _LOOPBACK or (port == self.port and self._is_ours(name))

    def admits(self, token: object) -> bool:
        """Return whether a token is that of the printed link, or the one that counts once."""
        if not isinstance(token, str):
            return False
        if self._single and _same(token, self._single):
            self._single = ""
            return time.monotonic() < self._single_until
        return _same(token, self.token)

    def holds_ticket(self, headers: Headers) -> bool:
        """Return whether a request brings the cookie."""
        held = cookie_parser(headers.get("cookie", "")).get(cookie_name(headers["host"]), "")
        return _same(held, self.ticket)

    def _is_ours(self, name: str) -> bool:
        bare = name.strip("[]")
        if self.host not in _WILDCARDS:
            return bare == self.host.lower().strip("[]")
        # An address cannot be rebound, for no name is looked up.
        return _is_address(bare) or name in {one.lower() for one in self._names}


def cookie_name(host: str) -> str:
    """Return the name of the cookie for those who know this server by a ``Host`` header."""
    parts = _HOST.fullmatch(host)
    return f"wsi_view_{(parts and parts[2]) or _HTTP_PORT}"


class Guard:
    """ASGI middleware that applies the rules of this module.

    Parameters
    ----------
    app
        What answers those who are let in.
    access
        Who that is.
    patience_s
        Seconds that a body may take before its rate counts.
    """

    def __init__(self, app: ASGIApp, access: Access, *, patience_s: float = _PATIENCE_S) -> None:
        self._app, self._access, self._patience_s = app, access, patience_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, pass on, or refuse."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            # There is no web socket here.
            await send({"type": "websocket.close", "code": 1008})
            return
        guarded = _with_headers(send, scope["path"])
        try:
            self._check(scope)
            bounded = _Body(receive, _most_bytes(scope), self._patience_s)
            await self._app(scope, bounded, guarded)
        except Refused as refused:
            await refused.response()(scope, receive, guarded)

    def _check(self, scope: Scope) -> None:
        headers = Headers(scope=scope)
        hosts = headers.getlist("host")
        if len(hosts) != 1 or not self._access.knows(hosts[0]):
            raise Refused(403, "foreign-host", "this server does not go by that name")
        method = scope["method"]
        if method not in _METHODS:
            raise Refused(405, "bad-input", "only GET, HEAD and POST are answered")
        if method != "POST" and "transfer-encoding" in headers:
            raise Refused(400, "bad-input", "a request that asks for something has no body")
        _check_origin(headers, hosts[0], writes=method == "POST")
        path = scope["path"]
        if _is_api(path) and path != LOGIN and not self._access.holds_ticket(headers):
            raise Refused(401, "no-token", "open the link that wsi-view printed")
        length = headers.get("content-length", "0")
        # Larger numbers than these no size has; int() would take them, and take its time.
        if not re.fullmatch(r"[0-9]{1,15}", length):
            raise Refused(400, "bad-input", "the length of the body is not a number")
        if int(length) > _most_bytes(scope):
            raise _too_large(_most_bytes(scope))


class _Body:
    """What is received of a request, within its limits of size and time."""

    def __init__(self, receive: Receive, most: int, patience_s: float) -> None:
        self._receive, self._most, self._patience_s = receive, most, patience_s
        self._size, self._is_whole = 0, False
        self._started = time.monotonic()

    async def __call__(self) -> Message:
        if self._is_whole:
            # What comes now is the end of the connection, for which an answer may wait long.
            return await self._receive()
        spent = time.monotonic() - self._started
        left = self._patience_s + self._size / _SLOWEST_BYTES_PER_S - spent
        try:
            message = await asyncio.wait_for(self._receive(), max(left, 0.0))
        except TimeoutError:
            raise Refused(408, "too-slow", "the request took too long to arrive") from None
        self._size += len(message.get("body", b""))
        self._is_whole = not message.get("more_body", False)
        if self._size > self._most:
            raise _too_large(self._most)
        return message


def _check_origin(headers: Headers, host: str, *, writes: bool) -> None:
    origins = headers.getlist("origin")
    ours = f"http://{host.lower()}"
    if [one.lower() for one in origins] != [ours] and (writes or origins):
        raise Refused(403, "foreign-origin", "only the page of this server may ask for that")
    if headers.get("sec-fetch-site", "none") not in ("none", "same-origin") and (
        writes or headers.get("sec-fetch-mode") != "navigate"
    ):
        raise Refused(403, "foreign-origin", "only the page of this server may ask for that")


def _most_bytes(scope: Scope) -> int:
    if scope["method"] != "POST":
        return 0
    if _MIDDLE.fullmatch(scope["path"]):
        return MIDDLE_BODY
    return LARGE_BODY if _LARGE.fullmatch(scope["path"]) else SMALL_BODY


def _too_large(most: int) -> Refused:
    return Refused(413, "too-large", f"a request of this kind has at most {most:,} bytes")


def _with_headers(send: Send, path: str) -> Send:
    """Add what every answer says."""

    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            headers.update(_HEADERS)
            # A new version of the page must not meet the old one's scripts.
            headers.setdefault("Cache-Control", "no-store" if _is_api(path) else "no-cache")
        await send(message)

    return sent


def _is_api(path: str) -> bool:
    return path == _API or path.startswith(f"{_API}/")


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _same(first: str, second: str) -> bool:
    one, other = first.encode("utf-8", "replace"), second.encode("utf-8", "replace")
    return hmac.compare_digest(one, other)
