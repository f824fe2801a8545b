from __future__ import annotations

from pathlib import Path

import pytest

from wsi_sampath.errors import WsiError
from wsi_sampath.slides.mpp import lookup_mpp, parse_mpp, read_mpp_csv, resolve_mpp


def test_flag_beats_csv_beats_metadata():
    assert resolve_mpp((0.25, 0.25))[0].source == "metadata"
    assert resolve_mpp((0.25, 0.25), table=(0.5, 0.5))[0].source == "csv"
    mpp, _ = resolve_mpp((0.25, 0.25), table=(0.5, 0.5), flag=(1.0, 2.0))
    assert (mpp.x, mpp.y, mpp.source) == (1.0, 2.0, "flag")


def test_conflict_warns_once_and_agreement_does_not():
    assert len(resolve_mpp((0.25, 0.25), flag=(0.5, 0.5))[1]) == 1
    assert resolve_mpp((0.25, 0.25), flag=(0.2501, 0.25))[1] == []
    assert resolve_mpp(None, flag=(0.5, 0.5))[1] == []


def test_no_source_is_no_mpp():
    with pytest.raises(WsiError) as caught:
        resolve_mpp(None)
    assert caught.value.reason == "no-mpp"
    assert "--slide-mpp" in caught.value.message


@pytest.mark.parametrize("value", [0.00499, 49.9, 0.0499, 20.1])
def test_implausible_values_are_refused_from_every_source(value):
    for arguments in ({"metadata": (value, 0.5)}, {"metadata": None, "flag": (0.5, value)}):
        with pytest.raises(WsiError) as caught:
            resolve_mpp(**arguments)
        assert caught.value.reason == "implausible-mpp"


@pytest.mark.parametrize("value", [0.05, 20.0])
def test_the_limits_are_plausible(value):
    assert resolve_mpp((value, value))[0].x == value


def test_a_true_value_mends_implausible_metadata():
    mpp, warnings = resolve_mpp((0.00499, 0.00499), flag=(0.499, 0.499))
    assert mpp.x == 0.499
    assert "0.00499" in warnings[0]


def test_parse():
    assert parse_mpp("0.5") == (0.5, 0.5)
    assert parse_mpp("0.5,0.25") == (0.5, 0.25)
    for wrong in ("", "a", "0", "-1", "1,2,3", "nan", "inf"):
        with pytest.raises(WsiError):
            parse_mpp(wrong)


def test_csv_finds_slides_by_path_name_and_stem(tmp_path: Path):
    table_file = tmp_path / "mpp.csv"
    table_file.write_text("wsi,mpp,other\na.svs,0.25,x\nb,0.5,\nsub/c.svs,1.0,\nd.svs,,\n")
    table = read_mpp_csv(table_file)
    assert lookup_mpp(table, Path("/data/a.svs")) == (0.25, 0.25)
    assert lookup_mpp(table, Path("/data/b.svs")) == (0.5, 0.5)
    assert lookup_mpp(table, Path("/data/sub/c.svs")) == (1.0, 1.0)
    assert lookup_mpp(table, Path("/data/c.svs")) is None
    assert lookup_mpp(table, Path("/data/d.svs")) is None


@pytest.mark.parametrize("text", ["name,value\na,1\n", "wsi,mpp\na,fast\n"])
def test_wrong_csv_is_one_clear_line(tmp_path: Path, text: str):
    path = tmp_path / "mpp.csv"
    path.write_text(text)
    with pytest.raises(WsiError) as caught:
        read_mpp_csv(path)
    assert caught.value.reason == "bad-input"
    assert str(path) in caught.value.line()
    assert "\n" not in caught.value.line()


def test_missing_csv(tmp_path: Path):
    with pytest.raises(WsiError):
        read_mpp_csv(tmp_path / "none.csv")
