"""Stores of objects, by the file system that fsspec keeps in memory."""

from __future__ import annotations

import re
import sys

import pytest

from wsi_sampath.errors import UsageError, WsiError
from wsi_sampath.extras import install_hint
from wsi_sampath.slides.remote import place, store
from wsi_sampath.slides.remote import wire as wire_module
from wsi_sampath.slides.remote.blocks import BLOCK_BYTES, RemoteFile
from wsi_sampath.slides.remote.store import StoreWire
from wsi_sampath.slides.slide import Slide

fsspec = pytest.importorskip("fsspec")


@pytest.fixture
def files(monkeypatch):
    monkeypatch.setattr(wire_module, "WAITS_S", (0.0, 0.0))
    found = fsspec.filesystem("memory")
    found.store.clear()
    return found


def test_a_slide_in_a_store_is_the_local_one(painted, files, monkeypatch):
    files.pipe_file("/bucket/deep/painted.svs", painted.path.read_bytes())
    wire = StoreWire(files, "/bucket/deep/painted.svs")
    monkeypatch.setattr(place, "_wire", lambda _address: wire)
    with Slide.open("s3://bucket/deep/painted.svs") as there, Slide.open(painted.path) as here:
        assert there.path.name == "painted.svs"
        assert there.reader.metadata == here.reader.metadata
        assert there.fingerprint() == here.fingerprint()
        box = {"x0": 700, "y0": 900, "width": 300, "height": 200, "mpp": 0.5}
        assert (there.read(**box) == here.read(**box)).all()


def test_an_object_that_is_replaced_while_it_is_read_is_noticed(files, monkeypatch):
    files.pipe_file("/b/a.svs", bytes(3 * BLOCK_BYTES))
    file = RemoteFile(StoreWire(files, "/b/a.svs"))
    files.pipe_file("/b/a.svs", bytes(3 * BLOCK_BYTES + 1))
    monkeypatch.setattr(store, "_LOOK_S", -1.0)
    with pytest.raises(WsiError, match="replaced on the server"):
        file.pread(9, 2 * BLOCK_BYTES)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (FileNotFoundError("hidden"), "has no such object"),
        (PermissionError("hidden"), "does not let you in"),
        (type("NoCredentialsError", (Exception,), {})("hidden"), "does not let you in"),
        (TimeoutError("hidden"), r"the store failed \(TimeoutError\), at 3 tries"),
    ],
)
def test_errors_of_a_store_are_one_line_without_their_text(files, monkeypatch, error, said):
    def fail(*_args, **_options):
        raise error

    monkeypatch.setattr(files, "info", fail)
    with pytest.raises(WsiError, match=said) as failed:
        RemoteFile(StoreWire(files, "/b/a.svs"))
    assert failed.value.reason == "unreachable"
    assert "hidden" not in failed.value.line()


def test_a_folder_is_no_slide(files):
    files.pipe_file("/b/folder/a.svs", b"a")
    with pytest.raises(WsiError, match="this is a folder"):
        RemoteFile(StoreWire(files, "/b/folder"))


@pytest.mark.parametrize(
    ("protocol", "how"), [("s3", install_hint("remote")), ("gs", "pip install gcsfs")]
)
def test_what_is_missing_for_a_store_is_said_with_how_to_get_it(monkeypatch, protocol, how):
    monkeypatch.setattr(store, "find_spec", lambda _name: None)
    with pytest.raises(UsageError, match=f"{protocol}:// needs .*: {re.escape(how)}"):
        Slide.open(f"{protocol}://bucket/a.svs")


@pytest.mark.parametrize(
    ("protocol", "how"), [("s3", install_hint("remote")), ("gs", "pip install gcsfs")]
)
def test_a_package_that_does_not_fit_is_said_with_how_to_get_another(monkeypatch, protocol, how):
    def fail(_protocol):
        raise ImportError("cannot import name 'hidden'")

    monkeypatch.setattr(store, "find_spec", lambda _name: True)
    monkeypatch.setattr(fsspec, "filesystem", fail)
    with pytest.raises(UsageError, match=re.escape(how)) as refused:
        Slide.open(f"{protocol}://bucket/a.svs")
    assert "cannot be loaded" in refused.value.message
    assert refused.value.subject == f"{protocol}://bucket/a.svs"
    assert "hidden" not in refused.value.line()


def test_a_fsspec_that_is_broken_is_one_line(monkeypatch):
    monkeypatch.setattr(store, "find_spec", lambda _name: True)
    # What `import` takes for a module that cannot be imported.
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(UsageError, match="cannot be loaded"):
        Slide.open("s3://bucket/a.svs")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (type("NoCredentialsError", (Exception,), {})("hidden"), "does not let you in"),
        (OSError("hidden"), r"the store failed \(OSError\), at 3 tries"),
    ],
)
def test_a_store_that_cannot_be_entered_is_one_line(files, monkeypatch, error, said):
    def fail(_protocol):
        raise error

    monkeypatch.setattr(store, "find_spec", lambda _name: True)
    monkeypatch.setattr(fsspec, "filesystem", fail)
    with pytest.raises(WsiError, match=said) as failed:
        Slide.open("s3://bucket/a.svs")
    assert (failed.value.reason, failed.value.subject) == ("unreachable", "s3://bucket/a.svs")
    assert "hidden" not in failed.value.line()
