"""Annotations out of a session and into one: QuPath takes them, and nothing is lost on the way."""

from __future__ import annotations

import gzip
import json

import pytest
from test_sessions import FRAME, SUBJECT, box, do, feature, state

from wsi_sampath.errors import WsiError
from wsi_sampath.outputs.qupath.rules import judge_geojson
from wsi_sampath.viewer.annotations import exported, imported, read_annotations
from wsi_sampath.viewer.drawn import Frame
from wsi_sampath.viewer.requests import with_classes
from wsi_sampath.viewer.session import Session, Subject

SHIFTED = Frame((3000, 2000), (0.25, 0.25), (310, 77))


@pytest.fixture
def session(tmp_path):
    subject = Subject("a.svs", "f" * 64, SHIFTED, SUBJECT.classes)
    session = Session(tmp_path / "a.session.jsonl", subject)
    told = {"quality": 0.91234567, "model": "nuclei-mini", "weights": "ab" * 32, "mpp": 0.5}
    asked = {"points": [[120.5, 130, 1]], "steps": [[1, 2]]}
    do(session, {"type": "add", "feature": feature(**told, prompt=asked, **{"class": "tumour"})})
    do(session, {"type": "add", "feature": feature(2500.456, 1700.123, name="<i>Ränder</i>")})
    do(session, {"type": "add", "feature": feature(700, **{"class": "Ignore*"})})
    two = [box(900, 900)["coordinates"], box(2900, 1900)["coordinates"]]
    parts = {"type": "MultiPolygon", "coordinates": two}
    do(session, {"type": "add", "feature": {"geometry": parts, "properties": {"class": "a: b"}}})
    yield session
    session.close()


def brought(raw, session):
    """Import, as the server does; return the notes."""
    found = imported(read_annotations(raw), session.drawing, session.subject.frame)
    if found.objects:
        event = with_classes("import", session, found.objects, found.classes)
        session.do(event, session.drawing.revision)
    return found


def collection(*features):
    return json.dumps({"type": "FeatureCollection", "features": features}).encode()


def drawn(geometry=None, **members):
    properties = {"objectType": "annotation", **members.pop("properties", {})}
    return {
        "type": "Feature",
        "geometry": geometry or box(10, 10),
        "properties": properties,
        **members,
    }


def test_what_goes_out_is_as_qupath_takes_it(session, tmp_path):
    path = tmp_path / "out.geojson"
    path.write_bytes(exported(session.drawing, SHIFTED))
    assert judge_geojson(path) == []
    features = json.loads(path.read_text())["features"]
    first = features[0]
    assert first["geometry"]["coordinates"][0][0] == [100 - 310, 100 - 77]
    assert first["properties"]["classification"] == {"name": "tumour", "color": [170, 0, 0]}
    measured = {"Area µm^2": 100.0, "quality": 0.9123, "mpp": 0.5}
    assert first["properties"]["measurements"] == measured
    assert first["properties"]["metadata"] == {"model": "nuclei-mini", "weights": "ab" * 6}
    assert [one["id"] for one in features] == [one["id"] for one in state(session)["objects"]]
    assert "metadata" not in features[1]["properties"]


def test_nothing_drawn_is_a_file_too(tmp_path):
    path = tmp_path / "empty.geojson"
    path.write_bytes(exported(Session(tmp_path / "s", SUBJECT).drawing, FRAME))
    assert json.loads(path.read_text())["features"] == []


def test_what_comes_back_is_what_went_out(session, tmp_path):
    raw, before = exported(session.drawing, SHIFTED), state(session)
    other = Session(tmp_path / "b.session.jsonl", session.subject)
    found = brought(raw, other)
    assert found.notes == ()
    assert other.drawing.revision == 1
    for one, again in zip(before["objects"], state(other)["objects"], strict=True):
        again["properties"]["prompt"] = one["properties"]["prompt"]
        assert again == one
    do(other, {"type": "undo"})
    assert state(other)["objects"] == []
    other.close()
    assert brought(raw, session).notes == ("4 objects there already, and the same",)
    assert state(session) == before


def test_what_was_edited_elsewhere_replaces_what_is_there(session):
    content = json.loads(exported(session.drawing, SHIFTED))
    first, second = content["features"][:2]
    first["geometry"]["coordinates"][0][0][0] += 3
    first["geometry"]["coordinates"][0][-1][0] += 3
    second["properties"]["classification"] = {"name": "TUMOUR", "color": [1, 2, 3]}
    before = state(session)["objects"]
    found = brought(json.dumps(content).encode(), session)
    assert [one.id for one in found.objects] == [first["id"], second["id"]]
    after = state(session)["objects"]
    assert [one["id"] for one in after] == [one["id"] for one in before]
    assert after[2:] == before[2:]
    assert after[0]["properties"]["quality"] is None
    assert after[0]["properties"]["edited"] is True
    assert after[0]["properties"]["prompt"] == before[0]["properties"]["prompt"]
    assert after[1]["properties"]["class"] == "tumour"
    assert after[1]["properties"]["color"] == "#aa0000"
    do(session, {"type": "undo"})
    assert state(session)["objects"] == before


def test_ids_are_kept_where_they_can_be(session):
    known = "6f0f3b06-6a3e-4b0f-9d3a-0d6b6a2f7c11"
    raw = collection(
        drawn(box(500, 500), id=known),
        drawn(box(600, 600), id=known),
        drawn(box(650, 500), id="region 7"),
        drawn(box(750, 500)),
    )
    found = brought(raw, session)
    ids = [one.id for one in found.objects]
    assert ids[0] == known
    assert len(set(ids)) == 4
    assert found.notes == (
        "1 object of an id used before, with a new one",
        "1 object of an id that is no UUID, with a new one",
    )
    assert brought(raw, session).notes[-1] == "4 objects there already, and the same"


def test_what_cannot_be_used_is_said(session):
    point = {"type": "Point", "coordinates": [5, 5]}
    far = drawn(box(9000, 0))
    odd = drawn(box(800, 500), properties={"classification": {"name": "a:", "color": [1, 1, 1]}})
    nucleus = drawn(box(20, 20), properties={"objectType": "detection"})
    found = brought(collection(drawn(), drawn(point), far, odd, nucleus), session)
    assert len(found.objects) == 2
    assert found.notes == (
        "1 object off the slide, or of more corners than can be edited",
        "1 object of an unusable class name, without a class now",
        "1 detection, 1 point left out",
    )
    assert len(brought(collection(nucleus), session).objects) == 1


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"", "cannot be read as GeoJSON"),
        (b"\xff\xfe\x00", "cannot be read as GeoJSON"),
        (b"[" * 100_000, "nested too deeply"),
        (b"{}", "no area in it"),
        (collection(drawn({"type": "Point", "coordinates": [5, 5]})), "1 point left out"),
        (collection(drawn(box(9000, 0))), "off the slide"),
        (gzip.compress(collection(drawn())), "it is packed"),
    ],
)
def test_files_of_no_use_are_refused_in_a_line(session, raw, said):
    before = state(session)
    with pytest.raises(WsiError, match=said) as caught:
        brought(raw, session)
    assert caught.value.reason == "bad-input"
    assert caught.value.subject == ""
    assert state(session) == before
