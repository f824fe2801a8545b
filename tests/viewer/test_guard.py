"""Every rule of the server, broken on purpose."""

from __future__ import annotations

import asyncio
import json

import pytest
from starlette.routing import Route
from starlette.testclient import TestClient

from wsi_sampath.errors import WsiError
from wsi_sampath.slides.readers.base import TileError
from wsi_sampath.viewer.app import build_app
from wsi_sampath.viewer.guard import (
    LARGE_BODY,
    MIDDLE_BODY,
    SMALL_BODY,
    Access,
    Guard,
    cookie_name,
)
from wsi_sampath.viewer.refusals import without_paths
from wsi_sampath.viewer.settings import ViewSettings
from wsi_sampath.viewer.shelf import Shelf

PORT = 8642
HOME = f"http://127.0.0.1:{PORT}"


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    (folder / "index.html").write_text("<!doctype html><title>page</title>")
    (folder.parent / "secret.txt").write_text("secret")
    return folder


@pytest.fixture(scope="module")
def access():
    return Access("127.0.0.1", PORT)


@pytest.fixture(scope="module")
def app(access, page):
    return build_app(Shelf([], ViewSettings()), access, title="t", page=page)


@pytest.fixture(scope="module")
def served(app):
    with TestClient(app, base_url=HOME) as client:
        yield client


@pytest.fixture
def client(served):
    served.cookies.clear()
    return served


def login(client, access, **headers):
    headers = {"origin": str(client.base_url).rstrip("/"), **headers}
    return client.post("/api/login", json={"token": access.token}, headers=headers)


async def _ask(app, method, path, receive=None):
    """Send a request as it is; return status and body."""
    sent = []

    async def send(message):
        sent.append(message)

    async def nothing():
        return {"type": "http.request", "body": b"", "more_body": False}

    headers = [(b"host", f"127.0.0.1:{PORT}".encode()), (b"origin", HOME.encode())]
    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "root_path": "",
        "query_string": b"",
        "headers": headers,
    }
    await app(scope, receive or nothing, send)
    return sent[0]["status"], b"".join(one.get("body", b"") for one in sent[1:])


def reason(answer):
    return answer.status_code, answer.json()["error"]["reason"]


def test_the_token_opens_the_door_by_a_cookie_of_this_port(client, access):
    assert reason(client.get("/api/shelf")) == (401, "no-token")
    answer = login(client, access)
    assert answer.status_code == 204
    cookie = answer.headers["set-cookie"].lower()
    assert cookie.startswith(f"wsi_view_{PORT}=")
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert access.token not in answer.headers["set-cookie"]
    assert client.get("/api/shelf").status_code == 200


@pytest.mark.parametrize("token", ["", "x" * 43, "\u00e9", None, 7, ["a"], {"a": 1}])
def test_a_wrong_token_opens_nothing(client, access, token):
    answer = client.post("/api/login", json={"token": token}, headers={"origin": HOME})
    assert reason(answer) == (401, "no-token")
    assert "set-cookie" not in answer.headers


@pytest.mark.parametrize("body", [b"", b"{", b"[" * 60_000, b"\xff\xfe", b"[]", b'"x"'])
def test_a_body_that_is_no_login_is_refused(client, body):
    answer = client.post("/api/login", content=body, headers={"origin": HOME})
    assert answer.status_code in (400, 401)
    assert "error" in answer.json()


@pytest.mark.parametrize("cookie", ["", "x", "\u00e9".encode().decode("latin-1"), '""'])
def test_a_wrong_cookie_is_refused(client, cookie):
    headers = {"cookie": f"{cookie_name(f'127.0.0.1:{PORT}')}={cookie}".encode("latin-1")}
    assert reason(client.get("/api/shelf", headers=headers)) == (401, "no-token")


def test_the_cookie_of_another_port_does_not_count(client, access):
    headers = {"cookie": f"wsi_view_{PORT + 1}={access.ticket}"}
    assert client.get("/api/shelf", headers=headers).status_code == 401


def test_the_token_itself_is_no_cookie(client, access):
    headers = {"cookie": f"wsi_view_{PORT}={access.token}"}
    assert client.get("/api/shelf", headers=headers).status_code == 401


def test_a_token_for_a_command_line_counts_once(access):
    token = access.single_token()
    assert access.admits(token)
    assert not access.admits(token)
    assert access.admits(access.token)


@pytest.mark.parametrize(
    "host",
    [
        f"evil.example:{PORT}",
        f"localhost.evil.example:{PORT}",
        f"127.0.0.1.evil.example:{PORT}",
        f"evil.example@127.0.0.1:{PORT}",
        f"0.0.0.0:{PORT}",
        f"10.0.0.7:{PORT}",
        f"127.0.0.1:{PORT}:{PORT}",
        "127.0.0.1:",
        "localhost:99999999",
        "[::1",
        "[::2]",
        "",
        " ",
    ],
)
def test_names_that_are_not_ours_are_refused_even_with_the_cookie(client, access, host):
    headers = {"host": host, "cookie": f"wsi_view_{PORT}={access.ticket}"}
    for path in ("/", "/api/shelf", "/index.html"):
        assert reason(client.get(path, headers=headers)) == (403, "foreign-host")


@pytest.mark.parametrize("host", ["localhost:9000", "127.0.0.1:9000", "[::1]:9000", "LOCALHOST"])
def test_a_tunnel_may_end_at_another_port(client, access, host):
    headers = {"host": host, "origin": f"http://{host}"}
    answer = client.post("/api/login", json={"token": access.token}, headers=headers)
    assert answer.status_code == 204
    name, value = answer.headers["set-cookie"].split(";")[0].split("=")
    assert name == f"wsi_view_{host.rpartition(':')[2] if ':' in host else 80}"
    headers["cookie"] = f"{name}={value}"
    assert client.get("/api/shelf", headers=headers).status_code == 200


def test_a_named_host_is_known_with_our_port_alone():
    access = Access("slides.lab", PORT)
    assert access.knows(f"slides.lab:{PORT}")
    assert access.knows(f"Slides.LAB:{PORT}")
    assert not access.knows("slides.lab:9000")
    assert not access.knows(f"other.lab:{PORT}")


def test_on_all_addresses_an_address_is_known_and_a_foreign_name_is_not(monkeypatch):
    monkeypatch.setattr("socket.getfqdn", lambda: "Lab.example")
    access = Access("0.0.0.0", PORT)
    # No name is looked up while the server waits.
    monkeypatch.setattr("socket.getfqdn", pytest.fail)
    assert access.knows(f"lab.example:{PORT}")
    assert access.knows(f"192.168.1.20:{PORT}")
    assert access.knows(f"[fe80::1]:{PORT}")
    assert not access.knows("192.168.1.20:9000")
    assert not access.knows(f"evil.example:{PORT}")


@pytest.mark.parametrize(
    "origin",
    ["http://evil.example", f"https://127.0.0.1:{PORT}", "http://127.0.0.1:9000", "null", ""]
    + [f"http://localhost:{PORT}"],
)
def test_a_foreign_page_writes_and_reads_nothing(client, access, origin):
    assert reason(login(client, access, origin=origin)) == (403, "foreign-origin")
    headers = {"origin": origin, "cookie": f"wsi_view_{PORT}={access.ticket}"}
    assert client.get("/api/shelf", headers=headers).status_code == 403


def test_what_writes_says_where_it_comes_from(client, access):
    answer = client.post("/api/login", json={"token": access.token})
    assert reason(answer) == (403, "foreign-origin")


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_pages_of_other_ports_embed_nothing(client, access, site):
    headers = {"sec-fetch-site": site, "cookie": f"wsi_view_{PORT}={access.ticket}"}
    assert client.get("/api/shelf", headers=headers).status_code == 403
    # A link in a mail may lead to the page itself.
    assert client.get("/", headers={**headers, "sec-fetch-mode": "navigate"}).status_code == 200


@pytest.mark.parametrize("method", ["OPTIONS", "PUT", "DELETE", "PATCH", "TRACE", "FOO"])
def test_other_methods_are_refused_and_no_site_is_let_in(client, method):
    headers = {"origin": "http://evil.example", "access-control-request-method": "POST"}
    answer = client.request(method, "/api/shelf", headers=headers)
    assert answer.status_code == 405
    assert not [name for name in answer.headers if name.startswith("access-control")]


@pytest.mark.parametrize("path", ["/", "/api/shelf", "/nothing", "/api/nothing"])
def test_every_answer_says_what_a_browser_may_do(client, path):
    headers = client.get(path).headers
    assert "default-src 'self'" in headers["content-security-policy"]
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cache-control"] == ("no-store" if "api" in path else "no-cache") or (
        path == "/nothing" and headers["cache-control"] == "no-store"
    )


@pytest.mark.parametrize(
    "path",
    [
        "/../secret.txt",
        "//secret.txt",
        "/x/../../secret.txt",
        "/..\\secret.txt",
        "{folder}/secret.txt",
        "/{folder}/secret.txt",
        "/\0",
        "/index.html\0.txt",
        "/" + "a" * 5000,
        "/\u202e\ud800",
    ],
)
def test_no_path_leads_out_of_the_page(app, page, path):
    # By hand, for clients tidy paths up.
    status, body = asyncio.run(_ask(app, "GET", path.format(folder=page.parent)))
    assert status in (400, 404)
    assert json.loads(body)["error"]["reason"] == "missing"


@pytest.mark.parametrize(
    "path",
    [
        "/api",
        "/api/",
        "/api/slides/../../etc/passwd",
        "/api/slides/%2e%2e%2f%2e%2e/tiles/0/0_0.jpg",
        "/api/slides/a/tiles/0/" + "9" * 5000 + "_0.jpg",
        "/api/slides/a/tiles/-1/0_0.jpg",
        "/api/slides/<script>/thumbnail.jpg",
    ],
)
def test_what_is_not_there_is_missing(client, access, path):
    login(client, access)
    answer = client.get(path)
    assert reason(answer) == (404, "missing")
    assert answer.headers["content-type"] == "application/json"


@pytest.mark.parametrize(
    "path",
    ["//api/shelf", "/API/shelf", "/./api/shelf", "/x/../api/shelf", "/api//shelf", "/api/shelf/"],
)
def test_no_other_spelling_passes_by_the_cookie(app, path):
    status, _ = asyncio.run(_ask(app, "GET", path))
    assert status in (401, 404)


@pytest.mark.parametrize(
    ("error", "status", "reason_"),
    [
        (RuntimeError("secret"), 500, "internal"),
        (MemoryError("secret"), 503, "out-of-memory"),
        (TileError("secret at 17"), 503, "unreadable"),
        (WsiError("unreadable", "cut off (/secret/a.svs)", subject="/secret"), 400, "unreadable"),
        (WsiError("disk-full", "no space is left"), 503, "disk-full"),
    ],
)
def test_a_failure_is_told_without_where_it_was(access, page, error, status, reason_):
    def fail(_request):
        raise error

    rooms = [Route("/api/fail", fail)]
    app = build_app(Shelf([], ViewSettings()), access, title="t", page=page, rooms=rooms)
    client = TestClient(app, base_url=HOME, raise_server_exceptions=False)
    answer = client.get("/api/fail", headers={"cookie": f"wsi_view_{PORT}={access.ticket}"})
    assert reason(answer) == (status, reason_)
    assert "secret" not in answer.text
    assert "Traceback" not in answer.text
    assert "default-src 'self'" in answer.headers["content-security-policy"]


def test_a_giant_body_is_refused_before_it_is_read(client, access):
    headers = {"origin": HOME, "content-length": str(1 << 40)}
    answer = client.post("/api/login", content=b"{}", headers=headers)
    assert reason(answer) == (413, "too-large")
    headers["content-length"] = "9" * 5000
    answer = client.post("/api/login", content=b"{}", headers=headers)
    assert answer.status_code == 400


@pytest.mark.parametrize(
    ("room", "most"),
    [("ask", SMALL_BODY), ("session", MIDDLE_BODY), ("annotations", LARGE_BODY)],
)
def test_a_room_takes_as_much_as_it_may_need(client, access, room, most):
    headers = {"origin": HOME, "cookie": f"wsi_view_{PORT}={access.ticket}"}
    for size, status in ((most, 404), (most + 1, 413)):
        headers["content-length"] = str(size)
        answer = client.post(f"/api/slides/abc/{room}", content=b"{}", headers=headers)
        assert answer.status_code == status


def test_a_body_that_hides_its_length_is_refused_as_well(client):
    def pieces():
        for _ in range(2 * SMALL_BODY // 1024 + 2):
            yield b" " * 1024

    answer = client.post("/api/login", content=pieces(), headers={"origin": HOME})
    assert reason(answer) == (413, "too-large")


def test_what_asks_has_no_body(client):
    answer = client.request("GET", "/", content=iter([b"x"]))
    assert "transfer-encoding" in answer.request.headers
    assert reason(answer) == (400, "bad-input")


def test_a_body_that_trickles_in_is_given_up(access):
    async def reads(scope, receive, send):
        while (await receive()).get("more_body"):
            pass

    async def trickle():
        await asyncio.sleep(0.02)
        return {"type": "http.request", "body": b"x", "more_body": True}

    guard = Guard(reads, access, patience_s=0.1)
    status, body = asyncio.run(_ask(guard, "POST", "/api/login", trickle))
    assert (status, json.loads(body)["error"]["reason"]) == (408, "too-slow")


def test_a_web_socket_is_closed(access):
    sent = []

    async def run():
        async def send(message):
            sent.append(message)

        await Guard(None, access)({"type": "websocket", "path": "/"}, None, send)

    asyncio.run(run())
    assert sent == [{"type": "websocket.close", "code": 1008}]


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ("it ends early (/home/me and you/a b.svs)", "it ends early (a b.svs)"),
        ("'/data/x/slide.svs' and /top.svs", "'slide.svs' and top.svs"),
        ("C:\\Users\\me\\s.svs: gone", "s.svs: gone"),
        ("1/2 of 3 um/px, and/or nothing", "1/2 of 3 um/px, and/or nothing"),
    ],
)
def test_errors_name_no_folder(message, said):
    assert without_paths(message) == said
