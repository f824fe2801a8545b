from __future__ import annotations

from pathlib import Path

import pytest
from command_line import quick_help

from wsi_sampath.cli import keys, models, train

DOCS = Path(__file__).parents[2] / "docs"


def test_the_tables_in_docs_are_what_the_fields_say(tmp_path):
    keys.write_docs(tmp_path)
    written = sorted(tmp_path.iterdir())
    assert [path.name for path in written] == ["model-keys.md", "options.md", "training-keys.md"]
    for path in written:
        said = f"docs/{path.name} is not what the fields say: run make keys"
        assert path.read_text() == (DOCS / path.name).read_text(), said


@pytest.mark.parametrize("columns", [80, 120])
def test_all_keys_of_a_training_are_listed(command, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    code, said, errors = command(train.main, "wsi-train")("--keys")
    assert (code, errors) == (0, "")
    lines = said.splitlines()
    assert max(map(len, lines)) <= columns
    entries = dict.fromkeys(line.strip() for line in lines)
    assert "data=...  (text; must be given)" in entries
    assert "epochs=32  (whole number above 0)" in entries
    assert "augmentation.flip=0.75  (number 0 to 1)" in entries
    # A block of one kind of training, with the defaults of that kind.
    nuclei = lines[lines.index("PathoSAM (objective: nuclei or classes)") :]
    assert "  augmentation.rotate=0  (number 0 to 1)" in nuclei
    assert "  prompting.rounds=8  (whole number above 0)" in nuclei


def test_all_keys_of_a_specification_are_listed(command):
    code, said, _ = command(models.main, "wsi-models")("keys")
    assert code == 0
    assert "  tile: 1024  (whole number 32 to 8192)" in said.splitlines()
    assert "  pathology.encoder: hipt_vits16  (text or block)" in said.splitlines()
    assert "architecture: wsi_sam" in said.splitlines()


def test_the_help_names_keys_that_there_are():
    text = " ".join(quick_help("wsi-train", without={"torch", "pydantic"}).split())
    assert f"Keys most often given: {', '.join(train.OFTEN)}." in text
    known = {key.name for found in keys.training_keys().values() for key in found}
    assert known.issuperset(train.OFTEN)
