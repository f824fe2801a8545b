"""``wsi-view``: what it opens, prints and refuses."""

from __future__ import annotations

import re
import socket

import numpy as np
import pytest
import slide_server
from command_line import ended, quick_help
from starlette.testclient import TestClient

from wsi_sampath.cli import view as command
from wsi_sampath.extras import install_hint
from wsi_sampath.synthetic.svs_writer import write_svs
from wsi_sampath.viewer import app, serving


def grey(_x, _y, width, height):
    return np.full((height, width, 3), 200, np.uint8)


@pytest.fixture(scope="module")
def slides(tmp_path_factory):
    folder = tmp_path_factory.mktemp("slides")
    size = {"width": 600, "height": 300, "levels": (1,), "thumbnail": False}
    write_svs(folder / "a.svs", grey, mpp=0.5, **size)
    write_svs(folder / "no-mpp.svs", grey, mpp=None, **size)
    return folder


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
    """Run the command with a server that answers `asks` and ends."""
    (tmp_path / "index.html").write_text("page")
    monkeypatch.setattr(app.build_app, "__kwdefaults__", {**app.build_app.__kwdefaults__})
    monkeypatch.setitem(app.build_app.__kwdefaults__, "page", tmp_path)
    opened = []
    monkeypatch.setattr(serving, "open_browser", opened.append)

    def run(*words, asks=lambda client, token: None):
        def serve(server, listening, *, started):
            port = listening.getsockname()[1]
            started()
            listening.close()
            token = opened[-1].partition("#token=")[2] if opened else ""
            with TestClient(server, base_url=f"http://127.0.0.1:{port}") as client:
                asks(client, token)

        monkeypatch.setattr(serving, "serve", serve)
        code = ended(monkeypatch, command.main, "wsi-view", *words)
        told = capsys.readouterr()
        return code, told.out, told.err

    return run


def logged_in(client, token):
    origin = str(client.base_url).rstrip("/")
    return client.post("/api/login", json={"token": token}, headers={"origin": origin}).status_code


def test_a_slide_is_served_behind_the_printed_link(run, slides):
    seen = {}

    def asks(client, token):
        assert client.get("/").text == "page"
        assert client.get("/api/shelf").status_code == 401
        seen["once"], seen["again"] = logged_in(client, token), logged_in(client, token)
        seen["shelf"] = client.get("/api/shelf").json()
        slide = client.get(f"/api/slides/{seen['shelf']['entries'][0]['id']}").json()
        seen["slide"] = slide
        tile = client.get(f"/api/slides/{slide['id']}/tiles/0/0_0.jpg")
        assert tile.headers["content-type"] == "image/jpeg"

    code, out, err = run(slides / "a.svs", asks=asks)
    assert (code, err) == (0, "")
    assert re.fullmatch(r"wsi-view: http://127\.0\.0\.1:\d+/#token=[\w-]{43}\n", out)
    # What stands in the browser's command line is not what is printed, and counts once.
    assert (seen["once"], seen["again"]) == (204, 401)
    assert (seen["shelf"]["title"], seen["shelf"]["model"]) == ("a.svs", None)
    assert seen["slide"]["mpp"] == [0.5, 0.5]


def test_a_slide_on_a_server_is_shown_by_its_url(run, slides, tmp_path):
    seen = {}

    def asks(client, token):
        logged_in(client, token)
        entry = client.get("/api/shelf").json()["entries"][0]
        seen["shelf"] = client.get("/api/shelf").text
        tile = client.get(f"/api/slides/{entry['id']}/tiles/0/0_0.jpg")
        seen["tile"] = tile.headers["content-type"]

    with slide_server.serving(slides) as server:
        code, out, err = run(f"{server.url}/a.svs?c0ffee", "--session", tmp_path, asks=asks)
        assert (code, err, seen["tile"]) == (0, "", "image/jpeg")
        assert "a.svs" in seen["shelf"]
        assert "c0ffee" not in out + seen["shelf"]
        # Where there is no folder beside it, one has to be named for what is drawn.
        assert "with --session" in run(f"{server.url}/a.svs?c0ffee")[2]
        code, _, err = run(f"{server.url}/gone.svs?c0ffee")
    assert code == 1
    assert f"error: {server.url}/gone.svs: unreachable: the server answered 404" in err


def test_a_slide_without_mpp_is_shown_and_nothing_else(run, slides):
    seen = {}

    def asks(client, token):
        logged_in(client, token)
        id = client.get("/api/shelf").json()["entries"][0]["id"]
        seen["slide"] = client.get(f"/api/slides/{id}").json()
        seen["tile"] = client.get(f"/api/slides/{id}/tiles/0/0_0.jpg").status_code

    code, _, err = run(slides / "no-mpp.svs", asks=asks)
    assert code == 0
    assert "warning: its scale is not known: the file does not state its microns" in err
    assert (seen["slide"]["mpp"], seen["tile"]) == (None, 200)
    code, out, err = run(slides / "no-mpp.svs", "--model", "nuclei-mini")
    assert (code, out) == (2, "")
    assert "no-mpp: " in err


def test_the_scale_may_be_given(run, slides):
    seen = {}

    def asks(client, token):
        logged_in(client, token)
        id = client.get("/api/shelf").json()["entries"][0]["id"]
        seen.update(client.get(f"/api/slides/{id}").json())

    code, _, err = run(slides / "no-mpp.svs", "--slide-mpp", "0.25", asks=asks)
    assert (code, err) == (0, "")
    assert (seen["mpp"], seen["mpp_source"]) == ([0.25, 0.25], "flag")


def test_another_host_is_warned_of_and_keeps_the_token(run, slides):
    code, out, err = run(slides / "a.svs", "--host", "0.0.0.0", "--no-browser")
    assert code == 0
    assert "#token=" in out
    assert err.startswith("warning: --host 0.0.0.0 lets in everybody who reaches this machine")
    assert "ssh -L" in err


def test_wrong_use_is_one_line(run, slides, tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        cases = {
            "there is no such slide": (slides / "none.svs",),
            f"port {port} is taken": (slides / "a.svs", "--port", port),
            "is no address of this machine": (slides / "a.svs", "--host", "203.0.113.9"),
            "unreadable": (tmp_path / "index.html",),
            "--port": (slides / "a.svs", "--port", "0"),
            "bad-model": (slides / "a.svs", "--model", "no-such-model"),
        }
        for said, words in cases.items():
            code, out, err = run(*words)
            assert (code, out) == (2, ""), words
            assert said in err
            assert err.startswith("error: ")
            assert err.count("\n") == 1


def test_without_the_extra_it_says_what_to_install(run, slides, monkeypatch):
    monkeypatch.setattr(command, "find_spec", lambda name: None if name == "uvicorn" else True)
    code, _, err = run(slides / "a.svs")
    assert code == 2
    assert install_hint("viewer") in err


def test_help_is_quick_and_names_every_option():
    told = quick_help("wsi-view", without={"torch", "scipy", "starlette", "uvicorn"})
    for option in ("--model", "--port", "--host", "--no-browser", "--session", "--slide-mpp"):
        assert option in told
    assert "--browser" not in told
