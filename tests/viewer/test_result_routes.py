"""Results by address: what is answered, what a browser may keep, and what is refused."""

import imagecodecs
import numpy as np
import pytest
from painted_result import SIDE, unpacked
from starlette.testclient import TestClient

from wsi_sampath.outputs.omezarr.layout import StoredPlane
from wsi_sampath.viewer import result_routes
from wsi_sampath.viewer.app import build_app
from wsi_sampath.viewer.guard import Access
from wsi_sampath.viewer.settings import ViewSettings
from wsi_sampath.viewer.shelf import NamedResult, Shelf, ShelfEntry, opaque_id

HOME = "http://127.0.0.1:8642"


@pytest.fixture(scope="module")
def site(painted, tmp_path_factory):
    """A client that was let in, and the root of the painted result's addresses."""
    named = NamedResult.at(painted.result.path)
    entry = ShelfEntry(opaque_id(painted.slide), "p.svs", painted.slide, results=(named,))
    access = Access("127.0.0.1", 8642)
    page = tmp_path_factory.mktemp("page")
    app = build_app(Shelf([entry], ViewSettings()), access, title="t", page=page)
    with TestClient(app, base_url=HOME) as client:
        client.post("/api/login", json={"token": access.token}, headers={"Origin": HOME})
        yield client, f"/api/results/{named.id}"


def test_a_tile_shows_the_class_map(site, painted):
    client, root = site
    answer = client.get(f"{root}/layers/classes/0/4_2.png")
    assert answer.headers["content-type"] == "image/png"
    shown = imagecodecs.png_decode(answer.content)
    np.testing.assert_array_equal(shown, painted.result.window("classes", 0, (1024, 512, 256, 256)))
    shares = client.get(f"{root}/layers/maps/1/2_0.png?channel=1")
    expected = painted.result.window("maps", 1, (512, 0, 256, 256))[1]
    np.testing.assert_array_equal(imagecodecs.png_decode(shares.content), expected)


@pytest.mark.parametrize("dots_um", [1.0, 1.1])
def test_nuclei_are_dots_where_pixels_are_large(site, painted, monkeypatch, dots_um):
    client, root = site
    asked = []
    monkeypatch.setattr(result_routes, "_DOTS_UM", dots_um)
    monkeypatch.setattr(
        result_routes, "dotted", lambda tile, *where: asked.append(where[2:]) or 255 - tile
    )
    seen = imagecodecs.png_decode(client.get(f"{root}/layers/classes/1/1_2.png").content)
    plain = painted.result.window("classes", 1, (256, 512, 256, 256))
    dotted = dots_um == 1.0  # The coarse level has pixels of 1 um.
    assert asked == ([(1, 2)] if dotted else [])
    np.testing.assert_array_equal(seen, 255 - plain if dotted else plain)


def test_what_never_changes_is_kept_and_not_made_again(site, monkeypatch):
    client, root = site
    for path in ("layers/classes/0/0_0.png", "outlines/0_0.bin"):
        first = client.get(f"{root}/{path}")
        assert "immutable" in first.headers["cache-control"]
        with monkeypatch.context() as patch:
            patch.setattr(result_routes, "grey_png", lambda tile: pytest.fail("made"))
            patch.setattr(result_routes, "packed_outlines", lambda *where: pytest.fail("made"))
            again = client.get(f"{root}/{path}", headers={"If-None-Match": first.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")


def test_a_square_a_point_and_a_field(site, painted):
    client, root = site
    ids, _, outlines = unpacked(client.get(f"{root}/outlines/1_1.bin").content)
    assert len(ids) > 100
    x, y = outlines[0].mean(axis=0) + 2048
    found = client.get(f"{root}/at?x={x}&y={y}").json()
    assert found["nucleus"]["id"] == ids[0]
    far = client.get(f"{root}/at?x=1e308&y=-1e308").json()
    assert far == {"class": None, "probabilities": None, "nucleus": None}
    field = client.get(f"{root}/field?x=0&y=0&width={SIDE}&height={SIDE}").json()
    assert field["nuclei"] == len(painted.result.nuclei())


@pytest.mark.parametrize(
    "path",
    [
        "layers/classes/0/6_0.png",
        "layers/classes/9/0_0.png",
        "layers/classes/0/-1_0.png",
        f"layers/classes/0/0_{'9' * 5000}.png",
        "layers/nuclei/0/0_0.png",
        "layers/..%2f..%2fclasses/0/0_0.png",
        "layers/maps/0/0_0.png?channel=3",
        "layers/maps/0/0_0.png?channel=-1",
        "layers/maps/0/0_0.png",
        "outlines/2_0.bin",
        "outlines/0_999999999.bin",
    ],
)
def test_what_is_not_there_is_not_looked_for(site, monkeypatch, path):
    client, root = site
    monkeypatch.setattr(StoredPlane, "__getitem__", lambda self, where: pytest.fail("read"))
    assert client.get(f"{root}/{path}").status_code == 404
    assert client.get(f"{root[:-1]}/{path}").status_code == 404


@pytest.mark.parametrize(
    "path",
    [
        "at?x=1",
        "at?x=nan&y=1",
        "at?x=1&y=1e999",
        "at?x=one&y=1",
        "field?x=0&y=0&width=5",
        "field?x=0&y=0&width=-5&height=5",
    ],
)
def test_what_makes_no_sense_is_refused(site, path):
    client, root = site
    answer = client.get(f"{root}/{path}")
    assert (answer.status_code, answer.json()["error"]["reason"]) == (400, "bad-input")


def test_a_field_beside_the_slide_is_empty(site):
    client, root = site
    field = client.get(f"{root}/field?x=-1e300&y=1e300&width=1e300&height=1e308").json()
    assert (field["nuclei"], field["analysed_mm2"], field["per_mm2"]) == (0, 0, 0)
