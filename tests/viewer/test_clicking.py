"""The addresses of sessions, annotations and clicks, as the page uses them."""

from __future__ import annotations

import os
import threading

import numpy as np
import pytest
from prompt_stub import disc_model, disc_picture, write_discs
from starlette.testclient import TestClient
from test_sessions import box, feature

from wsi_sampath.outputs.qupath.rules import judge_geojson
from wsi_sampath.viewer import app as server
from wsi_sampath.viewer import desk as desks
from wsi_sampath.viewer.clicking import routes
from wsi_sampath.viewer.desk import Desk
from wsi_sampath.viewer.settings import ViewSettings
from wsi_sampath.viewer.shelf import Shelf, ShelfEntry, opaque_id

SIDE, SIZE = 96, (300, 200)


@pytest.fixture(scope="module")
def discs():
    return disc_picture(SIZE[1], SIZE[0])


@pytest.fixture(scope="module")
def slides(discs, tmp_path_factory):
    folder = tmp_path_factory.mktemp("clicked")
    return [write_discs(folder / f"Ü {n}.tiff", np.roll(discs, n, axis=1)) for n in (0, 7)]


@pytest.fixture
def open_desk(slides, tmp_path, monkeypatch):
    """Return a function that opens a desk, as a server does when it starts."""
    monkeypatch.setenv("WSI_SAMPATH_CACHE", str(tmp_path / "cache"))
    opened = []

    def begin(*, model="discs", load=lambda settings: disc_model(SIDE), limit_s=30.0, tell=None):
        entries = [ShelfEntry(opaque_id(path), path.name, path) for path in slides]
        session = tmp_path / "sessions"
        shelf = Shelf(entries, ViewSettings(model=model, device="cpu", session=session))
        desk = Desk(shelf, load, tell=tell)
        opened.append(desk)
        rooms = routes(shelf, desk, ask_limit_s=limit_s)
        starlette = server.Starlette(routes=rooms, exception_handlers=server._HANDLERS)
        client = TestClient(starlette, raise_server_exceptions=False)
        return desk, client, [f"/api/slides/{one.id}" for one in entries]

    yield begin
    for desk in opened:
        desk.close()


def send(client, slide, event, revision=None):
    if revision is None:
        revision = client.get(f"{slide}/session").json()["revision"]
    return client.post(f"{slide}/session", json={"revision": revision, "event": event})


def refusal(answer, status=400):
    assert answer.status_code == status
    found = answer.json()["error"]
    assert "/" not in found["message"]
    return found["reason"], found["message"]


def middle(discs, number):
    y, x = (round(places.mean()) for places in np.nonzero(discs == number))
    return x + 0.5, y + 0.5


def test_a_click_is_accepted_undone_exported_and_there_after_a_restart(open_desk, discs, tmp_path):
    desk, client, (slide, _) = open_desk()
    x, y = middle(discs, 40)
    answer = client.post(f"{slide}/ask", json={"points": [[x, y, 1]]}).json()
    assert client.get(f"{slide}/look?x={x}&y={y}").json()["state"] == "ready"
    best, second, _ = answer["candidates"]
    assert best["token"] == answer["token"]
    told = {"geometry": best["geometry"], "properties": {"class": "disc", "color": "#00ff00"}}
    token = second["token"]
    found = send(client, slide, {"type": "add", "feature": told, "token": token}).json()
    (one,) = found["objects"]
    assert one["geometry"] == second["geometry"]
    assert one["properties"] == {
        "name": None,
        "class": "disc",
        "color": "#00ff00",
        "quality": 0.9,
        "model": "discs",
        "weights": "0" * 12,
        "mpp": 0.25,
        "prompt": {"points": [[x, y, 1]], "steps": [[1, 1]]},
    }
    prompt = {"points": [[x, y, 1]], "box": None, "outline": None}
    told["properties"] |= {"quality": best["quality"], "prompt": prompt}
    found = send(client, slide, {"type": "add", "feature": told}).json()
    assert found["objects"][1]["properties"]["model"] == "discs"
    found = send(client, slide, {"type": "undo"}).json()
    assert (found["can_undo"], found["can_redo"]) == (True, True)
    assert [one["id"] for one in found["objects"]] == [one["id"]]
    file = client.get(f"{slide}/annotations.geojson")
    assert file.headers["content-disposition"].endswith("''%C3%9C%200.geojson")
    (tmp_path / "out.geojson").write_bytes(file.content)
    assert judge_geojson(tmp_path / "out.geojson") == []
    desk.close()
    _, client, (slide, _) = open_desk(model=None)
    assert client.get(f"{slide}/session").json() == found
    assert len(send(client, slide, {"type": "redo"}).json()["objects"]) == 2


def test_a_stale_page_gets_the_present_state(open_desk):
    _, client, (slide, _) = open_desk(model=None)
    now = send(client, slide, {"type": "add", "feature": feature(10, 10)}).json()
    late = send(client, slide, {"type": "add", "feature": feature(90, 90)}, revision=0)
    assert refusal(late, 409)[0] == "stale"
    assert {key: value for key, value in late.json().items() if key != "error"} == now


def test_an_import_is_one_step(open_desk):
    _, client, (slide, other) = open_desk(model=None)
    for x in (10, 90):
        send(client, slide, {"type": "add", "feature": feature(x, 10, **{"class": f"at {x}"})})
    raw = client.get(f"{slide}/annotations.geojson").content
    found = client.post(f"{other}/annotations", content=raw).json()
    assert (found["imported"], found["revision"], len(found["classes"])) == (2, 1, 2)
    assert client.post(f"{other}/annotations", content=raw).json()["imported"] == 0
    assert send(client, other, {"type": "undo"}).json()["objects"] == []
    assert refusal(client.post(f"{other}/annotations", content=b"nonsense"))[0] == "bad-input"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"nonsense",
        b"[" * 9000,
        b"[]",
        b'{"revision": 0}',
        b'{"revision": 1e999, "event": {"type": "undo"}}',
        b'{"revision": -1, "event": {"type": "undo"}}',
        b'{"revision": 0, "event": {"type": "undo"}}',
        b'{"revision": 0, "event": {"type": "add", "token": "x", "feature": null}}',
    ],
)
def test_bad_bodies_are_refused(open_desk, body):
    _, client, (slide, _) = open_desk(model=None)
    assert refusal(client.post(f"{slide}/session", content=body))[0] == "bad-input"
    for path in ("look", "ask"):
        assert refusal(client.post(f"{slide}/{path}", content=body))[0] == "bad-input"
    assert client.get(f"{slide}/session").json()["revision"] == 0


def test_bad_questions_are_refused(open_desk, discs):
    _, client, (slide, _) = open_desk()
    for question, why in [
        ({}, "nothing points"),
        ({"points": [[5000, 5, 1]]}, "outside of the slide"),
        ({"points": [[1, 1, 2]]}, "less than or equal to 1"),
        ({"points": [[1, 1, 1]] * 101}, "at most 100 items"),
        ({"points": [[1e300, 1, 1]]}, "less than or equal to"),
        ({"box": [1, 1, 1, 9]}, "has no area"),
        ({"outline": {"type": "Point", "coordinates": [1, 1]}}, "Polygon"),
        ({"outline": box(9000, 0)}, "nothing of it lies on the slide"),
        ({"points": [], "path": "x"}, "Extra inputs"),
    ]:
        assert why in refusal(client.post(f"{slide}/ask", json=question))[1]
    for query in ("x=1", "x=nan&y=1", "x=1&y=inf", "x=a&y=1"):
        assert refusal(client.get(f"{slide}/look?{query}"))[0] == "bad-input"
    unknown = {"type": "add", "feature": feature(10, 10), "token": "0" * 16}
    assert "not kept any more" in refusal(send(client, slide, unknown))[1]


def test_unknown_slides_are_missing(open_desk):
    _, client, _ = open_desk()
    slide = "/api/slides/" + "0" * 24
    for path in ("session", "annotations.geojson", "look?x=1&y=1"):
        assert refusal(client.get(f"{slide}/{path}"), 404)[0] == "missing"
    event = {"revision": 0, "event": {"type": "undo"}}
    for path, body in [
        ("session", event),
        ("annotations", {}),
        ("look", {"x": 1, "y": 1}),
        ("ask", {"points": [[1, 1, 1]]}),
    ]:
        assert refusal(client.post(f"{slide}/{path}", json=body), 404)[0] == "missing"


def test_without_a_model_clicks_are_refused(open_desk):
    desk, client, (slide, _) = open_desk(model=None)
    assert desk.maker() is None
    for answer in (
        client.get(f"{slide}/look?x=1&y=1"),
        client.post(f"{slide}/ask", json={"points": [[1, 1, 1]]}),
        send(client, slide, {"type": "add", "feature": feature(), "token": "0"}),
    ):
        assert "--model NAME" in refusal(answer)[1]


def test_a_question_waits_no_longer_than_its_limit(open_desk, discs):
    loading = threading.Event()

    def load(settings):
        assert loading.wait(30)
        return disc_model(SIDE)

    _, client, (slide, _) = open_desk(load=load, limit_s=0.05)
    question = {"points": [[*middle(discs, 40), 1]]}
    x, y = question["points"][0][:2]
    assert client.post(f"{slide}/look", json={"x": x, "y": y}).json()["state"] == "waiting"
    assert refusal(client.post(f"{slide}/ask", json=question), 503)[0] == "busy"
    loading.set()
    while client.get(f"{slide}/look?x={x}&y={y}").json()["state"] != "ready":
        pass
    while (answer := client.post(f"{slide}/ask", json=question)).status_code == 503:
        pass
    assert len(answer.json()["candidates"]) == 3


def test_a_second_server_shows_and_is_refused_to_write(open_desk):
    first, client, (slide, other) = open_desk(model=None)
    send(client, slide, {"type": "add", "feature": feature(10, 10)})
    second, late, _ = open_desk(model=None)
    (warning,) = second.warnings()
    assert "busy" in warning
    assert "--session" in warning
    assert refusal(late.get(f"{slide}/session"), 503)[0] == "busy"
    assert send(late, other, {"type": "add", "feature": feature(10, 10)}).status_code == 200
    first.close()
    assert second.warnings() == []
    assert len(late.get(f"{slide}/session").json()["objects"]) == 1


def test_a_torn_session_is_told_on_the_page_and_in_the_terminal(open_desk, tmp_path):
    desk, client, (slide, _) = open_desk(model=None)
    send(client, slide, {"type": "add", "feature": feature(10, 10)})
    desk.close()
    (path,) = (tmp_path / "sessions").glob("*.jsonl")
    with path.open("a") as file:
        file.write('{"n":2,"type":"del')
    told = []
    _, client, _ = open_desk(model=None, tell=told.append)
    found = client.get(f"{slide}/session").json()
    assert len(found["objects"]) == 1
    assert found["notes"] == told
    assert "cut off by a crash" in told[0]


def test_a_folder_that_cannot_be_written_to_is_said(open_desk, monkeypatch):
    monkeypatch.setattr(os, "access", lambda *_: False)
    desk, client, (slide, _) = open_desk(model=None)
    assert "--session" in desk.warnings()[0]
    assert "--session" in refusal(client.get(f"{slide}/session"))[1]


def test_sessions_used_long_ago_are_read_again(open_desk, monkeypatch, tmp_path):
    monkeypatch.setattr(desks, "MOST_SESSIONS", 1)
    _, client, slides = open_desk(model=None)
    for number, slide in enumerate([*slides, *slides]):
        found = send(client, slide, {"type": "add", "feature": feature(20 * number, 10)}).json()
        assert len(found["objects"]) == 1 + number // 2
        assert len(list((tmp_path / "sessions").glob("*.claim"))) == 1
