from __future__ import annotations

from pathlib import Path

import pytest

from wsi_sampath.classes import ClassSpec
from wsi_sampath.data.patches import Patch, PatchSet
from wsi_sampath.training.base_task import MACRO_DICE
from wsi_sampath.training.outcome import Trained, closing_lines
from wsi_sampath.training.prompts.settings import PromptTrainSettings
from wsi_sampath.training.settings import TrainSettings

GIVEN = {"model": "m.yaml", "data": "my data", "out": "runs/mine", "epochs": 9, "patience": 3}


def told(
    *folds: int,
    mpp: float | None = 1.0,
    settings: object = None,
    new: bool = True,
    **result: object,
) -> dict[str, str]:
    patches = tuple(Patch(f"i{n}", fold, f"c{n}") for n, fold in enumerate(folds))
    root = Path("my data")
    trained = Trained(
        Path("runs/mine/model.safetensors"),
        {"epoch": 2, "epochs": 9, "validation_macro_dice": None, **result},
        MACRO_DICE,
        PatchSet(root, (ClassSpec(name="gland", color="#112233"),), mpp, patches),
        new,
    )
    lines = closing_lines(trained, settings or TrainSettings(**GIVEN))
    return {name: text.strip() for name, _, text in (line.partition(":") for line in lines)}


@pytest.mark.parametrize(
    ("result", "kept"),
    [
        (
            {"validation_macro_dice": 0.81, "last_validation_macro_dice": 0.79},
            "epoch 2 of 9: best validation macro Dice 0.8100; the last one had 0.7900",
        ),
        (
            {"validation_macro_dice": 0.81, "last_validation_macro_dice": 0.79, "epochs": 5},
            "epoch 2 of 5: best validation macro Dice 0.8100; the last one had 0.7900; stopped "
            "before epoch 9, after 3 validations without a better",
        ),
        # Written before there was a last score.
        ({"validation_macro_dice": 0.81}, "epoch 2 of 9: best validation macro Dice 0.8100"),
        (
            {"epoch": 9, "last_validation_macro_dice": 0.79},
            "epoch 9 of 9: the last one, as the settings want; validation macro Dice 0.7900",
        ),
    ],
)
def test_what_is_kept_and_why(result, kept):
    assert told(1, 0, -1, **result)["kept"] == kept


def test_the_commands_can_be_copied():
    said = told(1, 0, -1)
    assert said["try it"] == (
        "wsi-segment SLIDE --out out.zarr --model runs/mine/model.safetensors"
    )
    assert said["score it"] == "wsi-evaluate 'my data' --model runs/mine/model.safetensors"


def test_patches_of_unknown_size_are_scored_as_training_saw_them():
    assert told(1, 0, -1, mpp=None)["score it"].endswith("model.safetensors --stretch")


def test_without_a_test_split_the_validation_split_is_scored_and_said_to_flatter():
    assert "--split validation (flatters" in told(1, 0)["score it"]
    assert "the test and the validation split are empty" in told(1)["score it"]


def test_what_answers_prompts_is_prompted():
    settings = PromptTrainSettings(**GIVEN, objective="prompts", objects=("tumor",))
    said = told(1, 0, -1, settings=settings)
    assert said["try it"].startswith("wsi-prompt SLIDE --prompts PROMPTS.geojson --out ")
    assert said["score it"].startswith("wsi-evaluate prompts 'my data' --model ")
    assert said["score it"].endswith(" --objects tumor")


def test_a_finished_training_says_so_and_lists_no_new_files():
    said = told(1, 0, -1, new=False)
    assert said["finished before"].startswith("runs/mine/model.safetensors; nothing is trained")
    assert "beside" not in said
