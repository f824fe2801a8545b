"""A run is known by the content of its files and the settings that decide, never by names."""

from __future__ import annotations

import os
import shutil
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from stub_network import make_stub

from wsi_sampath.errors import WsiError
from wsi_sampath.inference.durable.identity import check_same, identity, is_replaced_slide, is_same
from wsi_sampath.inference.instances.settings import NucleusSettings
from wsi_sampath.inference.prompted.settings import GridSettings, OwnPromptSettings
from wsi_sampath.inference.settings import SegmentSettings
from wsi_sampath.models.network import LoadedModel
from wsi_sampath.slides.slide import Slide

# Values of every setting, the first as in `PLAIN`; those of one row give the same result.
DECIDES = {
    "mpp": [None, 0.5],
    "tile": [None, 256],
    "overlap": [None, 32],
    "output_mpp": [None, 4.0],
    "min_tissue_um2": [8_000.0, 1.0],
    "max_hole_um2": [10_000.0, 1.0],
    "tissue_threshold": [None, 0.02],
    "region": [None, (0, 0, 64, 64), (0, 0, 64, 65)],
    "polygons": [True, False],
    "probabilities": [True, False],
    "min_area_um2": [0.0, 5.0],
    "simplify_um": [0.0, 0.5],
    "zarr_format": [2, 3],
    "min_tile_tissue": [0.1, 0.0],
    "image": [None, 0],
    "precision": ["fp32", "bf16"],
}
DECIDES_NOTHING = {
    "model": ["gland-mini", "./gland-mini", "other.safetensors"],
    "weights": [None, "w.safetensors"],
    "allow_random_weights": [False, True],
    "batch_size": ["auto", 3],
    "workers": [4, 1],
    "device": ["cpu"],
    "compile": [False, True],
    "geojson": [None, "x.geojson"],
    "max_bad_tiles": [0.01, 0.5],
    "report": [True, False],
    "overlay": [False, True],
    "force": [False, True],
    # What was read and by whom is of the open slide, whatever was asked for.
    "slide_mpp": [None, (0.5, 0.5)],
    "reader": ["auto", "tiff"],
    # How nuclei are found, with a model that finds none.
    "existing": [None],
    "mode": ["ais", "apg", "amg"],
    "nuclei": [NucleusSettings(), NucleusSettings(min_size_px=9)],
    "grid": [GridSettings(), GridSettings(min_stability=0.6)],
    "own_prompts": [OwnPromptSettings(), OwnPromptSettings(refine_by_box=True)],
}
PLAIN = {name: values[0] for name, values in {**DECIDES, **DECIDES_NOTHING}.items()}
N_MASKS, N_SLIDES = 2, 2


def test_every_setting_is_said_to_decide_or_not():
    assert {*PLAIN, "tissue"} == set(SegmentSettings.model_fields)


def otherwise(path: Path) -> list[str]:
    """Spell a path in other ways."""
    return [str(path), f"{path.parent}/./{path.name}", os.path.relpath(path)]


def write_slide(path: Path, seed: int) -> Path:
    pixels = np.random.default_rng(seed).integers(0, 255, (256, 256, 3), np.uint8)
    resolution = {"resolution": (20000, 20000), "resolutionunit": "CENTIMETER"}
    tifffile.imwrite(path, pixels, tile=(128, 128), photometric="rgb", metadata=None, **resolution)
    return path


@dataclass(frozen=True)
class Files:
    """Open slides by content and name, and masks that may be written to."""

    folder: Path
    slides: list[list[Slide]]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("identity")
    (folder / "mount").mkdir()
    (folder / "masks").mkdir()
    with ExitStack() as opened:
        slides = []
        for number in range(N_SLIDES):
            slide = write_slide(folder / f"s{number}.tif", number)
            moved = shutil.copy(slide, folder / "mount" / f"renamed-{number}.tif")
            (folder / f"link-{number}.tif").symlink_to(slide)
            names = [*otherwise(slide), *otherwise(moved), folder / f"link-{number}.tif"]
            slides.append([opened.enter_context(Slide.open(name)) for name in names])
        yield Files(folder, slides)


class IdentityMachine(RuleBasedStateMachine):
    """Change contents and names in any order; `content` is all that may count."""

    def __init__(self, files: Files) -> None:
        super().__init__()
        self.files = files
        self.settings = dict(PLAIN)
        self.mask: str | None = None
        self.content = {"slide": 0, "mask": None, "weights": "0" * 64, "spec": "{}"}
        self.slide = files.slides[0][0]
        self.named = {"name": "stub", "description": ""}
        self.spec: dict[str, float] = {}
        self.source = "stub"
        self.ids: dict[str, str] = {}
        self.last: tuple[str, dict] | None = None

    @rule(data=st.data())
    def set_what_decides(self, data) -> None:
        name = data.draw(st.sampled_from(sorted(DECIDES)))
        self.settings[name] = data.draw(st.sampled_from(DECIDES[name]))

    @rule(data=st.data())
    def set_what_decides_nothing(self, data) -> None:
        name = data.draw(st.sampled_from(sorted(DECIDES_NOTHING)))
        self.settings[name] = data.draw(st.sampled_from(DECIDES_NOTHING[name]))

    @rule(number=st.integers(0, N_SLIDES - 1))
    def take_another_slide(self, number: int) -> None:
        self.content["slide"] = number
        self.slide = self.files.slides[number][0]

    @rule(data=st.data())
    def spell_the_slide_otherwise(self, data) -> None:
        self.slide = data.draw(st.sampled_from(self.files.slides[self.content["slide"]]))

    @rule(kind=st.sampled_from(["otsu", "none"]))
    def use_no_mask(self, kind: str) -> None:
        self.mask, self.content["mask"] = None, kind

    @rule(data=st.data(), number=st.integers(0, N_MASKS - 1))
    def write_a_mask(self, data, number: int) -> None:
        name = data.draw(st.sampled_from(["a.png", "b.png"]))
        file = self.files.folder / "masks" / name
        file.write_bytes(b"mask" * 50 + bytes([number]))
        self.mask = data.draw(st.sampled_from(otherwise(file)))
        self.content["mask"] = f"file {number}"

    @rule(number=st.integers(0, 1))
    def load_weights(self, number: int) -> None:
        self.content["weights"] = str(number) * 64

    @rule(mpp=st.sampled_from([None, 0.4]))
    def edit_the_specification(self, mpp: float | None) -> None:
        self.spec = {} if mpp is None else {"mpp": mpp}
        self.content["spec"] = str(self.spec)

    @rule(source=st.sampled_from(["stub", "./stub", "/mnt/x"]), name=st.text(max_size=3))
    def call_the_model_otherwise(self, source: str, name: str) -> None:
        self.source, self.named = source, {"name": f"m{name}", "description": name}

    def identity(self) -> dict:
        stub = make_stub()
        spec = stub.spec.model_copy(update={**self.named, **self.spec})
        model = LoadedModel(stub.module, spec, self.content["weights"], self.source)
        tissue = self.mask or self.content["mask"] or "otsu"
        values = {**self.settings, "tissue": tissue}
        return identity(self.slide, model, SegmentSettings.build(values))

    @invariant()
    def runs_are_the_same_where_all_that_decides_is(self) -> None:
        deciding = {name: self.settings[name] for name in DECIDES}
        content = {**self.content, "mask": self.content["mask"] or "otsu"}
        key, now = str([content, sorted(deciding.items())]), self.identity()
        assert self.ids.setdefault(key, now["run_id"]) == now["run_id"]
        assert len(set(self.ids.values())) == len(self.ids)
        if self.last is not None:
            self.compare(*self.last, key, now)
        self.last = key, now

    def compare(self, key: str, before: dict, key_now: str, now: dict) -> None:
        assert is_same(before, now) == (key == key_now)
        if is_same(before, now):
            check_same(before, now, subject="a.zarr")
            return
        with pytest.raises(WsiError) as caught:
            check_same(before, now, subject="a.zarr")
        assert caught.value.reason == "bad-input"
        replaced = before["slide"]["fingerprint"] != now["slide"]["fingerprint"]
        same_name = before["slide"]["name"] == now["slide"]["name"]
        assert is_replaced_slide(before, now) == (replaced and same_name)


def test_identity_is_content(files):
    run_state_machine_as_test(
        lambda: IdentityMachine(files),
        settings=hypothesis_settings(max_examples=40, stateful_step_count=25, deadline=None),
    )


@pytest.mark.parametrize("before", [{}, {"version": "0.1"}, {"settings": 3}, {"slide": "s"}])
def test_a_damaged_record_is_the_record_of_no_run(files, before):
    model, settings = make_stub(), SegmentSettings.build(PLAIN)
    now = identity(files.slides[0][0], model, settings)
    assert not is_same(before, now)
    assert not is_replaced_slide(before, now)
    with pytest.raises(WsiError, match="another version"):
        check_same(before, now, subject="a.zarr")
