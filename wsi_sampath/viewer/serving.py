"""The server from its socket to its end: one port, one printed line, a clean stop."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import os
import socket
import sys
import threading
import webbrowser
from collections.abc import Callable
from contextlib import suppress

import h11
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from wsi_sampath.errors import UsageError
from wsi_sampath.viewer.settings import FIRST_PORT

_PORTS_TRIED = 100
_MOST_CONNECTIONS = 128
_MOST_HEADER_BYTES = 32 << 10
_HEADER_S = 15.0
# Of an answer at least something is to be taken in this time.
_TAKING_S = 30.0
_KEEP_ALIVE_S = 30
_LAST_ANSWERS_S = 2


class PatientProtocol(H11Protocol):
    """HTTP that ends connections on which no whole request arrives, or nothing is taken, in time.

    Uvicorn itself waits for ever: for the rest of a request's head, for the body of a request that
    is answered already, and for the reader of an answer.
    """

    header_s, taking_s = _HEADER_S, _TAKING_S
    _deadline: asyncio.TimerHandle | None = None
    _taking: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start to wait for the head of a request."""
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        """Wait no longer once the head is there, and anew for the next one."""
        super().data_received(data)
        self._wait()

    def on_response_complete(self) -> None:
        """Start to wait for the rest of a body of which nothing is wanted any more."""
        super().on_response_complete()
        if self.conn.their_state is h11.SEND_BODY:
            self._wait()

    def pause_writing(self) -> None:
        """Start to watch whether what is sent is taken."""
        super().pause_writing()
        self._watch()

    def resume_writing(self) -> None:
        """Watch no longer."""
        super().resume_writing()
        self._stop_watching()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no longer."""
        self._stop_waiting()
        self._stop_watching()
        super().connection_lost(exc)

    def _owes(self) -> bool:
        """Return whether a head is to come, or a body that is not wanted any more."""
        if self.conn.their_state is h11.SEND_BODY:
            return self.cycle is not None and self.cycle.response_complete
        return self.conn.their_state is h11.IDLE

    def _wait(self) -> None:
        if not self._owes():
            self._stop_waiting()
        elif self._deadline is None:
            self._deadline = self.loop.call_later(self.header_s, self._give_up)

    def _stop_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _give_up(self) -> None:
        self._deadline = None
        if self._owes():
            self.transport.close()

    def _watch(self) -> None:
        unsent = self.transport.get_write_buffer_size()
        self._taking = self.loop.call_later(self.taking_s, self._check_taken, unsent)

    def _stop_watching(self) -> None:
        if self._taking is not None:
            self._taking.cancel()
            self._taking = None

    def _check_taken(self, before: int) -> None:
        if self.transport.get_write_buffer_size() < before:
            self._watch()
        else:
            # Closing would wait until all of it is taken.
            self.transport.abort()


def listen(host: str, port: int | None) -> socket.socket:
    """Return a socket that listens.

    Parameters
    ----------
    host
        A name or address of this machine.
    port
        None takes the first that is free, from `FIRST_PORT` up.

    Raises
    ------
    UsageError
        Where the address is none of this machine's, or the port is taken or not allowed.
    """
    ports = range(FIRST_PORT, FIRST_PORT + _PORTS_TRIED) if port is None else (port,)
    for one in ports:
        try:
            return _bound(host, one)
        except OSError as error:
            if error.errno == errno.EADDRINUSE and one != ports[-1]:
                continue
            raise UsageError(_why_not(error, host, one)) from None
    raise AssertionError("there is always a port to try")


def link(host: str, port: int, token: str) -> str:
    """Return the address to open; for a server on all addresses that of this machine."""
    shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
    return f"http://{shown}:{port}/#token={token}"


def is_loopback(host: str) -> bool:
    """Return whether nothing but this machine can reach an address."""
    with suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host.lower() == "localhost"


def serve(app: ASGIApp, listening: socket.socket, *, started: Callable[[], None]) -> None:
    """Serve until Ctrl-C or SIGTERM, which are its usual end.

    Parameters
    ----------
    app
        What answers.
    listening
        From `listen`; closed in the end.
    started
        Called once requests are answered.
    """
    try:
        with suppress(KeyboardInterrupt):
            _Server(_config(app), started).run(sockets=[listening])
    finally:
        listening.close()


def open_browser(address: str) -> None:
    """Open a browser, if there is a graphical one on this screen, without waiting for it."""
    has_screen = sys.platform in ("darwin", "win32") or any(
        os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY")
    )
    # Over ssh the screen is another machine's, and a browser here would crawl.
    if has_screen and not os.environ.get("SSH_CONNECTION"):
        threading.Thread(target=_open, args=(address,), daemon=True).start()


def _open(address: str) -> None:
    with suppress(webbrowser.Error, OSError):
        webbrowser.open(address)


def _config(app: ASGIApp) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=PatientProtocol,
        ws="none",
        lifespan="on",
        # Of what others send amiss nothing is said in the terminal, of defects all.
        log_level="error",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=_LAST_ANSWERS_S,
        limit_concurrency=_MOST_CONNECTIONS,
        h11_max_incomplete_event_size=_MOST_HEADER_BYTES,
    )


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, started: Callable[[], None]) -> None:
        super().__init__(config)
        self._tell = started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._tell()


def _bound(host: str, port: int) -> socket.socket:
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    made = socket.socket(family, kind, protocol)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(address)
        made.listen(_MOST_CONNECTIONS)
    except OSError:
        made.close()
        raise
    return made


def _why_not(error: OSError, host: str, port: int) -> str:
    if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
        return f"--host {host} is no address of this machine; leave it out to serve this one alone"
    if error.errno == errno.EADDRINUSE:
        return f"port {port} is taken, by another wsi-view perhaps; leave --port out, or change it"
    return f"port {port} cannot be listened on: {error.strerror or error}; choose another --port"
