"""Slides by HTTPS: whom to trust is a matter for people, a connection that fails is tried again."""

from __future__ import annotations

import shutil
import socket
import subprocess
import threading

import numpy as np
import pytest
from slide_server import serving

from wsi_sampath.errors import WsiError
from wsi_sampath.slides.remote import wire as wire_module
from wsi_sampath.slides.slide import Slide

BOX = {"x0": 700, "y0": 900, "width": 900, "height": 700, "mpp": 0.5}


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    monkeypatch.setattr(wire_module, "WAITS_S", (0.0,) * 6)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A certificate that signed itself, with its key."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl makes the certificate")
    path = tmp_path_factory.mktemp("tls") / "host.pem"
    words = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=host"]
    files = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", "key.pem", "-out", "host.pem"]
    subprocess.run(["openssl", *words, *files], cwd=path.parent, check=True, capture_output=True)
    with path.open("ab") as stream:
        stream.write((path.parent / "key.pem").read_bytes())
    return path


@pytest.fixture
def server(painted, tmp_path, certificate):
    shutil.copy(painted.path, tmp_path / "a.svs")
    with serving(tmp_path, certificate) as server:
        yield server


def refused(address: str) -> WsiError:
    with pytest.raises(WsiError) as failed:
        Slide.open(address)
    assert (failed.value.reason, "hidden" in failed.value.line()) == ("unreachable", False)
    return failed.value


def test_a_certificate_that_nobody_vouches_for_is_final(server):
    error = refused(f"{server.url}/a.svs?hidden")
    assert error.message.startswith("its certificate is not trusted; set REQUESTS_CA_BUNDLE")
    assert server.manners.asked == []


def test_a_certificate_of_another_host_is_final(server, certificate, monkeypatch):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    error = refused(f"{server.url.replace('127.0.0.1', 'localhost')}/a.svs?hidden")
    assert "certificate is not trusted" in error.message


def test_certificates_that_are_not_there_are_said(server, tmp_path, monkeypatch):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "none.pem"))
    error = refused(f"{server.url}/a.svs?hidden")
    assert error.message == "the certificates that REQUESTS_CA_BUNDLE names cannot be read"


def test_what_breaks_within_tls_is_tried_again(server, painted, certificate, monkeypatch):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    server.manners.fail = ["garbled", "cut"]
    with Slide.open(f"{server.url}/a.svs") as there, Slide.open(painted.path) as here:
        assert server.manners.fail == []
        assert np.array_equal(there.read(**BOX), here.read(**BOX))


def test_a_server_that_speaks_no_tls_is_not_called_untrusted(tmp_path):
    with serving(tmp_path) as server:
        error = refused(server.url.replace("http:", "https:") + "/a.svs?hidden")
    assert error.message.startswith("the secure connection (TLS) failed, at 4 tries")


def test_a_handshake_that_is_broken_off_is_tried_again():
    tries = []

    def hang_up(listening):
        while len(tries) < 4:
            connection, _ = listening.accept()
            connection.recv(9999)
            tries.append(connection)
            connection.close()

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=hang_up, args=(listening,), daemon=True)
        thread.start()
        error = refused(f"https://127.0.0.1:{listening.getsockname()[1]}/a.svs?hidden")
        thread.join(10)
    assert "certificate" not in error.message
    assert "at 4 tries" in error.message
    assert len(tries) == 4
