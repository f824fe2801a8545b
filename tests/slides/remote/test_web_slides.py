"""Slides on a web server, which behaves or does not: on loopback."""

from __future__ import annotations

import base64
import os
import shutil

import numpy as np
import pytest
import tifffile
from slide_server import serving

from wsi_sampath.errors import WsiError
from wsi_sampath.slides.remote import place
from wsi_sampath.slides.remote import wire as wire_module
from wsi_sampath.slides.remote.place import located, opened_file
from wsi_sampath.slides.slide import Slide
from wsi_sampath.slides.slide_fingerprint import slide_fingerprint

BOX = {"x0": 700, "y0": 900, "width": 900, "height": 700, "mpp": 0.5}


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    monkeypatch.setattr(wire_module, "WAITS_S", (0.0,) * 6)


@pytest.fixture
def server(painted, tmp_path):
    shutil.copy(painted.path, tmp_path / "a.svs")
    with serving(tmp_path) as server:
        yield server


def refused(address: str) -> WsiError:
    with pytest.raises(WsiError) as failed:
        Slide.open(address)
    assert "hidden" not in failed.value.line()
    assert failed.value.subject == str(located(address))
    return failed.value


def test_a_slide_on_a_server_is_the_local_one(server, painted):
    with Slide.open(f"{server.url}/a.svs") as there, Slide.open(painted.path) as here:
        assert there.reader.name == here.reader.name == "tiff"
        assert there.reader.metadata == here.reader.metadata
        assert (there.levels, there.mpp, there.stated) == (here.levels, here.mpp, here.stated)
        assert there.warnings == here.warnings
        assert there.fingerprint() == here.fingerprint()
        assert np.array_equal(there.read(**BOX), here.read(**BOX))


def test_no_more_is_fetched_than_is_needed(server, tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (3072, 3072, 3), np.uint8)
    tifffile.imwrite(
        tmp_path / "large.tiff", noise, tile=(256, 256), compression="jpeg", resolution=(2e4, 2e4)
    )
    size = (tmp_path / "large.tiff").stat().st_size
    with Slide.open(f"{server.url}/large.tiff", slide_mpp=0.5) as slide:
        slide.read(x0=0, y0=0, width=500, height=500, mpp=0.5)
        file = opened_file(slide.path)
    assert file.n_bytes < 0.6 * size
    assert (file.n_requests, file.n_bytes) == (len(server.manners.asked), server.manners.sent)


def test_a_server_without_ranges_is_refused_before_it_sends_the_file(server):
    server.manners.ranges = False
    error = refused(f"{server.url}/a.svs")
    assert error.reason == "unreadable"
    assert "sends whole files alone" in error.message
    assert len(server.manners.asked) == 1


def test_a_server_that_does_not_say_how_large_the_file_is_is_refused(server):
    server.manners.total = False
    assert "how large the file is" in refused(f"{server.url}/a.svs").message


def test_what_is_not_there_not_allowed_or_empty_is_said(server, tmp_path):
    assert "404 (Not Found)" in refused(f"{server.url}/b.svs?hidden").message
    server.manners.needs = "signature=right"
    error = refused(f"{server.url}/a.svs?signature=hidden")
    assert (error.reason, "the link has expired" in error.message) == ("unreachable", True)
    Slide.open(f"{server.url}/a.svs?signature=right").close()
    server.manners.needs = ""
    (tmp_path / "empty.svs").touch()
    assert "empty" in refused(f"{server.url}/empty.svs").message


def test_user_and_password_go_to_the_server_alone(server):
    server.manners.needs = "Basic " + base64.b64encode(b"me:hidden").decode()
    address = server.url.replace("://", "://me:hidden@") + "/a.svs"
    with Slide.open(address) as slide:
        assert "hidden" not in repr(slide)


def test_what_no_connection_brings_is_said_soon(server):
    server.manners.fail = [503] * 99
    error = refused(f"{server.url}/a.svs")
    assert "503 (Service Unavailable), at 4 tries" in error.message
    assert "cannot be reached" in refused("http://127.0.0.1:9/a.svs?hidden").message


def test_a_server_that_stumbles_costs_nothing_but_time(server, painted):
    server.manners.fail = [503, "cut", 429]
    with Slide.open(f"{server.url}/a.svs") as there, Slide.open(painted.path) as here:
        assert server.manners.fail == []
        assert np.array_equal(there.read(**BOX), here.read(**BOX))


def test_a_server_that_dies_is_no_damage_of_the_slide(server):
    with Slide.open(f"{server.url}/a.svs") as slide:
        slide.reader._file.file._held.clear()
        server.manners.fail = ["cut"] * 99
        with pytest.raises(WsiError, match="broke off, at 7 tries") as failed:
            slide.read(**BOX)
    assert failed.value.reason == "unreachable"
    server.manners.fail = []
    Slide.open(f"{server.url}/a.svs").close()


@pytest.mark.parametrize("etag", [True, False])
def test_a_slide_that_is_replaced_is_noticed(server, tmp_path, monkeypatch, etag):
    monkeypatch.setattr(place, "FRESH_S", -1.0)
    server.manners.etag = etag
    path = located(f"{server.url}/a.svs")
    before = slide_fingerprint(path)
    with Slide.open(path) as slide:
        slide.reader._file.file._held.clear()
        with (tmp_path / "a.svs").open("ab") as stream:
            stream.write(b"more")
        with pytest.raises(WsiError, match="replaced on the server while it was read"):
            slide.read(**BOX)
    assert slide_fingerprint(path) != before


def test_what_is_no_plain_tiff_is_left_to_a_local_copy(server, tmp_path):
    (tmp_path / "a.mrxs").write_bytes(b"\xff\xd8" + bytes(99))
    message = refused(f"{server.url}/a.mrxs").message
    assert "only plain TIFFs are read" in message
    assert "download it" in message
    with pytest.raises(WsiError, match="openslide reads local files alone"):
        Slide.open(f"{server.url}/a.svs", reader="openslide")


def test_openslides_own_opinion_is_heard(server, tmp_path, monkeypatch):
    """A slide of which OpenSlide reads other pixels is refused, as it is locally."""
    from wsi_sampath.slides.readers import tiff

    monkeypatch.setattr(tiff, "_same", lambda *_: False)
    assert "OpenSlide reads" in refused(f"{server.url}/a.svs").message


def test_bytes_of_the_disk_are_given_back(server, tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setattr("tempfile.tempdir", None)
    (tmp_path / "tmp").mkdir()
    Slide.open(f"{server.url}/a.svs").close()
    assert os.listdir(tmp_path / "tmp") == []


@pytest.mark.parametrize(
    ("manners", "reason", "said"),
    [
        ({"headers": {"Content-Encoding": "gzip"}}, "unreadable", "compresses what it sends"),
        ({"beyond": 1 << 40}, "unreadable", "another range"),
        ({"beyond": 10**30}, "unreadable", "another range"),
        ({"sends_on": "file:///etc/passwd"}, "unreachable", "no web address"),
        ({"sends_on": "http://a..b/x?hidden"}, "unreachable", "cannot be made"),
        ({"sends_on": "http://[::1/x?hidden"}, "unreachable", "cannot be made"),
        ({"sends_on": "/a.svs"}, "unreachable", "in a circle"),
    ],
)
def test_what_a_server_does_wrong_is_said_of_the_server(server, manners, reason, said):
    for name, value in manners.items():
        setattr(server.manners, name, value)
    error = refused(f"{server.url}/a.svs?hidden")
    assert error.reason == reason
    assert said in error.message


def test_a_user_that_no_header_can_hold_is_one_line(server):
    error = refused(server.url.replace("://", "://us%E2%82%AC:hidden@") + "/a.svs")
    assert (error.reason, "codec" in error.message) == ("unreachable", False)


def test_an_answer_that_never_ends_is_read_as_far_as_it_was_asked_for(server, painted):
    server.manners.stays = True
    with Slide.open(f"{server.url}/a.svs") as there, Slide.open(painted.path) as here:
        assert np.array_equal(there.read(**BOX), here.read(**BOX))
