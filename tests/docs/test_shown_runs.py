"""What README and docs show runs, page by page, and so does the notebook."""

from __future__ import annotations

import json
import os
import shutil

import pytest
from docs_world import THOROUGH, make_world, use_quick_models
from shown_code import PAGES, ROOT, blocks_of, command_lines, own_command, run_main

NOTEBOOK = ROOT / "examples" / "first_slide.ipynb"


def runs(block) -> bool:
    kind, _ = block.mark
    return block.language in ("bash", "python") and (not kind or (kind == "slow" and THOROUGH))


PAGES_THAT_RUN = [page for page in PAGES if any(runs(block) for block in blocks_of(page))]


@pytest.fixture(scope="module")
def world(tmp_path_factory, painted):
    folder, before = tmp_path_factory.mktemp("shown"), os.getcwd()
    with pytest.MonkeyPatch.context() as patch:
        if not THOROUGH:
            use_quick_models(patch)
        try:
            yield make_world(folder, painted.path, lambda *words: ran(words, patch))
        finally:
            os.chdir(before)


def ran(words, monkeypatch) -> None:
    assert run_main(list(words), monkeypatch) == 0, " ".join(words)


@pytest.fixture
def here(world, tmp_path, monkeypatch):
    """A folder of its own with what the pages take for granted."""
    folder = tmp_path / "here"
    shutil.copytree(world, folder, symlinks=True)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("WSI_SAMPATH_CACHE", str(tmp_path / "cache"))
    return folder


@pytest.mark.parametrize("page", PAGES_THAT_RUN, ids=lambda page: page.stem)
def test_what_a_page_shows_runs(page, here, monkeypatch, capsys):
    names: dict = {}
    for block in filter(runs, blocks_of(page)):
        if block.language == "python":
            exec(compile(block.text, block.place, "exec"), names)  # noqa: S102
            continue
        for words in command_lines(block):
            own = own_command(words)
            assert own is not None, f"{block.place}: mark the block, or run nothing but ours in it"
            code = run_main(own, monkeypatch)
            assert code == 0, f"{block.place}: {' '.join(words)}\n{capsys.readouterr().err}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_what_does_not_run_is_python_all_the_same(page):
    for block in blocks_of(page):
        if block.language == "python":
            compile(block.text, block.place, "exec")


def cells(kind: str) -> list[str]:
    book = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    return ["".join(cell["source"]) for cell in book["cells"] if cell["cell_type"] == kind]


def test_the_notebook_runs_from_top_to_bottom(here, monkeypatch):
    monkeypatch.setenv("MPLBACKEND", "agg")
    names: dict = {}
    for number, source in enumerate(cells("code"), 1):
        exec(compile(source, f"{NOTEBOOK.name}:{number}", "exec"), names)  # noqa: S102


def test_the_notebook_is_stored_small_and_whole():
    assert NOTEBOOK.stat().st_size < 200_000
    book = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    code = [cell for cell in book["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell["outputs"]]
    assert outputs
    assert all(output["output_type"] != "error" for output in outputs)
