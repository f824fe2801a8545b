"""The same run is known by content: what is in the files, not what they are called."""

from __future__ import annotations

import json
import shutil

import numpy as np
import PIL.Image
import pytest
import tifffile
from stub_network import StubNetwork, make_stub

from wsi_sampath.batch.discover import Job
from wsi_sampath.batch.record.before import attempt_key
from wsi_sampath.errors import WsiError
from wsi_sampath.inference.segmenter import segment_slide
from wsi_sampath.inference.settings import SegmentSettings
from wsi_sampath.models.network import LoadedModel
from wsi_sampath.settings import deciding

BASE = {"workers": 2, "device": "cpu", "region": (900, 700, 700, 600), "report": False}


def build(**values):
    return SegmentSettings.build({**BASE, "tissue": "none", **values})


def run(slide, out, model=None, **values):
    return segment_slide(slide, out, settings=build(**values), model=model or make_stub())


def mask(path, left):
    pixels = np.zeros((230, 300), np.uint8)
    pixels[60:140, left:220] = 255
    PIL.Image.fromarray(pixels).save(path)
    return str(path)


def spelt_otherwise(path, tmp_path):
    return [f"{path.parent}/./{path.name}", f"{tmp_path}/../{tmp_path.name}/{path.name}"]


def test_an_edited_mask_is_noticed_and_its_other_names_are_not(painted, tmp_path):
    name = mask(tmp_path / "m.png", 100)
    run(painted.path, tmp_path / "a.zarr", tissue=name)
    shutil.copy(name, tmp_path / "other.png")
    for same in (tmp_path / "other.png", *spelt_otherwise(tmp_path / "m.png", tmp_path)):
        assert run(painted.path, tmp_path / "a.zarr", tissue=str(same)).reused
    mask(tmp_path / "m.png", 130)
    with pytest.raises(WsiError, match=r"tissue mask was edited.*--force") as caught:
        run(painted.path, tmp_path / "a.zarr", tissue=name)
    assert caught.value.reason == "bad-input"
    with pytest.raises(WsiError, match="tissue was 'mask', now 'none'"):
        run(painted.path, tmp_path / "a.zarr")
    assert not run(painted.path, tmp_path / "a.zarr", tissue=name, force=True).reused


def test_a_mask_edited_while_a_run_rests_is_noticed(painted, tmp_path):
    class Stopping(StubNetwork):
        def forward(self, images):
            if len(self.calls) == 2:
                raise KeyboardInterrupt
            return super().forward(images)

    name = mask(tmp_path / "m.png", 100)
    with pytest.raises(WsiError, match="interrupted"):
        run(painted.path, tmp_path / "a.zarr", make_stub(network=Stopping()), tissue=name)
    mask(tmp_path / "m.png", 101)
    with pytest.raises(WsiError, match="tissue mask was edited"):
        run(painted.path, tmp_path / "a.zarr", tissue=name)


def test_another_spelling_of_the_model_is_the_same_and_other_weights_are_not(painted, tmp_path):
    def model(source, sha="0" * 64, **spec):
        stub = make_stub()
        return LoadedModel(stub.module, stub.spec.model_copy(update=spec), sha, source)

    run(painted.path, tmp_path / "a.zarr", model("m.safetensors"))
    same = model("./m.safetensors", description="told anew", name="renamed")
    assert run(painted.path, tmp_path / "a.zarr", same).reused
    for other, words in (
        (model("m.safetensors", "1" * 64), "model has other weights"),
        (model("m.safetensors", mpp=0.4), "model specification was edited"),
    ):
        with pytest.raises(WsiError, match=words):
            run(painted.path, tmp_path / "a.zarr", other)


def test_the_model_that_ran_is_the_one_recorded(painted, tmp_path):
    made = run(painted.path, tmp_path / "a.zarr")
    assert build().model == "gland-mini"
    assert made.attributes["settings"]["model"] == "stub"
    assert made.attributes["model"]["name"] == "stub"


def framed(path, value, at=(700, 600)):
    """A slide as converters write it: no compression, glass all around one field."""
    pixels = np.full((1792, 1536, 3), 243, np.uint8)
    pixels[at[0] : at[0] + 40, at[1] : at[1] + 40] = value
    tifffile.imwrite(
        path,
        pixels,
        tile=(256, 256),
        metadata=None,
        photometric="rgb",
        resolution=(20000, 20000),
        resolutionunit="CENTIMETER",
    )
    return path


def test_a_slide_replaced_in_the_middle_is_noticed(tmp_path):
    slide = framed(tmp_path / "t.tif", (180, 60, 120))
    region = (500, 600, 300, 300)
    run(slide, tmp_path / "a.zarr", region=region)
    (tmp_path / "mounted").mkdir()
    moved = shutil.copy2(slide, tmp_path / "mounted" / "renamed.tif")
    assert run(moved, tmp_path / "a.zarr", region=region).reused
    size = slide.stat().st_size
    assert framed(slide, (60, 60, 160)).stat().st_size == size
    with pytest.raises(WsiError, match="slide was replaced by another since; remove"):
        run(slide, tmp_path / "a.zarr", region=region)


def test_a_slide_replaced_while_its_run_rests_starts_anew_by_itself(tmp_path):
    class Failing(StubNetwork):
        def forward(self, images):
            if len(self.calls) == 3:
                raise MemoryError
            return super().forward(images)

    def go(name, model, progress=None, **values):
        return segment_slide(
            tmp_path / name,
            tmp_path / "a.zarr",
            settings=build(region=None, batch_size=4, **values),
            model=model,
            progress=progress,
        )

    framed(tmp_path / "t.tif", (180, 60, 120))
    with pytest.raises(WsiError, match="out-of-memory"):
        go("t.tif", make_stub(network=Failing()))
    framed(tmp_path / "u.tif", (60, 60, 160))
    with pytest.raises(WsiError, match="slide was replaced"):
        go("u.tif", make_stub())
    (tmp_path / "u.tif").replace(tmp_path / "t.tif")
    made = go("t.tif", make_stub())
    assert made.attributes["resumed_after_strip"] is None


def test_what_an_older_version_made_is_refused_by_name(painted, tmp_path):
    made = run(painted.path, tmp_path / "a.zarr")
    file = made.zarr / ".zattrs"
    text = json.loads(file.read_text())
    for key in ("run_id", "tissue_sha256"):
        del text["wsi_sampath"][key]
    file.write_text(json.dumps(text))
    with pytest.raises(WsiError, match="made by another version of wsi-segment"):
        run(painted.path, tmp_path / "a.zarr")


def test_a_failure_counts_for_the_same_content_only(tmp_path):
    slide = framed(tmp_path / "t.tif", (180, 60, 120))
    name = mask(tmp_path / "m.png", 100)

    def key(path, **values):
        return attempt_key(Job(path, tmp_path / "a.zarr"), build(**values), make_stub())

    first = key(slide, tissue=name)
    copied = shutil.copy(slide, tmp_path / "copied.tif")
    shutil.copy(name, tmp_path / "n.png")
    assert key(tmp_path / copied, tissue=str(tmp_path / "n.png"), workers=1) == first
    framed(slide, (181, 60, 120))
    assert key(slide, tissue=name) != first
    mask(tmp_path / "n.png", 101)
    assert key(tmp_path / copied, tissue=str(tmp_path / "n.png")) != first
    assert key(tmp_path / "gone.tif") == key(tmp_path / "gone.tif")


def test_a_threshold_of_tissue_decides_only_where_there_is_one():
    assert deciding(SegmentSettings(tissue_threshold=0.02))["tissue_threshold"] == 0.02
    assert "tissue_threshold" not in deciding(SegmentSettings())


def test_what_decides_is_marked_on_the_settings():
    assert set(deciding(SegmentSettings())) == {
        *("mpp", "slide_mpp", "tile", "overlap", "output_mpp", "precision", "region", "polygons"),
        *("probabilities", "min_area_um2", "simplify_um", "zarr_format", "reader"),
        *(
            "min_tissue_um2",
            "max_hole_um2",
            "min_tile_tissue",
            "image",
            "mode",
            "nuclei",
            "grid",
            "own_prompts",
        ),
    }
