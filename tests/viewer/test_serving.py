"""The server's socket, its patience, and its end."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from contextlib import suppress

import httpx
import pytest

from wsi_sampath.cli import entry
from wsi_sampath.errors import UsageError
from wsi_sampath.viewer import serving


async def hello(scope, receive, send):
    """Answer everything, as an ASGI app."""
    if scope["type"] == "lifespan":
        for what in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{what}.complete"})
        return
    await send(
        {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]}
    )
    await send({"type": "http.response.body", "body": b"ok"})


def serve_while(work, stop=signal.SIGINT, app=hello):
    """Serve in this, the main thread, while another one works; return what it returned."""
    listening = serving.listen("127.0.0.1", None)
    address = listening.getsockname()
    found = []

    def run():
        try:
            found.append(work(address))
        finally:
            os.kill(os.getpid(), stop)

    worker = threading.Thread(target=run)
    serving.serve(app, listening, started=worker.start)
    worker.join()
    assert listening.fileno() == -1
    return found[0]


@pytest.fixture(autouse=True)
def signals():
    before = [(one, signal.getsignal(one)) for one in (signal.SIGINT, signal.SIGTERM)]
    yield
    for one, handler in before:
        signal.signal(one, handler)


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_it_answers_until_it_is_told_to_stop(stop):
    signal.signal(signal.SIGTERM, entry._terminate)
    answer = serve_while(lambda at: httpx.get(f"http://{at[0]}:{at[1]}/"), stop)
    assert answer.text == "ok"
    # It says nothing of what it is made of.
    assert "server" not in answer.headers


def test_heads_that_never_end_are_given_up(monkeypatch):
    monkeypatch.setattr(serving.PatientProtocol, "header_s", 0.3)
    starts = [b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: x\r\nA: "]

    def work(at):
        sockets = [socket.create_connection(at, timeout=20) for _ in (*starts, b"")]
        for one, start in zip(sockets, starts, strict=False):
            one.sendall(start)
        # The same on a connection that was answered before.
        again = sockets[-1]
        again.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        while not again.recv(4096).endswith(b"ok"):
            pass
        again.sendall(b"GET / HTTP/1.1\r\nHost:")
        return [read_to_the_end(one) for one in sockets]

    assert serve_while(work) == [b""] * 4


def read_to_the_end(connection):
    with connection:
        found = b""
        while more := connection.recv(4096):
            found += more
        return found


@pytest.mark.parametrize("length", [b"Content-Length: 9000", b"Transfer-Encoding: chunked"])
def test_a_body_that_nobody_waits_for_does_not_hold_its_connection(monkeypatch, length):
    monkeypatch.setattr(serving.PatientProtocol, "header_s", 0.2)

    def work(at):
        with socket.create_connection(at, timeout=0.02) as one:
            one.sendall(b"POST / HTTP/1.1\r\nHost: x\r\n%b\r\n\r\n" % length)
            found, until = b"", time.monotonic() + 20
            while time.monotonic() < until:
                try:
                    one.sendall(b"1\r\nx\r\n")
                    if not (more := one.recv(4096)):
                        break
                    found += more
                except TimeoutError:
                    continue
                except OSError:
                    break
            return found, time.monotonic() < until

    found, is_closed = serve_while(work)
    assert found.endswith(b"ok")
    assert is_closed


def test_who_takes_nothing_of_an_answer_is_given_up(monkeypatch, caplog):
    monkeypatch.setattr(serving.PatientProtocol, "taking_s", 0.2)
    size = 32 << 20

    async def generous(scope, receive, send):
        if scope["type"] == "lifespan":
            await hello(scope, receive, send)
            return
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"x" * size})

    def work(at):
        with socket.create_connection(at, timeout=20) as one:
            one.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            time.sleep(1.0)
            found = 0
            with suppress(ConnectionResetError):
                while more := one.recv(1 << 20):
                    found += len(more)
            return found

    assert serve_while(work, app=generous) < size
    assert not caplog.records


def test_a_head_in_pieces_is_answered():
    def work(at):
        with socket.create_connection(at, timeout=20) as one:
            for piece in (b"GET / HT", b"TP/1.1\r\nHost: x\r\nConnection: close", b"\r\n\r\n"):
                one.sendall(piece)
                time.sleep(0.02)
            return read_to_the_end(one)

    assert serve_while(work).endswith(b"ok")


def test_a_free_port_is_found_and_a_taken_one_refused(monkeypatch):
    with serving.listen("127.0.0.1", None) as first:
        port = first.getsockname()[1]
        monkeypatch.setattr(serving, "FIRST_PORT", port)
        with serving.listen("127.0.0.1", None) as second:
            assert second.getsockname()[1] > port
        with pytest.raises(UsageError, match=f"port {port} is taken"):
            serving.listen("127.0.0.1", port)


@pytest.mark.parametrize("host", ["203.0.113.5", "no such host"])
def test_an_address_of_another_machine_is_refused(host):
    with pytest.raises(UsageError, match="no address of this machine"):
        serving.listen(host, 0)


def test_links_lead_to_this_machine():
    assert serving.link("127.0.0.1", 8642, "T") == "http://127.0.0.1:8642/#token=T"
    assert serving.link("0.0.0.0", 1, "T") == "http://127.0.0.1:1/#token=T"
    assert serving.link("::1", 1, "T") == "http://[::1]:1/#token=T"
    assert [serving.is_loopback(one) for one in ("localhost", "127.9.9.9", "::1")] == [True] * 3
    assert [serving.is_loopback(one) for one in ("0.0.0.0", "::", "lab")] == [False] * 3


@pytest.mark.parametrize(
    ("environment", "opens"),
    [({"DISPLAY": ":0"}, True), ({}, False), ({"DISPLAY": ":0", "SSH_CONNECTION": "x"}, False)],
)
def test_a_browser_is_opened_where_somebody_sees_it(monkeypatch, environment, opens):
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "SSH_CONNECTION"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(serving.sys, "platform", "linux")
    opened = threading.Event()
    monkeypatch.setattr(serving.webbrowser, "open", lambda _address: opened.set())
    serving.open_browser("http://127.0.0.1/")
    assert opened.wait(5 if opens else 0.1) is opens
