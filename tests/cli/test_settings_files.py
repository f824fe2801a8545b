"""Settings from files and into files: ``--config``, ``--save-config`` and ``--like``."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
import typer
from hypothesis import example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from tiny_spec import SPEC

from wsi_sampath.batch.options import BatchOptions
from wsi_sampath.cli.prompt import main as prompt_main
from wsi_sampath.cli.segment import Request, app, main
from wsi_sampath.cli.settings_files import Layout, earlier_values, read_config
from wsi_sampath.cli.settings_text import config_text, write_config
from wsi_sampath.errors import UsageError
from wsi_sampath.inference.instances.settings import NucleusSettings
from wsi_sampath.inference.prompted.settings import GridSettings, OwnPromptSettings
from wsi_sampath.inference.settings import SegmentSettings
from wsi_sampath.models.checkpoints import build_model, save_checkpoint
from wsi_sampath.models.sam_path.spec import SamPathSpec
from wsi_sampath.settings import asked, is_of_one_slide
from wsi_sampath.synthetic.painted import paint_slide

KINDS = {
    "settings": SegmentSettings,
    "nuclei": NucleusSettings,
    "grid": GridSettings,
    "options": BatchOptions,
    "request": Request,
}
LAYOUT = Layout(KINDS)


def save_tiny(path: Path, seed: int) -> None:
    torch.manual_seed(seed)
    save_checkpoint(build_model(SamPathSpec.model_validate(SPEC)), path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A slide and a model."""
    folder = tmp_path_factory.mktemp("repeat")
    paint_slide(folder / "a.svs", width=400, height=300, mpp=1.0, seed=2)
    save_tiny(folder / "tiny.safetensors", 3)
    return folder


@pytest.fixture
def segment(command, monkeypatch, folder):
    """Segment the slide, from within its folder."""
    monkeypatch.chdir(folder)
    return command(main, "wsi-segment", "a.svs", "--tissue", "none", "--no-geojson", "--no-report")


def attribute(result: Path) -> dict:
    return json.loads((result / ".zattrs").read_text())["wsi_sampath"]


# What a command line can say of the settings.
numbers = st.floats(0.05, 100, allow_nan=False)
words = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=20)
values_of_settings = st.fixed_dictionaries(
    {},
    optional={
        "model": words.map("/{}".format),
        "mpp": numbers,
        "slide_mpp": st.tuples(numbers, numbers),
        "tile": st.integers(64, 16_384),
        "reader": words,
        "batch_size": st.one_of(st.just("auto"), st.integers(1, 4096)),
        "tissue": st.sampled_from(["otsu", "none", "/mask.png", "/mask"]),
        "region": st.tuples(numbers, numbers, numbers, numbers),
        "polygons": st.booleans(),
        "simplify_um": numbers,
        "zarr_format": st.sampled_from([2, 3]),
        "mode": st.sampled_from(["ais", "apg"]),
        "nuclei": st.builds(NucleusSettings, min_size_px=st.integers(0, 99)),
        "grid": st.builds(GridSettings, min_stability=st.floats(0, 1)),
        "own_prompts": st.builds(OwnPromptSettings, several_masks=st.booleans()),
    },
)


@example(values={"model": "/a\x85b\u2028\udcff.yaml"}, fail_fast=True)
@given(values=values_of_settings, fail_fast=st.booleans())
@hypothesis_settings(max_examples=12, deadline=None)
def test_what_is_written_is_read_back(tmp_path_factory, values, fail_fast):
    wanted = SegmentSettings(**values)
    path = tmp_path_factory.getbasetemp() / "run.yaml"
    options = BatchOptions(fail_fast=fail_fast)
    write_config(path, "wsi-segment", {"settings": wanted, "options": options})
    found = LAYOUT.by_kind(read_config(path, LAYOUT))
    blocks = {name: KINDS[name](**found[name]) for name in ("nuclei", "grid") if name in found}
    assert SegmentSettings(**found.get("settings", {}), **blocks) == wanted
    assert BatchOptions(**found.get("options", {})) == options


def test_every_setting_stands_in_the_file_and_may_be_changed_there(tmp_path):
    text = config_text("wsi-segment", {"settings": SegmentSettings(tile=512), "request": Request()})
    path = tmp_path / "all.yaml"
    # As if somebody removed every mark before a name.
    path.write_text(re.sub(r"#(?=\w)", "", text))
    found = read_config(path, LAYOUT)
    assert found["tile"] == 512
    assert found["nuclei"] == NucleusSettings().model_dump()
    assert found.keys() > {"model", "min_tissue_um2", "grid", "scheduler", "region"}
    assert found.keys().isdisjoint({"force", "geojson", "dry_run", "as_json"})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("overlp: 3", "no setting 'overlp'; did you mean 'overlap'?"),
        ("min-tissue: 3", "no setting 'min-tissue'; did you mean 'min_tissue_um2'?"),
        ("nuclei: {min_siz: 2}", "no setting 'nuclei.min_siz'; did you mean 'nuclei.min_size_px'?"),
        ("min_size_px: 2", "no setting 'min_size_px'; did you mean 'nuclei.min_size_px'?"),
        ("zzzzzz: 2", "no setting 'zzzzzz'"),
        ("force: true", "force is not for a file of settings; give --force instead"),
        ("poll_s: 3", "no setting 'poll_s'"),
        ("nuclei: 3", "nuclei is a block"),
        ("nuclei: a.geojson", "a file of nuclei is 'existing'"),
        ("grid: 3", "grid is a block: give its settings below it, indented"),
        ("out: a.zarr", "inputs and --out stay on the command line"),
        ("region: 1 2 3", "region: "),
        ("tile: yes", "tile is true, and must be another value"),
        ("grid: {points_per_side: yes}", "grid.points_per_side is true"),
        ("tile: 3", "tile: Input should be greater than or equal to 64 (got 3)"),
        ("- tile", "holds no settings"),
        ("tile: 512\ntile: 256", "gives the key 'tile' twice"),
    ],
)
def test_what_is_wrong_in_a_file_is_named(tmp_path, text, said):
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(UsageError) as error:
        read_config(path, LAYOUT)
    assert error.value.subject == str(path)
    assert said in error.value.message


def test_words_of_a_file_are_read_as_on_the_command_line(tmp_path):
    (tmp_path / "mask.png").touch()
    path = tmp_path / "run.yaml"
    path.write_text("region: 0 0 400 200\n")
    assert read_config(path, LAYOUT) == {"region": (0, 0, 400, 200)}
    path.write_text("slide_mpp: 0.25\nbatch_size: 8\ngpus: 0\ntissue: mask.png\nmpp_csv: t.csv\n")
    assert read_config(path, LAYOUT) == {
        "slide_mpp": (0.25, 0.25),
        "batch_size": 8,
        "gpus": "0",
        "tissue": str(tmp_path / "mask.png"),
        "mpp_csv": tmp_path / "t.csv",
    }


def test_numbers_of_a_file_are_what_a_person_means(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text("tile: 064\noverlap: 0x20\nmin_area_um2: 1.5e+1\nsimplify_um: .5\n")
    found = read_config(path, LAYOUT)
    assert list(found.values()) == [64, 32, 15.0, 0.5]
    path.write_text("tile: 1:30\n")
    with pytest.raises(UsageError, match="tile: .* valid integer.*'1:30'"):
        read_config(path, LAYOUT)


def test_a_file_of_settings_names_files_from_its_own_folder(tmp_path, monkeypatch):
    # Of the same names as what it means, which is not there.
    for name in ("mask", "m.safetensors"):
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    inner = tmp_path / "inner"
    inner.mkdir()
    (inner / "run.yaml").write_text("tissue: mask\nmodel: m.safetensors\n")
    found = read_config(inner / "run.yaml", LAYOUT)
    assert found == {"tissue": str(inner / "mask"), "model": str(inner / "m.safetensors")}


def test_a_mask_without_a_suffix_belongs_to_its_slide():
    field = SegmentSettings.model_fields["tissue"]
    assert [is_of_one_slide(field, word) for word in ("maskfile", "m.png")] == [True, True]
    assert [is_of_one_slide(field, word) for word in ("otsu", "none")] == [False, False]


def test_files_that_were_named_are_found_from_everywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings = SegmentSettings(tissue="mask", model="nuclei-mini", weights="none.pt")
    whole = {"tissue": str(tmp_path / "mask"), "weights": str(tmp_path / "none.pt")}
    assert asked(settings) == {"model": "nuclei-mini", **whole}
    (tmp_path / "mine").touch()
    assert asked(SegmentSettings(model="mine")) == {"model": str(tmp_path / "mine")}
    assert asked(SegmentSettings(tissue="none")) == {"tissue": "none"}
    assert asked(Request(mpp_csv=Path("t.csv"))) == {"mpp_csv": str(tmp_path / "t.csv")}


def test_nothing_else_is_replaced(tmp_path):
    path = tmp_path / "run.yaml"
    for _ in range(2):
        write_config(path, "wsi-segment", {"settings": SegmentSettings(tile=256)})
    assert "tile: 256" in path.read_text().splitlines()
    for other in (tmp_path / "mine.yaml", tmp_path / "folder"):
        other.mkdir() if other.name == "folder" else other.write_text("tile: 3\n")
        with pytest.raises(UsageError, match="is there already"):
            write_config(other, "wsi-segment", {"settings": SegmentSettings()})
    with pytest.raises(UsageError, match="no settings of wsi-prompt"):
        write_config(path, "wsi-prompt", {"settings": SegmentSettings()})


def test_a_result_is_repeated(segment, folder, tmp_path):
    first, again = tmp_path / "first.zarr", tmp_path / "again.zarr"
    asking = ("--model", "tiny.safetensors", "--min-area", "20", "--overlap", "32", "--workers", 1)
    code, _, said = segment("--out", first, *asking, "--region", 0, 0, 200, 200, "--slide-mpp", 1)
    assert code == 0, said
    kept = {"model": str(folder / "tiny.safetensors"), "min_area_um2": 20.0, "overlap": 32}
    assert kept.items() <= attribute(first)["asked"].items()
    assert "workers" not in attribute(first)["asked"]
    code, _, said = segment(
        *("--out", again, "--like", first, "--region", 0, 0, 200, 200, "--slide-mpp", "1.0,1.0")
    )
    assert code == 0, said
    assert attribute(again)["run_id"] == attribute(first)["run_id"]
    # Of its slide alone, nothing is taken, and it is said.
    code, told, said = segment("--out", tmp_path / "n.zarr", "--like", first, "--dry-run")
    assert "belongs to its slide: --slide-mpp, --region\n" in said
    # The command line comes before the file, and that before the result.
    (tmp_path / "run.yaml").write_text("overlap: 16\nsimplify_um: 2\n")
    saved = tmp_path / "saved.yaml"
    words = ("--config", tmp_path / "run.yaml", "--simplify", 3, "--save-config", saved)
    segment("--out", tmp_path / "n.zarr", "--like", first, "--dry-run", *words)
    lost = f"its weights had the SHA-256 {attribute(first)['model']['sha256']}."
    assert f"\n# The model is not checked, as --like does; {lost}\n" in saved.read_text()
    found = read_config(saved, LAYOUT)
    assert (found["min_area_um2"], found["overlap"], found["simplify_um"]) == (20, 16, 3)


def test_another_model_under_the_old_name_is_noticed(segment, folder, tmp_path):
    model = tmp_path / "mine.safetensors"
    save_tiny(model, 4)
    first, out = tmp_path / "first.zarr", ("--out", tmp_path / "n.zarr", "--dry-run")
    assert segment("--out", first, "--model", model)[0] == 0
    save_tiny(model, 5)
    code, _, said = segment(*out, "--like", first)
    assert code == 2
    assert f"{model}: bad-model: is not what {first} was made with" in said
    assert segment(*out, "--like", first, "--model", model)[0] == 0
    (tmp_path / "run.yaml").write_text(f"model: {folder / 'tiny.safetensors'}\n")
    assert segment(*out, "--like", first, "--config", tmp_path / "run.yaml")[0] == 0
    model.unlink()
    code, _, said = segment(*out, "--like", first)
    assert (code, "there is no such file" in said) == (2, True)


def test_what_is_no_result_is_not_repeated(segment, tmp_path):
    def like(name: str) -> str:
        code, _, said = segment("--out", tmp_path / "n.zarr", "--like", tmp_path / name)
        assert code == 2
        return said

    assert "there is no such folder" in like("no.zarr")
    (tmp_path / "batch" / "a.zarr").mkdir(parents=True)
    assert f"name one of them, such as {tmp_path / 'batch' / 'a.zarr'}" in like("batch")
    assert "is not a complete result of wsi-segment" in like("batch/a.zarr")
    newer = {"complete": True, "settings": {}, "model": {}, "version": "99", "asked": {"zzzz": 1}}
    text = json.dumps({"wsi_sampath": newer})
    (tmp_path / "batch" / "a.zarr" / ".zattrs").write_text(text)
    assert "no setting 'zzzz' (made by version 99, this is" in like("batch/a.zarr")
    text = json.dumps({"wsi_sampath": newer | {"asked": {"model": "tiny.safetensors"}}})
    (tmp_path / "batch" / "a.zarr" / ".zattrs").write_text(text)
    assert "does not say which weights made it; give --model" in like("batch/a.zarr")
    (tmp_path / "old.zarr").mkdir()
    old = {"wsi_sampath": {"complete": True, "settings": {}}}
    (tmp_path / "old.zarr" / ".zattrs").write_text(json.dumps(old))
    code, _, said = segment("--out", tmp_path / "n.zarr", "--like", tmp_path / "old.zarr")
    assert (code, "does not say what was asked of it" in said) == (2, True)


def left_of_a_file(path: Path, text: str, **said: object) -> dict:
    """Return what is taken from a file of settings beside what the command line gives."""
    path.write_text(text)
    given = {"config": path, "like": None, **said}
    found = earlier_values(given, said.keys(), KINDS)
    names = found["request"].pop("from_files")
    values = {key: value for one in found.values() for key, value in one.items()}
    assert names == values.keys() - said.keys()
    return values


def test_the_command_line_takes_back_what_a_file_says(tmp_path):
    def left(text: str, **said: object) -> dict:
        return left_of_a_file(tmp_path / "run.yaml", text, **said)

    assert left("polygons: false", geojson="a.geojson") == {}
    assert left("polygons: false", polygons=False) == {"polygons": False}
    assert left("tissue_threshold: 0.1", tissue="none") == {}
    assert left("tissue_threshold: 0.1", tissue="otsu") == {"tissue_threshold": 0.1}
    assert left("tissue: none", tissue_threshold=0.1) == {}
    assert left("scheduler: local:2", gpus="0") == {}
    assert left("model: a.yaml\nweights: a.pt\ntile: 64", model="gland-mini") == {"tile": 64}


def test_every_switch_that_a_file_may_set_has_an_opposite():
    options = typer.main.get_command(app).params
    flags = [one for one in options if getattr(one, "is_flag", False)]
    one_way = {one.name for one in flags if not one.secondary_opts}
    assert one_way == {"force", "dry_run", "preview", "as_json", "verbose", "quiet"}


def test_what_shares_a_batch_is_left_out_for_one_slide(segment, tmp_path):
    (tmp_path / "run.yaml").write_text("gpus: 0,1\npolygons: false\n")
    out = ("--out", tmp_path / "n.zarr", "--preview", "--config", tmp_path / "run.yaml")
    code, _, said = segment(*out)
    assert (code, "since it shares a batch: gpus" in said) == (0, True)
    code, _, said = segment(*out, "--scheduler", "local:2")
    assert (code, "--scheduler shares" in said, "gpus" in said) == (2, True, False)


def test_settings_are_saved_once_the_run_can_begin(segment, tmp_path):
    saved = tmp_path / "new" / "run.yaml"
    words = ("--out", tmp_path / "n.zarr", "--save-config", saved, "--dry-run")
    assert segment(*words, "--model", "no.safetensors")[0] == 2
    assert not saved.exists()
    assert segment(*words, "--model", "tiny.safetensors")[0] == 0
    assert read_config(saved, LAYOUT)["tissue"] == "none"


def test_prompts_have_files_of_settings_too(command, tmp_path):
    (tmp_path / "run.yaml").write_text("smallest_prt: 0.1\n")
    prompt = command(prompt_main, "wsi-prompt", "a.svs", "-p", "p.geojson", "-o", "m.geojson")
    code, _, said = prompt("--config", tmp_path / "run.yaml")
    assert (code, "did you mean 'smallest_part'?" in said) == (2, True)
