"""A small web server of one folder on loopback, which can be told to misbehave."""

from __future__ import annotations

import hashlib
import os
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit


@dataclass
class Manners:
    """How the server behaves, and what it was asked.

    ``fail`` holds answers to be given first, one each: a status, or "cut" for half a body,
    "garbled" for half a body and then bytes that are no TLS.
    ``headers`` come with every range, ``beyond`` is added to the size that it tells of, ``stays``
    says that an answer has no length and no end, and ``sends_on`` where all requests are sent.
    """

    ranges: bool = True
    etag: bool = True
    total: bool = True
    needs: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    beyond: int = 0
    stays: bool = False
    sends_on: str = ""
    fail: list[int | str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    sent: int = 0


@dataclass(frozen=True)
class Server:
    url: str
    manners: Manners


@contextmanager
def serving(folder: Path, certificate: Path | None = None) -> Iterator[Server]:
    """Serve a folder; with a certificate and its key in one file, by HTTPS."""
    manners = Manners()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # Head and body in one packet, or the other side waits for the second.
        wbufsize = -1

        def log_message(self, *_args):
            pass

        def do_GET(self):
            answer(self, folder, manners)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    # Who hangs up while the server speaks is no news.
    server.handle_error = lambda *_: None
    if certificate is not None:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(certificate)
        # The handshake is left to the thread of the connection: some of them fail.
        server.socket = tls.wrap_socket(
            server.socket, server_side=True, do_handshake_on_connect=False
        )
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield Server(f"http{'s' if certificate else ''}://127.0.0.1:{server.server_port}", manners)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def answer(handler: BaseHTTPRequestHandler, folder: Path, manners: Manners) -> None:
    parts = urlsplit(handler.path)
    path = folder / unquote(parts.path).lstrip("/")
    manners.asked.append(handler.headers.get("Range", ""))
    fault = manners.fail.pop(0) if manners.fail else None
    if manners.needs and manners.needs not in (parts.query, handler.headers.get("Authorization")):
        fault = 403
    if manners.sends_on:
        handler.send_response(302)
        handler.send_header("Location", manners.sends_on)
        handler.send_header("Content-Length", "0")
        handler.end_headers()
        return
    if isinstance(fault, int) or not path.is_file():
        handler.send_response(fault if isinstance(fault, int) else 404)
        handler.send_header("Content-Length", "0")
        handler.end_headers()
        return
    content = path.read_bytes()
    if not manners.ranges:
        handler.send_response(200)
        send(handler, manners, content, path)
        return
    first, last = handler.headers["Range"].removeprefix("bytes=").split("-")
    part = content[int(first) : int(last) + 1]
    if not part:
        handler.send_response(416)
        send(handler, manners, b"", path)
        return
    handler.send_response(206)
    total = len(content) + manners.beyond if manners.total else "*"
    for name, value in manners.headers.items():
        handler.send_header(name, value)
    handler.send_header("Content-Range", f"bytes {first}-{int(first) + len(part) - 1}/{total}")
    send(handler, manners, part, path, fault)


def send(handler, manners: Manners, body: bytes, path: Path, fault=None) -> None:
    if manners.etag:
        stat = path.stat()
        tag = hashlib.md5(f"{stat.st_mtime_ns} {stat.st_size}".encode()).hexdigest()
        handler.send_header("ETag", f'"{tag}"')
    if not manners.stays:
        handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    body = body[: len(body) // 2] if fault else body
    manners.sent += len(body)
    handler.wfile.write(body)
    if manners.stays:
        handler.wfile.flush()
        handler.rfile.read(1)
    if fault == "garbled":
        handler.wfile.flush()
        os.write(handler.connection.fileno(), b"no record of TLS" * 9)
    if fault:
        handler.close_connection = True
