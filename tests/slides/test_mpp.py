from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsi_sampath.errors import UsageError, WsiError
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
    for word in ("--slide-mpp", "wsi,mpp", "20x", "0.5", "40x", "0.25", "QuPath", "ImageJ"):
        assert word in caught.value.message


@pytest.mark.parametrize(
    ("stated", "hint", "beside"),
    [
        (None, "", "the file states nothing"),
        (None, "it names a 40x objective", "the file states none (it names a 40x objective)"),
        ((0.5, 0.5), "", "the file states 0.5 um (OME-XML)"),
        ((0.25, 0.2501), "", "the file states the same (OME-XML)"),
    ],
)
def test_a_value_that_was_given_is_said_to_be_taken_on_your_word(stated, hint, beside):
    said = {"stated_by": "OME-XML" if stated else "", "hint": hint}
    by_flag, _ = resolve_mpp(stated, flag=(0.25, 0.25), **said)
    assert by_flag.origin == f"given by --slide-mpp, taken on your word: {beside}"
    by_table, _ = resolve_mpp(stated, table=(0.25, 0.25), **said)
    assert by_table.origin == f"given by the mpp CSV, taken on your word: {beside}"
    assert resolve_mpp((0.5, 0.5), **said)[0].origin == (said["stated_by"] or "the file")


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


@pytest.mark.parametrize(
    ("text", "mpp"),
    [
        ("0.25,0.5", (0.25, 0.5)),
        ("0,25;0,5", (0.25, 0.5)),
        ("0.25 x 0.5", (0.25, 0.5)),
        ("0.25 0.5", (0.25, 0.5)),
        ("0.25um", (0.25, 0.25)),
        ("0.25 \u00b5m/px", (0.25, 0.25)),
        ("0.25 \u03bcm per pixel", (0.25, 0.25)),
        ("250 nm", (0.25, 0.25)),
        ("0.00025 mm", (0.25, 0.25)),
        ("2.5e-1", (0.25, 0.25)),
    ],
)
def test_spellings_of_one_and_two_values(text, mpp):
    assert parse_mpp(text) == pytest.approx(mpp)


@pytest.mark.parametrize("text", ["0,25", "0,5", "1,5", "1,1", ",5", "0,25,0,25"])
def test_a_comma_that_could_be_either_is_refused(text):
    with pytest.raises(WsiError, match="decimal point"):
        parse_mpp(text)


@pytest.mark.parametrize(("text", "value"), [("0,25", 0.25), ("1,5", 1.5), (",5", 0.5)])
def test_a_comma_is_decimal_where_it_can_be_nothing_else(text, value):
    assert parse_mpp(text, decimal_comma=True) == (value, value)


@pytest.mark.parametrize(
    "text",
    ["1_0", "0x1", "0.5 parsec", "0.5,", ";", "1e999", "0.5 0.5 0.5", "\u0663", "1.0,5.0,"],
)
def test_what_is_not_a_pixel_size_is_one_line(text):
    for decimal_comma in (False, True):
        with pytest.raises(WsiError) as caught:
            parse_mpp(text, decimal_comma=decimal_comma)
        assert caught.value.reason == "bad-input"


@given(st.text(max_size=20))
def test_any_text_is_two_positive_numbers_or_refused(text):
    for decimal_comma in (False, True):
        try:
            values = parse_mpp(text, decimal_comma=decimal_comma)
        except WsiError:
            continue
        assert all(0 < value < float("inf") for value in values)


@given(st.floats(0.05, 20))
def test_a_decimal_comma_never_changes_a_value(value):
    text = f"{value:.4f}"
    assert parse_mpp(text.replace(".", ","), decimal_comma=True) == parse_mpp(text)


def written(folder: Path, content: str | bytes, name: str = "mpp.csv") -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize(
    "content",
    [
        "wsi;mpp\na.svs;0,5\nb.svs;0,25\n",
        "WSI ; MPP\r\na.svs;0.5\r\nb.svs;0.25\r\n",
        "\ufeffwsi,mpp\na.svs,0.5\nb.svs,0.25\n",
        "wsi\tmpp\na.svs\t0,5\nb.svs\t0,25\n",
        "sep=;\nwsi;mpp\na.svs;0,5\nb.svs;0,25\n",
        'mpp,"wsi",note\n500 nm,"a.svs","x, y"\n0.25 um,b.svs,\n',
        "slide,mpp\na.svs,0.5,,\n\nb.svs,0.25\n",
        "wsi,mpp\ra.svs,0.5\rb.svs,0.25\r",
        "wsi;mpp\na.svs;0,5\nb.svs;0,25\n".encode("utf-16"),
        "wsi,mpp,note\na.svs,0.5,f\u00fcr\nb.svs,0.25,\n".encode("cp1252"),
    ],
)
def test_tables_of_every_kind_give_the_same_values(tmp_path, content):
    table = read_mpp_csv(written(tmp_path, content))
    assert {name: value[0] for name, value in table.items()} == {"a.svs": 0.5, "b.svs": 0.25}


@pytest.mark.parametrize(
    ("content", "word"),
    [
        ("wsi,mpp\na.svs,0,5\n", "line 2 has 3 cells"),
        ("wsi,mpp\nb.svs,0.5\na.svs,1,5\n", "line 3 has 3 cells"),
        ('wsi,mpp\na.svs,"0,5"\n', "two ways"),
        ('wsi,mpp\na.svs,"1,1"\n', "two ways"),
        ("wsi,mpp\na.svs,0.5\nb.svs,1\na.svs,0.25\n", "lines 2 and 4"),
        ("wsi,mpp,wsi\na.svs,0.5,b\n", "more than once"),
        ('wsi,mpp\n"a.svs,0.5\nb.svs,0.25\n', "cannot be read"),
        ("wsi,mpp\na\0.svs,0.5\n", "NUL"),
        ("wsi,mpp\n" + "a" * 200_000 + ",0.5\n", "cannot be read"),
        ("wsi;scale\na.svs;0,5\n", "wsi,mpp"),
    ],
)
def test_a_table_that_could_be_misread_is_refused(tmp_path, content, word):
    with pytest.raises(UsageError, match=word) as caught:
        read_mpp_csv(written(tmp_path, content))
    assert "mpp.csv" in caught.value.line()
    assert "\n" not in caught.value.line()


def test_equal_rows_and_empty_values_are_no_contradiction(tmp_path):
    table = read_mpp_csv(written(tmp_path, "wsi,mpp\na.svs,0.5\n./a.svs,0.50\na.svs,\n"))
    assert table == {"a.svs": (0.5, 0.5)}


def test_the_longest_path_that_fits_a_slide_counts():
    table = {"a.svs": (0.5, 0.5), "x/a.svs": (0.25, 0.25), "a": (1.0, 1.0)}
    assert lookup_mpp(table, Path("/data/x/a.svs")) == (0.25, 0.25)
    assert lookup_mpp(table, Path("/data/y/a.svs")) == (0.5, 0.5)
    assert lookup_mpp(table, Path("/data/y/a.tiff")) == (1.0, 1.0)


def test_a_value_in_nanometres_without_its_unit_is_recognised():
    with pytest.raises(WsiError, match="is it in nm") as caught:
        resolve_mpp(None, table=(250.0, 250.0))
    assert caught.value.reason == "implausible-mpp"


@given(st.binary(max_size=200))
def test_any_bytes_are_a_table_or_one_line(content):
    with TemporaryDirectory() as folder:
        path = written(Path(folder), b"wsi;mpp\n" + content)
        try:
            table = read_mpp_csv(path)
        except UsageError as error:
            assert "\n" not in error.line()  # noqa: PT017 - refusing is one of two right ways
        else:
            assert all(value > 0 for pair in table.values() for value in pair)
