"""The zoo against a server on this machine that behaves badly."""

import dataclasses
import hashlib
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import xxhash
from command_line import ended

from wsi_sampath.cli.models import main
from wsi_sampath.errors import WsiError
from wsi_sampath.models.published import catalogue, download
from wsi_sampath.models.published.catalogue import FILES, PublishedFile, published_file

CONTENT = bytes(range(256)) * 12_000
LICENCE = "Apache-2.0 with Commons Clause"


class Server(ThreadingHTTPServer):
    """Serves CONTENT; `cuts` are the numbers of bytes after which the next answers break off."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.content, self.ranges, self.cuts = CONTENT, True, []
        self.seen = []
        self.declare = True

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        asked = self.headers.get("Range")
        self.server.seen.append(asked)
        if not self.path.endswith(".pth"):
            self.send_error(404)
            return
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
        if start and self.server.ranges and start >= len(self.server.content):
            self.send_error(416)
            return
        partial = bool(asked) and self.server.ranges
        body = self.server.content[start if partial else 0 :]
        self.send_response(206 if partial else 200)
        if self.server.declare:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: self.server.cuts.pop(0)] if self.server.cuts else body)

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    one = Server()
    thread = threading.Thread(target=one.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield one
    one.shutdown()
    one.server_close()
    thread.join()


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    folder = tmp_path / "cache"
    monkeypatch.setenv("WSI_SAMPATH_CACHE", str(folder))
    monkeypatch.setattr(download, "_WAIT_S", 0.0)
    monkeypatch.setattr(download, "_BLOCK_BYTES", 1 << 16)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    return folder


def entry_at(url, content=CONTENT, digest=None):
    digest = digest or f"sha256:{hashlib.sha256(content).hexdigest()}"
    return PublishedFile("w", "w.pth", f"{url}/w.pth", len(content), digest, LICENCE, "a test")


@pytest.fixture
def entry(server):
    return entry_at(server.url)


def refusal(*args, **options):
    with pytest.raises(WsiError) as caught:
        download.fetch(*args, **options)
    assert caught.value.subject == "w"
    assert "\n" not in caught.value.line()
    return caught.value


def names(folder):
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def test_a_download(server, entry, cache):
    told = []
    path = download.fetch(entry, progress=lambda have, total: told.append((have, total)))
    assert path == cache / "w.pth"
    assert path.read_bytes() == CONTENT
    assert names(cache) == ["w.pth"]
    assert told[-1] == (len(CONTENT), len(CONTENT))
    assert [have for have, _ in told] == sorted(have for have, _ in told)
    assert len(told) > 10
    assert download.cached(entry) == path


def test_what_is_there_is_not_fetched_again(server, entry):
    download.fetch(entry)
    download.fetch(entry)
    assert len(server.seen) == 1


def test_a_damaged_file_in_the_cache_is_replaced(entry, cache):
    path = download.fetch(entry)
    path.write_bytes(b"rubbish")
    assert download.fetch(entry).read_bytes() == CONTENT


def test_an_interruption_is_mended_at_once(server, entry, cache):
    server.cuts = [1_000_000, 500_000]
    assert download.fetch(entry).read_bytes() == CONTENT
    assert server.seen[0] is None
    assert all(asked.startswith("bytes=") for asked in server.seen[1:])
    assert len(server.seen) == 3
    assert names(cache) == ["w.pth"]


def test_a_download_that_broke_off_goes_on_later(server, entry, cache):
    server.cuts = [1_000_000, *[0] * 9]
    error = refusal(entry)
    assert error.reason == "unreadable"
    assert "run the command again to resume" in error.line()
    assert names(cache) == ["w.pth.download"]
    assert download.cached(entry) is None
    have = (cache / "w.pth.download").stat().st_size
    assert 900_000 < have <= 1_000_000
    server.cuts.clear()
    assert download.fetch(entry).read_bytes() == CONTENT
    assert server.seen[-1] == f"bytes={have}-"
    assert names(cache) == ["w.pth"]


def test_a_server_without_ranges_starts_over(server, entry):
    server.ranges, server.cuts = False, [1_000_000]
    assert download.fetch(entry).read_bytes() == CONTENT


def test_a_truncated_file(server, entry, cache):
    """Complete as far as HTTP can tell, but shorter than the published one."""
    server.content = CONTENT[:-1000]
    error = refusal(entry)
    assert error.reason == "unreadable"
    assert "not the published file" in error.line()
    assert names(cache) == []


def test_a_truncated_file_of_unstated_length(server, entry, cache):
    server.declare, server.cuts = False, [1_000_000]
    assert refusal(entry).reason == "unreadable"
    assert "w.pth" not in names(cache)
    assert download.fetch(entry).read_bytes() == CONTENT


def test_another_file(server, entry, cache):
    server.content = CONTENT[::-1]
    assert "not the published file" in refusal(entry).line()
    assert names(cache) == []


def test_rubbish_of_an_earlier_attempt(server, entry, cache):
    cache.mkdir()
    (cache / "w.pth.download").write_bytes(b"x" * (len(CONTENT) + 5))
    assert "not the published file" in refusal(entry).line()
    assert names(cache) == []
    assert download.fetch(entry).read_bytes() == CONTENT


def test_offline(cache):
    error = refusal(entry_at("http://127.0.0.1:1"))
    assert error.reason == "unreadable"
    assert "cannot be reached" in error.line()
    assert "--from" in error.line()
    assert names(cache) == []


def test_a_file_that_is_not_on_the_server(server):
    lost = dataclasses.replace(entry_at(server.url), url=f"{server.url}/elsewhere")
    assert "answered 404" in refusal(lost).line()


def test_from_a_folder(entry, cache, tmp_path, server):
    folder = tmp_path / "usb"
    folder.mkdir()
    assert "no w.pth" in refusal(entry, source=str(folder)).line()
    (folder / "w.pth").write_bytes(CONTENT[::-1])
    assert "not the published file" in refusal(entry, source=str(folder)).line()
    assert names(cache) == []
    (folder / "w.pth").write_bytes(CONTENT)
    assert download.fetch(entry, source=str(folder)).read_bytes() == CONTENT
    assert names(folder) == ["w.pth"]
    assert server.seen == []


def test_from_a_mirror(server):
    entry = entry_at("http://127.0.0.1:1")
    assert download.fetch(entry, source=f"{server.url}/mirror/").read_bytes() == CONTENT


def test_the_digest_of_patho_sam(server):
    digest = f"xxh128:{xxhash.xxh128(CONTENT).hexdigest()}"
    assert download.fetch(entry_at(server.url, digest=digest)).read_bytes() == CONTENT
    wrong = entry_at(server.url, digest="xxh128:" + "0" * 32)
    assert "not the published file" in refusal(wrong).line()


def test_a_cache_that_cannot_be_written(entry, cache):
    cache.write_text("a file where the folder should be")
    assert refusal(entry).reason == "unreadable"


def test_the_catalogue():
    assert len({one.name for one in FILES}) == len({one.file for one in FILES}) == len(FILES)
    for one in FILES:
        algorithm, _, value = one.digest.partition(":")
        assert len(value) == {"sha256": 64, "xxh128": 32, "": 0}[algorithm]
        assert one.by_hand == (not one.digest)
        assert one.url.startswith("https://")
        assert one.licence
    assert published_file("sam-vit-b").size == 375_042_383
    assert "Commons Clause" in published_file("hipt-vit256").licence
    with pytest.raises(WsiError, match="hipt-vit256"):
        published_file("hipt")


def run(monkeypatch, *words):
    return ended(monkeypatch, main, "wsi-models", *words)


@pytest.fixture
def listed(monkeypatch, entry):
    monkeypatch.setattr(catalogue, "FILES", (entry,))


def test_what_only_a_person_can_fetch(cache, monkeypatch, capsys, tmp_path):
    assert run(monkeypatch, "fetch", "wsi-sam-low") != 0
    (line,) = capsys.readouterr().err.splitlines()
    assert "drive.google.com" in line
    assert "--from" in line
    (tmp_path / "net_low.pth").write_bytes(CONTENT)
    assert not run(monkeypatch, "fetch", "wsi-sam-low", "--from", tmp_path)
    assert "not verified" in capsys.readouterr().out
    assert download.weights_file("wsi-sam-low").read_bytes() == CONTENT
    assert not run(monkeypatch, "fetch", "wsi-sam-low")
    assert not run(monkeypatch, "info", "wsi-sam-low")
    assert "cannot be verified" in capsys.readouterr().out
    assert names(cache) == ["net_low.pth"]


@pytest.mark.usefixtures("listed")
def test_fetching_on_the_command_line(cache, monkeypatch, capsys):
    assert not run(monkeypatch, "list")
    before = capsys.readouterr().out
    assert not run(monkeypatch, "fetch", "w")
    assert LICENCE in capsys.readouterr().out
    assert names(cache) == ["w.pth"]
    assert not run(monkeypatch, "list")
    after = capsys.readouterr().out
    assert "gland-mini" in before
    assert ("fetched" in before, "fetched" in after) == (False, True)
    assert not run(monkeypatch, "info", "w")
    told = capsys.readouterr().out
    assert str(cache / "w.pth") in told
    assert LICENCE in told
    assert download.weights_file("w") == cache / "w.pth"


@pytest.mark.usefixtures("listed")
def test_another_file_in_the_cache_is_noticed_when_used_and_when_listed(
    entry, cache, monkeypatch, capsys
):
    path = download.fetch(entry)
    for content in (CONTENT[::-1], CONTENT[:-1], b""):
        path.write_bytes(content)
        with pytest.raises(WsiError, match="wsi-models fetch w"):
            download.weights_file("w")
        assert not run(monkeypatch, "list")
        assert "damaged" in capsys.readouterr().out
        assert not run(monkeypatch, "info", "w")
        assert "fetch it again" in capsys.readouterr().out
    assert download.fetch(entry).read_bytes() == CONTENT
    assert download.weights_file("w") == path


def test_a_file_is_digested_once_for_each_of_its_states(entry, cache, monkeypatch):
    path, asked = download.fetch(entry), []
    digest = download.pooch.file_hash

    def counted(*args, **options):
        asked.append(args)
        return digest(*args, **options)

    monkeypatch.setattr(download.pooch, "file_hash", counted)
    assert [download.is_genuine(entry, path) for _ in range(3)] == [True] * 3
    assert len(asked) == 1
    path.write_bytes(CONTENT[::-1])
    assert not download.is_genuine(entry, path)
    assert len(asked) == 2


def test_the_list_fits_a_terminal(monkeypatch, capsys):
    assert not run(monkeypatch, "list")
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 80


def test_nothing_is_suggested_that_is_not_alike(monkeypatch, capsys):
    assert run(monkeypatch, "info", "nonsense") == 2
    assert "did you mean" not in capsys.readouterr().err
    assert run(monkeypatch, "info", "gland-mimi") == 2
    assert "did you mean 'gland-mini'?" in capsys.readouterr().err


@pytest.mark.usefixtures("listed")
@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["fetch", "v"], 2, "did you mean 'w'"),
        (["fetch"], 2, "NAME"),
        (["fetch", "w", "--from", "no-such-folder"], 1, "no-such-folder"),
        (["fetch", "w", "--from", "http://127.0.0.1:1"], 1, "cannot be reached"),
        (["fetch", "w", "--form", "x"], 2, "--form"),
        (["info", "v"], 2, "did you mean 'w'"),
        (["info", "none.safetensors"], 2, "no such file"),
        (["info", "none.yaml"], 2, "none.yaml"),
        (["nothing"], 2, "nothing"),
    ],
)
def test_wrong_words_are_one_line(monkeypatch, capsys, words, code, said):
    assert run(monkeypatch, *words) == code
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert said in line


def test_info_about_models(monkeypatch, capsys, tiny_spec, tmp_path):
    assert not run(monkeypatch, "info", "gland-mini")
    assert "other, gland" in capsys.readouterr().out
    tiny_spec.to_yaml(tmp_path / "a.yaml")
    assert not run(monkeypatch, "info", tmp_path / "a.yaml")
    assert "other, gland, mucus" in capsys.readouterr().out


def test_help_is_quick_and_imports_nothing_heavy():
    code = (
        "import sys; sys.argv = ['wsi-models', '-h']\n"
        "from wsi_sampath.cli.models import main\n"
        "try: main()\n"
        "except SystemExit as stop: assert not stop.code\n"
        "heavy = {'torch', 'numpy', 'pooch', 'requests'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for command in ("list", "info", "fetch", "import"):
        assert command in done.stdout
