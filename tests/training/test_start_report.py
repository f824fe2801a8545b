from __future__ import annotations

import pytest
from training_stub import paint_patches, write_config

from wsi_sampath.data.patches import open_patches, write_classes
from wsi_sampath.training.configuration import read_settings
from wsi_sampath.training.initial_weights import spec_for
from wsi_sampath.training.start_report import scale_doubt


def doubt(tmp_path, *words, side=64, mpp=None):
    root = paint_patches(tmp_path / "data", side=side)
    if mpp is not None:
        write_classes(root, open_patches(root).classes, mpp)
    patches = open_patches(root)
    settings = read_settings(write_config(tmp_path), [f"data={root}", "out=o", *words])
    return scale_doubt(settings, patches, spec_for(settings, patches))


def test_an_unknown_pixel_size_is_said_on_screen_and_in_the_models_credits(tmp_path):
    found = doubt(tmp_path)
    assert (
        "the pixel size of the patches is unknown; slides would be read at the 1 um" in found.line
    )
    assert "give mpp=um per pixel of the patches, or prepare them with --mpp" in found.line
    assert found.credit == "pixel size unknown, 1 um per pixel assumed"


@pytest.mark.parametrize(
    ("side", "words", "factor"), [(128, "squeezed", "2"), (32, "enlarged", "0.5")]
)
def test_stretched_patches_of_unknown_pixel_size_are_said_with_the_factor(
    tmp_path, side, words, factor
):
    # The painted discs need some room.
    found = doubt(tmp_path, side=side)
    assert f"patches of {side} x {side} px are {words} into 64 px" in found.line
    assert f"give mpp={factor} times the um per pixel of the patches" in found.line


def test_a_known_scale_that_fits_is_not_doubted(tmp_path):
    assert doubt(tmp_path, mpp=1.05) is None


def test_a_scale_on_the_users_word_is_not_doubted(tmp_path):
    assert doubt(tmp_path, "mpp=2") is None


def test_another_scale_than_the_models_names_what_mends_it(tmp_path):
    found = doubt(tmp_path, side=128, mpp=1.4)
    assert found.line.endswith("read at the model's 1; mpp=2.8 mends that")
    assert found.credit == "trained at 2.8 um per pixel, not the 1 of the model"
