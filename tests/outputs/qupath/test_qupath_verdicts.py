"""What QuPath's own code made of a file with one change, and that we say the same beforehand.

Each row changes the second of three good features, or the text around them. The verdicts are those
of QuPath 0.6.0, 0.7.0 and a development version of 0.8, which agree.
"""

from __future__ import annotations

import copy
import gzip
import json
import zipfile

import pytest

from wsi_sampath.outputs.qupath.rules import gravest, judge_geojson

INF, DROP = float("inf"), object()
WANTED = {"loads": {None, "ours", "changes"}, "empties": {"changes"}, "refuses": {"refuses"}}


def square(x, y=0, size=50):
    return [[x, y], [x + size, y], [x + size, y + size], [x, y + size], [x, y]]


def feature(x, name="Tumor"):
    return {
        "type": "Feature",
        "id": f"035c4ea0-d73b-5bde-bd6f-{x:012d}",
        "geometry": {"type": "Polygon", "coordinates": [square(x)]},
        "properties": {
            "objectType": "annotation",
            "classification": {"name": name, "color": [200, 50, 50]},
            "measurements": {"Area µm^2": 12.5},
        },
    }


def collection(second):
    return {"type": "FeatureCollection", "features": [feature(0), second, feature(200)]}


def changed(where, value):
    second = feature(100, "Stroma")
    *path, last = where.split("/")
    target = second
    for key in path:
        target = target[key]
    if value is DROP:
        del target[last]
    else:
        target[last] = value
    return second


def rings(*rings, kind="Polygon", **more):
    return {"type": kind, "coordinates": list(rings), **more}


def area(*points):
    return rings([list(one) for one in points])


S = square(100)
BOW = rings([[100, 0], [150, 50], [150, 0], [100, 50], [100, 0]])
G, P, C = "geometry", "properties", "properties/classification"
CHILD = {"type": "Feature", **{k: v for k, v in feature(105).items() if k != "type"}}

ROWS = [
    ("loads", P, feature(0)[P]),
    ("refuses", G, rings(S[:-1])),
    ("refuses", G, area((100, 0), (None, 0), (150, 50), (100, 50), (100, 0))),
    ("loads", G, area((100, 0), (INF, 0), (150, 50), (100, 50), (100, 0))),
    ("loads", C, DROP),
    ("loads", C, None),
    ("loads", C, "Tumor: Positive"),
    ("refuses", C, [1]),
    ("refuses", C, {"name": "Tumor"}),
    ("refuses", f"{C}/color", -65536),
    ("refuses", f"{C}/color", "#ff0000"),
    ("refuses", f"{C}/color", ["a", 1, 2]),
    ("loads", f"{C}/color", [200.0, 50.0, 50.0]),
    ("loads", f"{C}/color", [1, 2, 3, 128]),
    ("loads", f"{C}/color", [300, 2, 3]),
    ("refuses", f"{C}/color", [1, 2]),
    ("loads", f"{C}/color", []),
    ("loads", P, DROP),
    ("refuses", P, None),
    ("loads", "id", feature(0)["id"]),
    ("loads", "id", 5),
    ("refuses", "id", None),
    ("loads", "id", "PathDetectionObject"),
    ("loads", "id", "B80C8FEF-A677-5340-85FB-2C162D75DF03"),
    ("refuses", G, rings([S], [square(120, 10)], kind="MultiPolygon")),
    ("loads", G, rings([S], [square(150)], kind="MultiPolygon")),
    (
        "loads",
        G,
        rings(kind="GeometryCollection")
        | {"geometries": [rings(S), {"type": "Point", "coordinates": [1, 2]}]},
    ),
    ("refuses", G, {"type": "GeometryCollection", "geometries": [rings(S)]}),
    ("loads", f"{P}/name", "Ünï 细胞 🧬"),
    ("refuses", f"{P}/name", None),
    ("refuses", f"{P}/name", {"a": 1}),
    ("refuses", "nucleusGeometry", None),
    ("refuses", "nucleusGeometry", BOW),
    ("loads", f"{P}/measurements", {"a": None, "b": 1}),
    ("refuses", f"{P}/measurements", {"a": "abc"}),
    ("loads", f"{P}/measurements", {"a": "NaN"}),
    ("loads", f"{P}/measurements", [{"name": "a", "value": 2}]),
    ("loads", f"{P}/measurements", {"a": True}),
    ("loads", f"{P}/measurements", {"a": INF}),
    *(
        ("loads", f"{P}/objectType", kind)
        for kind in ("detection", "cell", "tile", "tmaCore", "Annotation", "PathAnnotationObject")
    ),
    ("loads", f"{P}/objectType", DROP),
    ("refuses", f"{P}/objectType", None),
    ("empties", G, area((1e15, 0), (1e15 + 50, 0), (1e15 + 50, 50), (1e15, 50), (1e15, 0))),
    ("empties", G, area((1e300, 0), (2e300, 0), (2e300, 1e300), (1e300, 1e300), (1e300, 0))),
    ("refuses", G, rings([[100, 0, None], *([x, y, 0] for x, y in S[1:])])),
    ("refuses", G, rings([[x] for x, _ in S])),
    ("loads", G, rings(S, square(110, 10, 20))),
    ("loads", G, area((100, 0), (150, 0), (125, 25), (150, 50), (100, 50), (125, 25), (100, 0))),
    ("refuses", G, rings(S, square(140, 10, 20))),
    ("refuses", G, rings(S, square(300))),
    ("empties", G, rings(S, S)),
    ("loads", G, rings(S, [[100, 25], [120, 15], [120, 35], [100, 25]])),
    ("empties", G, area((100, 0), (150, 0), (150, 0.001), (100, 0.001), (100, 0))),
    ("empties", G, area((100, 0), (150, 0), (150, 0.004), (100, 0.004), (100, 0))),
    ("empties", G, area((100, 0), (100.01, 0), (100.01, 0.01), (100, 0))),
    (
        "loads",
        G,
        area((100.123456, 0.6543), (150.11, 0.22), (150.3, 50.4), (100.123456, 0.6543)),
    ),
    ("loads", G, rings([S[0], S[1], *S[1:]])),
    ("empties", G, area((100, 0), (150, 0), (100, 0))),
    ("refuses", G, area((100, 0), (100, 0))),
    ("empties", G, area((100, 0), (150, 0), (125, 0), (100, 0))),
    ("empties", G, rings([])),
    ("empties", G, rings(kind="MultiPolygon")),
    ("refuses", G, None),
    ("refuses", G, DROP),
    ("loads", G, rings([100, 0], [150, 50], [170, 20], kind="LineString")),
    ("refuses", G, rings(S, kind="Curve")),
    ("loads", G, rings(S, plane={"c": -1, "z": 2, "t": 0})),
    ("refuses", G, rings(S, plane={"c": -1, "z": 2, "t": 0, "q": 3})),
    ("refuses", G, rings(S, plane=None)),
    ("loads", G, rings(S, plane={"c": -1, "z": 0.5, "t": 0})),
    ("loads", f"{P}/isLocked", "yes"),
    ("loads", f"{P}/color", [1, 2, 3]),
    ("refuses", f"{P}/color", "#ff0000"),
    ("loads", f"{P}/metadata", {"a": "b", "c": None, "d": 1}),
    ("loads", f"{P}/childObjects", [CHILD]),
    ("refuses", f"{P}/childObjects", [{"type": "Feature", "geometry": None, "properties": {}}]),
    *(
        ("loads", f"{C}/name", name)
        for name in ("Tumor:Positive", "Tumor: Tumor", "a\tb", "µ α", "A : B", "\u00a0x", "A: B: C")
    ),
    *(("refuses", f"{C}/name", name) for name in (": B", "A: ", " : ", "x\ny", " ", "x\ry", "")),
    ("loads", f"{C}/name", "Tumor:"),
    ("loads", f"{C}/name", " Tumor"),
    ("loads", "type", DROP),
    ("loads", G, rings([[-30, -20], [20, -20], [20, 30], [-30, 30], [-30, -20]])),
    ("loads", f"{P}/foo", {"bar": [1, 2]}),
    (
        "loads",
        G,
        area((100, 0), (110, 0.003), (120, 0), (120, 10), (110, 0.0049), (100, 10), (100, 0)),
    ),
    ("loads", G, rings(S, [[100, 25], [125, 0], [150, 25], [125, 50], [100, 25]])),
    ("loads", G, area((100, 0), (150, 0), (150, 50), (125, 0.01), (100, 50), (100, 0))),
    ("loads", G, rings(S, [[110, 10], [110.01, 10], [110.01, 10.01], [110, 10]])),
    ("loads", G, rings(square(200000.01, 100000.01, 3))),
]


def verdict(tmp_path, raw, name="a.geojson"):
    (tmp_path / name).write_bytes(raw)
    return gravest(judge_geojson(tmp_path / name))


@pytest.mark.parametrize(("qupath", "where", "value"), ROWS)
def test_a_changed_feature_is_judged_as_by_qupath(tmp_path, qupath, where, value):
    raw = json.dumps(collection(changed(where, value))).encode()
    assert verdict(tmp_path, raw) in WANTED[qupath]


GOOD = json.dumps(collection(feature(100)))
BAD = json.dumps(collection(changed(G, rings(S[:-1]))))


@pytest.mark.parametrize(
    ("qupath", "raw"),
    [
        ("loads", GOOD.encode()),
        ("loads", json.dumps(collection(1)["features"][::2]).encode()),
        ("loads", json.dumps(feature(0)).encode()),
        ("loads", b"\xef\xbb\xbf" + GOOD.encode()),
        ("refuses", GOOD.encode("utf-16")),
        ("refuses", GOOD.encode("utf-16-le")),
        ("refuses", json.dumps(collection(None)).encode()),
        ("empties", GOOD.replace("FeatureCollection", "X").encode()),
        ("loads", f"[{GOOD},{GOOD}]".encode()),
        ("refuses", GOOD[:-40].encode()),
        ("refuses", GOOD.replace("]}", ",]}")[::1].encode()),
        ("loads", b")]}'\n" + GOOD.encode()),
        ("loads", b"// hi\n" + GOOD.replace('"', "'").encode()),
        ("empties", b""),
        ("empties", b" \n"),
        ("empties", b"{}"),
        ("empties", b'{"type":"FeatureCollection","features":[]}'),
        ("refuses", b"[" * 20_000 + b"]" * 20_000),
    ],
)
def test_a_changed_text_is_judged_as_by_qupath(tmp_path, qupath, raw):
    assert verdict(tmp_path, raw) in WANTED[qupath]


@pytest.mark.parametrize(
    ("expected", "members"),
    [
        (None, {"a.geojson": GOOD.encode()}),
        ("changes", {"a.geojson": GOOD.encode(), "b.geojson": BAD.encode()}),
        ("changes", {"b.geojson": BAD.encode()}),
        ("ours", {"a.geojson": GOOD.encode(), "__MACOSX/._a.geojson": b"\0\5\26\7"}),
        (None, {"a.geojson.gz": gzip.compress(GOOD.encode())}),
        ("ours", {"a.geojson": GOOD.encode(), "readme.txt": b"hello"}),
        ("changes", {}),
    ],
)
def test_a_zip_loses_its_bad_members(tmp_path, expected, members):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name, raw in members.items():
            archive.writestr(name, raw)
    assert gravest(judge_geojson(tmp_path / "a.zip")) == expected


def test_a_cut_gzip_is_lost_or_refused_by_its_size(tmp_path):
    packed = gzip.compress(GOOD.encode())
    assert verdict(tmp_path, packed, "a.geojson.gz") is None
    assert verdict(tmp_path, packed[:-20], "a.geojson.gz") == "changes"
    large = gzip.compress(json.dumps(copy.copy([feature(100)] * 400)).encode(), 1)
    assert verdict(tmp_path, large[: len(large) // 2], "a.geojson.gz") == "refuses"
    assert verdict(tmp_path, packed + b"junk!!", "a.geojson.gz") in WANTED["loads"]
