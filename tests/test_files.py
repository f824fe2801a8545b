from pathlib import Path

import pytest

from wsi_sampath.files import replacing


@pytest.mark.parametrize("durable", [False, True])
def test_a_file_appears_at_the_end_of_the_block(tmp_path: Path, durable: bool):
    target = tmp_path / "scores.json"
    target.write_text("old")
    with replacing(target, durable=durable) as growing:
        growing.write_text("new")
        assert target.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["scores.json"]
    assert target.read_text() == "new"


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path: Path):
    target = tmp_path / "scores.json"
    target.write_text("old")

    def be_interrupted():
        with replacing(target) as growing:
            growing.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        be_interrupted()
    assert [path.name for path in tmp_path.iterdir()] == ["scores.json"]
    assert target.read_text() == "old"


def test_a_file_that_cannot_take_its_place_is_not_left_behind(tmp_path: Path):
    target = tmp_path / "taken"
    target.mkdir()
    (target / "something").touch()
    with pytest.raises(OSError, match="taken"), replacing(target) as growing:
        growing.write_text("new")
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]
