"""Sessions: whatever happens is on the disk first, and comes back from there."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import uuid
from pathlib import Path

import hypothesis
import pytest
from hypothesis import strategies as st

from wsi_sampath.errors import WsiError
from wsi_sampath.viewer import event_log
from wsi_sampath.viewer.drawn import DrawnClass, Frame
from wsi_sampath.viewer.requests import ToldStep, event_for
from wsi_sampath.viewer.session import Session, Stale, Subject, session_path

FRAME = Frame((3000, 2000), (0.25, 0.25))
SUBJECT = Subject("a.svs", "f" * 64, FRAME, (DrawnClass(name="tumour", color="#aa0000"),))
IDS = [str(uuid.UUID(int=number)) for number in range(4)]


def box(x, y, side=40):
    ring = [[x, y], [x + side, y], [x + side, y + side], [x, y + side], [x, y]]
    return {"type": "Polygon", "coordinates": [ring]}


def feature(x=100, y=100, **properties):
    return {"geometry": box(x, y), "properties": properties}


def do(session, event, revision=None):
    told = ToldStep.read({"revision": session.drawing.revision, "event": event})
    session.do(
        event_for(told.event, session, pytest.fail, None),
        session.drawing.revision if revision is None else revision,
    )


def state(session):
    found = json.loads(session.text())
    del found["notes"]
    return found


@pytest.fixture
def path(tmp_path):
    return tmp_path / "a.session.jsonl"


@pytest.fixture
def session(path):
    session = Session(path, SUBJECT)
    yield session
    session.close()


def reopened(session):
    session.close()
    return Session(session.path, SUBJECT)


NAMES = st.sampled_from([None, "", "tumour", "Tumour ", "Stroma: dense", "Ignore*", "<b>Ω"])
PLACES = st.floats(-30, 3010).map(lambda value: round(value, 3))
OBJECTS = st.builds(
    lambda x, y, name, quality, asked: feature(
        x, y, name=name, **{"class": name}, quality=quality, prompt=asked
    ),
    st.floats(0, 2900),
    st.floats(0, 1900),
    NAMES,
    st.none() | st.floats(-1, 2),
    st.none() | st.builds(lambda x, y: {"points": [[x, y, 1], [y, x, 0]]}, PLACES, PLACES),
)
EVENTS = st.one_of(
    st.builds(
        lambda key, what: {"type": "add", "feature": {"id": key, **what}},
        st.sampled_from(IDS),
        OBJECTS,
    ),
    st.builds(
        lambda key, what: {"type": "change", "id": key, **what},
        st.sampled_from(IDS),
        st.fixed_dictionaries(
            {}, optional={"geometry": st.builds(box, PLACES, PLACES), "class": NAMES, "name": NAMES}
        ),
    ),
    st.builds(
        lambda keys: {"type": "delete", "ids": keys}, st.lists(st.sampled_from(IDS), max_size=3)
    ),
    st.builds(
        lambda name, color: {"type": "class", "name": name, "color": color},
        NAMES,
        st.sampled_from(["#00ff00", "#123456"]),
    ),
    st.sampled_from([{"type": "undo"}, {"type": "redo"}]),
)


@hypothesis.settings(max_examples=15, deadline=None)
@hypothesis.given(events=st.lists(EVENTS, min_size=8, max_size=25))
def test_what_is_read_back_is_what_was(events, tmp_path_factory):
    """After any events, with undo and redo among them, and all the way back and forth."""
    path = tmp_path_factory.mktemp("session") / "a.session.jsonl"
    session, states = Session(path, SUBJECT), []
    for key in IDS[1:]:
        do(session, {"type": "add", "feature": {"id": key, **feature()}})
    for event in events:
        before = session.text()
        try:
            do(session, event)
        except WsiError:
            assert session.text() == before
    text = session.text()
    again = reopened(session)
    assert again.text() == text
    while again.drawing.can_undo:
        states.append(shown(again))
        do(again, {"type": "undo"})
    assert not json.loads(again.text())["objects"]
    for expected in reversed(states):
        do(again, {"type": "redo"})
        assert shown(again) == expected
    text = again.text()
    assert reopened(again).text() == text


def shown(session):
    found = state(session)
    return found["objects"], found["classes"]


def test_each_kind_of_event(session):
    do(session, {"type": "add", "feature": feature(name=" a\nb ", **{"class": "Tumour"})})
    (one,) = state(session)["objects"]
    assert one["geometry"] == box(100, 100)
    assert one["properties"] == {
        "name": "a b",
        "class": "tumour",
        "color": "#aa0000",
        "quality": None,
        "prompt": None,
    }
    do(session, {"type": "class", "name": "TUMOUR", "color": "#0000bb"})
    do(session, {"type": "change", "id": one["id"], "geometry": box(2990, 0), "name": None})
    (changed,) = state(session)["objects"]
    assert changed["properties"]["color"] == "#0000bb"
    assert changed["properties"]["name"] is None
    assert max(x for x, _ in changed["geometry"]["coordinates"][0]) == 3000
    do(session, {"type": "delete", "ids": [one["id"]]})
    assert state(session)["objects"] == []
    for _ in range(4):
        do(session, {"type": "undo"})
    found = state(session)
    assert (found["revision"], found["can_undo"], found["can_redo"]) == (8, False, True)
    assert found["classes"] == [{"name": "tumour", "color": "#aa0000"}]


def test_quality_is_gone_where_an_outline_is_edited(session):
    told = {"quality": 0.91234567, "model": "m", "weights": "0" * 64, "mpp": 0.25}
    do(session, {"type": "add", "feature": feature(**told, prompt={"points": [[120, 120, 1]]})})
    (one,) = state(session)["objects"]
    assert one["properties"]["quality"] == 0.9123
    assert one["properties"]["weights"] == "0" * 12
    do(session, {"type": "change", "id": one["id"], "geometry": box(100, 100)})
    assert state(session)["objects"] == [one]
    do(session, {"type": "change", "id": one["id"], "geometry": box(101, 100)})
    found = state(session)["objects"][0]["properties"]
    assert found["quality"] is None
    assert found["edited"] is True
    assert found["prompt"] == {"points": [[120, 120, 1]]}


ODD = {"type": "Polygon", "coordinates": [[[0, 0], [1, 1]]]}
NAN = {"type": "Polygon", "coordinates": [[[0, 0], [9, float("nan")], [9, 9], [0, 0]]]}
DEEP = {"type": "Polygon", "coordinates": [[[[0, 0], [9, 0], [9, 9], [0, 0]]]]}
BAD = {
    "unknown type": {"type": "explode"},
    "no type": {"feature": feature()},
    "not an object": [],
    "geometry of another type": {"type": "add", "feature": {"geometry": {"type": "Point"}}},
    "no area": {"type": "add", "feature": {"geometry": ODD}},
    "NaN": {"type": "add", "feature": {"geometry": NAN}},
    "nested too deeply": {"type": "add", "feature": {"geometry": DEEP}},
    "coordinates of text": {
        "type": "add",
        "feature": {"geometry": {"type": "Polygon", "coordinates": [["abc"]]}},
    },
    "off the slide": {"type": "add", "feature": feature(3100, 0)},
    "far beyond": {"type": "add", "feature": feature(1e300, 0)},
    "quality that is infinite": {"type": "add", "feature": feature(quality=float("inf"))},
    "colour": {"type": "class", "name": "a", "color": "url(x)"},
    "empty class": {"type": "class", "name": " ", "color": "#000000"},
    "class with an empty part": {"type": "add", "feature": feature(**{"class": "a:"})},
    "class with a line break": {"type": "add", "feature": feature(**{"class": "a\nb"})},
    "half a surrogate pair": {"type": "class", "name": "\ud800", "color": "#000000"},
    "a long name": {"type": "add", "feature": feature(name="a" * 501)},
    "an unknown property": {"type": "add", "feature": feature(script="x")},
    "an id that is none": {"type": "add", "feature": {"id": "../x", **feature()}},
    "a prompt with an odd sign": {
        "type": "add",
        "feature": feature(prompt={"points": [[1, 1, 7]]}),
    },
    "a prompt of many points": {
        "type": "add",
        "feature": feature(prompt={"points": [[1, 1, 1]] * 101}),
    },
    "unknown id": {"type": "delete", "ids": [IDS[0]]},
    "no id": {"type": "delete", "ids": []},
    "nothing to undo": {"type": "undo"},
    "nothing to redo": {"type": "redo"},
}


@pytest.mark.parametrize("event", BAD.values(), ids=BAD)
def test_bad_events_are_refused_in_a_line_and_leave_nothing(session, event):
    with pytest.raises(WsiError) as caught:
        do(session, event)
    assert caught.value.reason == "bad-input"
    assert "\n" not in caught.value.message
    assert session.drawing.revision == 0
    assert not session.path.exists()


def test_too_many_corners_and_objects_are_refused(session, monkeypatch):
    monkeypatch.setattr("wsi_sampath.viewer.drawn.MOST_CORNERS", 4)
    with pytest.raises(WsiError, match="more than 4 corners"):
        do(session, {"type": "add", "feature": feature()})
    monkeypatch.setattr("wsi_sampath.viewer.drawn.MOST_CORNERS", 5)
    monkeypatch.setattr("wsi_sampath.viewer.events.MOST_OBJECTS", 1)
    do(session, {"type": "add", "feature": feature()})
    with pytest.raises(WsiError, match="more than 1 objects"):
        do(session, {"type": "add", "feature": feature()})
    monkeypatch.setattr("wsi_sampath.viewer.events.MOST_CLASSES", 1)
    do(session, {"type": "class", "name": "a", "color": "#000000"})
    with pytest.raises(WsiError, match="more than 1 classes"):
        do(session, {"type": "class", "name": "b", "color": "#000000"})


def test_crossing_outlines_are_mended_and_holes_kept(session):
    bow = [[100, 100], [200, 200], [200, 100], [100, 200], [100, 100]]
    do(
        session,
        {"type": "add", "feature": {"geometry": {"type": "Polygon", "coordinates": [bow]}}},
    )
    rings = [*box(300, 300, 90)["coordinates"], *box(320, 320, 10)["coordinates"]]
    holed = {"type": "Polygon", "coordinates": rings}
    do(session, {"type": "add", "feature": {"geometry": holed}})
    first, second = state(session)["objects"]
    assert first["geometry"]["type"] == "MultiPolygon"
    assert second["geometry"] == holed


def test_a_quality_of_nothing_is_kept_and_no_size_of_pixels_is_none(session):
    do(session, {"type": "add", "feature": feature(quality=0.0, mpp=1e-300)})
    session.close()
    again = Session(session.path, SUBJECT)
    again.close()
    (drawn,) = again.drawing.objects.values()
    assert (drawn.quality, drawn.mpp) == (0.0, None)


def test_a_stale_page_changes_nothing(session):
    do(session, {"type": "add", "feature": feature()})
    with pytest.raises(Stale):
        do(session, {"type": "undo"}, revision=0)
    assert session.drawing.revision == 1


@pytest.mark.parametrize("torn", [b'{"n":3,"ty', b'{"n":3}', b"\0" * 40, b"{]\n"])
def test_a_torn_last_line_is_cut_off_and_said(session, torn):
    do(session, {"type": "add", "feature": feature()})
    do(session, {"type": "add", "feature": feature(300)})
    before = state(session)
    session.close()
    whole = session.path.read_bytes()
    session.path.write_bytes(whole + torn)
    again = Session(session.path, SUBJECT)
    assert state(again) == before
    assert "cut off by a crash" in again.notes[0]
    assert session.path.read_bytes() == whole
    do(again, {"type": "undo"})
    after = state(again)
    third = reopened(again)
    assert state(third) == after
    assert third.notes == ()
    third.close()


def test_a_damaged_line_in_the_middle_is_refused(session):
    for x in (100, 200, 300):
        do(session, {"type": "add", "feature": feature(x)})
    session.close()
    whole = session.path.read_bytes()
    lines = whole.splitlines(keepends=True)
    for content, said in [
        (lines[:2] + [b"{]\n"] + lines[3:], "line 3 is damaged"),
        (lines[:2] + lines[3:], "line 3 cannot be used: its number"),
        ([*lines[:2], lines[2].replace(b'"add"', b'"odd"'), lines[3]], "line 3 cannot be used"),
        ([*lines[:2], lines[2].replace(b"[200,", b"[null,"), lines[3]], "NaN, infinite or null"),
        ([b"hello\n"], "no session of wsi-view"),
        ([b'{"format":"other"}\n'], "no session of wsi-view"),
        ([lines[0].replace(b'"version":1', b'"version":2')], "of version 2"),
        ([lines[0].replace(b"ffff", b"0000", 1)], "of another slide"),
        ([], "no session of wsi-view"),
    ]:
        session.path.write_bytes(b"".join(content))
        with pytest.raises(WsiError, match=said) as caught:
            Session(session.path, SUBJECT)
        assert caught.value.subject == str(session.path)
        assert session.path.read_bytes() == b"".join(content)
    assert list(session.path.parent.iterdir()) == [session.path]


def test_two_servers_do_not_share_a_session(session):
    do(session, {"type": "add", "feature": feature()})
    with pytest.raises(WsiError) as caught:
        Session(session.path, SUBJECT)
    assert caught.value.reason == "busy"
    assert "--session" in caught.value.message


def test_a_session_that_another_one_began_meanwhile_is_read(path):
    early, other = Session(path, SUBJECT), Session(path, SUBJECT)
    assert not path.exists()
    do(other, {"type": "add", "feature": feature()})
    with pytest.raises(WsiError, match="another run"):
        do(early, {"type": "add", "feature": feature(500)})
    other.close()
    with pytest.raises(Stale):
        do(early, {"type": "add", "feature": feature(500)})
    assert state(early)["objects"] == state(other)["objects"]
    early.close()


KILLED = """
import sys
from pathlib import Path
from test_sessions import SUBJECT, do, feature, state
from wsi_sampath.viewer.session import Session
session = Session(Path(sys.argv[1]), SUBJECT)
for x in range(100, 1000, 50):
    do(session, {"type": "add", "feature": feature(x)})
    print(session.text(), flush=True)
    sys.stdin.readline()
"""


def test_what_was_acknowledged_survives_kill_9(path):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )
    with process:
        process.stdin.write("\n\n")
        process.stdin.flush()
        told = [process.stdout.readline() for _ in range(3)]
        process.send_signal(signal.SIGKILL)
    again = Session(path, SUBJECT)
    assert again.text() == told[-1].strip()
    again.close()


def test_a_full_disk_leaves_everything_as_it_was(session, monkeypatch):
    do(session, {"type": "add", "feature": feature()})
    before, content = state(session), session.path.read_bytes()

    def full(descriptor):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(event_log.os, "fsync", full)
        with pytest.raises(WsiError) as caught:
            do(session, {"type": "add", "feature": feature(300)})
    assert caught.value.reason == "disk-full"
    assert state(session) == before
    assert session.path.read_bytes() == content
    do(session, {"type": "undo"})
    assert session.drawing.revision == 2


@pytest.mark.parametrize("left", [0, 30])
def test_what_a_full_disk_refused_is_not_written_later(session, left):
    do(session, {"type": "add", "feature": feature()})
    content = session.path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(content) + left, limits[1]))
    try:
        with pytest.raises(WsiError):
            do(session, {"type": "add", "feature": feature(300)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert session.path.read_bytes() == content
    for kind in ("undo", "redo"):
        do(session, {"type": kind})
    session.close()
    lines = session.path.read_bytes().removeprefix(content).splitlines()
    assert [json.loads(line)["type"] for line in lines] == ["undo", "redo"]


def test_a_file_that_was_moved_or_changed_is_not_written_to(session):
    do(session, {"type": "add", "feature": feature()})
    content = session.path.read_bytes()
    session.path.write_bytes(content + b"x")
    for _ in range(2):
        with pytest.raises(WsiError, match="another program moved or changed it"):
            do(session, {"type": "undo"})
        session.path.unlink(missing_ok=True)
    assert session.drawing.revision == 1


def test_where_a_session_is_kept(tmp_path, monkeypatch):
    slide, zarr = tmp_path / "s" / "a.b.svs", tmp_path / "r" / "x.zarr"
    for folder in (slide.parent, zarr.parent):
        folder.mkdir()
    name = "a.b.svs.session.jsonl"
    locked = set()
    monkeypatch.setattr(
        "wsi_sampath.viewer.session.os.access", lambda folder, _: Path(folder) not in locked
    )
    own = tmp_path / "new" / "own"
    assert session_path(slide, [zarr], own) == own / name
    assert own.is_dir()
    assert session_path(slide, [zarr], None) == slide.parent / name
    assert session_path(slide.with_suffix(".tiff"), [], None) != slide.parent / name
    locked.add(slide.parent)
    assert session_path(slide, [zarr], None) == zarr.parent / name
    locked.clear()
    # What was drawn there already is not left behind.
    (zarr.parent / name).touch()
    assert session_path(slide, [zarr], None) == zarr.parent / name
    (zarr.parent / name).unlink()
    locked |= {slide.parent, zarr.parent, own}
    for folder in (None, own, Path(__file__)):
        with pytest.raises(WsiError) as caught:
            session_path(slide, [zarr], folder)
        assert caught.value.reason == "bad-input"
    with pytest.raises(WsiError, match="--session"):
        session_path(slide, [zarr], None)
