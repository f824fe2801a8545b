"""Names of classes: one form everywhere, and what QuPath would not take is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from wsi_sampath.classes import ClassSpec, check_class_names, class_name, drawn_class_name, name_key
from wsi_sampath.outputs.qupath.reading import read_as_qupath


@pytest.mark.parametrize(
    ("given_name", "kept"),
    [
        ("Tumor", "Tumor"),
        (" Tumor ", "Tumor"),
        ("Tumor:Positive", "Tumor: Positive"),
        ("A : B: C", "A: B: C"),
        ("µ α", "µ α"),
    ],
)
def test_a_name_has_the_form_that_qupath_gives_it(given_name, kept):
    assert class_name(given_name) == kept
    assert ClassSpec(name=given_name, color="#010203").name == kept


@pytest.mark.parametrize(
    "name",
    [
        "",
        " ",
        "A: ",
        ": B",
        "A::B",
        ":",
        "x\ny",
        "x\ry",
        "x\x00",
        "x\x1b[31m",
        "x\u2028y",
        "\ud800",
        "x*",
    ],
)
def test_what_qupath_refuses_is_refused(name):
    with pytest.raises(ValueError, match="class name"):
        class_name(name)
    with pytest.raises(ValidationError):
        ClassSpec(name=name, color="#010203")


def test_only_drawn_names_end_in_a_star():
    assert drawn_class_name("Ignore* ") == "Ignore*"
    with pytest.raises(ValueError, match="characters"):
        drawn_class_name("x" * 10_000)


@pytest.mark.parametrize(
    "pair",
    [("Tumor", "tumor"), (" Tumor", "Tumor"), ("A:B", "a : b"), ("A", "A\u200b")],
)
def test_names_that_look_alike_are_refused(pair):
    with pytest.raises(ValueError, match="classes must have different names"):
        check_class_names(pair)
    assert name_key(pair[0]) == name_key(pair[1])


@given(st.text(max_size=12))
def test_qupath_keeps_a_name_that_is_taken(name):
    try:
        kept = class_name(name)
    except ValueError:
        return
    import json

    feature = {
        "type": "Feature",
        "geometry": {"type": "Point", "coordinates": [1, 2]},
        "properties": {"classification": {"name": kept, "color": [1, 2, 3]}},
    }
    reading, _ = read_as_qupath(json.dumps(feature).encode())
    assert (reading.objects, reading.refused, reading.changed) == (1, [], [])
    assert class_name(kept) == kept
