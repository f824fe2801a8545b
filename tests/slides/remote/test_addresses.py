"""Addresses of slides: what is taken, what is shown of it, what the slide is called."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from wsi_sampath.errors import UsageError, WsiError
from wsi_sampath.masked import masked, masked_argument
from wsi_sampath.slides.mpp import lookup_mpp, read_mpp_csv
from wsi_sampath.slides.remote.place import RemotePath, located, recorded

SIGNED = "https://me:hidden@host.org:8443/a%20b/one%2Ftwo.svs?X-Amz-Signature=hidden#hidden"
SHOWN = "https://host.org:8443/a%20b/one%2Ftwo.svs"


def test_what_is_secret_is_never_in_a_text_of_the_path():
    path = located(SIGNED)
    for text in (str(path), repr(path), path.as_posix(), f"{path!r}", repr(path.address)):
        assert "hidden" not in text
    assert str(path) == SHOWN
    assert (path.name, path.stem, path.suffix) == ("one_two.svs", "one_two", ".svs")
    assert path.address.full == SIGNED


def test_a_path_travels_between_processes_with_all_that_it_needs():
    path = located(SIGNED)
    assert pickle.loads(pickle.dumps(path)).address == path.address
    assert {path, located(SIGNED)} == {path}
    assert located(SHOWN) != path
    assert path != Path(SIGNED)


def test_a_path_is_as_absolute_as_it_can_be_and_has_no_local_neighbours():
    path = located(SHOWN)
    assert path.absolute() is path.resolve() is path
    assert (path.is_file(), path.is_dir(), path.is_symlink()) == (True, False, False)
    assert type(path.parent) is type(path.with_suffix(".zarr")) is type(Path())


def test_what_pathlib_made_of_an_address_is_mended():
    assert str(located(Path("https://host/a.svs"))) == "https://host/a.svs"
    assert located("https:/local/a.svs") == Path("https:/local/a.svs")
    assert not isinstance(located("C://slides/a.svs"), RemotePath)


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("ftp://me:hidden@host/a.svs", "not read from ftp"),
        ("file:///a.svs", "not read from file"),
        ("https://host/", "names no file"),
        ("https://host/folder/", "names no file"),
        ("https://host/?id=hidden", "names no file"),
        ("https://host:port/a.svs?hidden", "not a valid URL"),
        ("https://[host/a.svs?hidden", "not a valid URL"),
        ("https://h/my slide.svs?sig=hidden", "a space; write it as %20"),
        ("https://h/my\tslide.svs?sig=hidden", "a space; write it as %20"),
        ("https://me:12/hidden@host/a.svs", "not a valid URL"),
        ("https://me:12?hidden@host/a.svs", "not a valid URL"),
        ("https://me:12#hidden@host/a.svs", "not a valid URL"),
        ("https://me:/hidden@host/a.svs", "not a valid URL"),
        ("https://me@home.org:12/hidden@host/a.svs", "not a valid URL"),
        ("s3://me:12/hidden@bucket/a.svs", "not a valid URL"),
        ("s3://bucket/a.svs?X-Amz-Signature=hidden", "bucket and a key"),
        ("s3://me:hidden@bucket/a.svs", "bucket and a key"),
    ],
)
def test_other_addresses_are_refused_in_one_line(address, why):
    with pytest.raises(UsageError, match=why) as refused:
        located(address)
    assert "hidden" not in refused.value.line()


@pytest.mark.parametrize(
    "address",
    [
        "https://host/me@home/a@b.svs",
        "https://[::1]/a@b.svs",
        "https://host:8443/a%40b.svs",
        "s3://bucket/me@home/my slide.svs",
    ],
)
def test_what_no_password_can_be_is_taken_as_it_is(address):
    assert str(located(address)) == masked_argument(address) == address


def test_an_argument_is_masked_as_a_whole():
    assert masked_argument("https://h/my slide.svs?sig=hidden") == "https://h/my slide.svs"
    assert masked_argument("--mask=https://u:hid den@h/a.png?b c") == "--mask=https://h/a.png"
    assert masked_argument("a b: https://h/a.svs?hidden") == "a b: https://h/a.svs"
    assert masked_argument("C:\\my slide.svs") == "C:\\my slide.svs"


def test_addresses_are_masked_wherever_they_stand():
    text = f"wsi-segment {SIGNED} --out a.zarr s3://u:hidden@b/k --mpp 0.5"
    assert masked(text) == f"wsi-segment {SHOWN} --out a.zarr s3://b/k --mpp 0.5"
    assert masked("no address: a.svs?b") == "no address: a.svs?b"
    # As pathlib writes it, with words around it, and with a password that nobody escaped.
    assert masked("m.csv: https:/me:hidden@h/a.svs?b, twice") == "m.csv: https://h/a.svs, twice"
    assert masked("http://me:hid/den@h/a.svs is wrong") == "http://... is wrong"
    assert masked("http://me:hid#den@h/a.svs") == "http://..."
    assert masked("git+ssh://me:hidden@h/r.git@abc#hidden") == "git+ssh://h/r.git@abc"
    assert masked("git+https://me:12/hidden@h/r.git@abc") == "git+https://..."
    assert masked("https://hidden@h/r.git@abc") == "https://h/r.git@abc"
    assert masked("s3:/me:12/hidden@b/a.svs is wrong") == "s3://... is wrong"


@pytest.mark.parametrize("kind", [UsageError, lambda *a, **k: WsiError("unreadable", *a, **k)])
def test_no_error_tells_a_secret(kind):
    error = kind(f"cannot read {SIGNED}", subject=str(Path(SIGNED)))
    assert "hidden" not in f"{error} {error.line()} {error.message} {error.subject}"
    assert "hidden" not in kind("no").about(SIGNED).line()


def test_a_record_that_is_no_slides_url_is_a_local_path():
    assert recorded("ftp://host/a.svs") == Path("ftp://host/a.svs")
    assert recorded(SHOWN) == located(SHOWN)


def test_a_table_of_scales_may_name_the_url_or_the_file():
    slide = located("https://host/x/a.svs?hidden")
    for name in (slide.address.full, str(slide), "x/a.svs", "a.svs", "a"):
        assert lookup_mpp({name: (0.5, 0.5)}, slide) == (0.5, 0.5)


def test_a_table_of_scales_tells_urls_apart_by_their_queries(tmp_path):
    rows = [f"https://me:hidden@h/get.svs?id={given}" for given in ("a,0.3", "b,0.4")]
    (tmp_path / "mpp.csv").write_text("\n".join(["wsi,mpp", *rows]), encoding="utf-8")
    table = read_mpp_csv(tmp_path / "mpp.csv")
    found = [lookup_mpp(table, located(row.rpartition(",")[0])) for row in rows]
    assert found == [(0.3, 0.3), (0.4, 0.4)]
    (tmp_path / "mpp.csv").write_text("\n".join(["wsi,mpp", rows[0], f"{rows[0]}1"]))
    with pytest.raises(UsageError, match="different values") as refused:
        read_mpp_csv(tmp_path / "mpp.csv")
    assert "hidden" not in refused.value.line()
