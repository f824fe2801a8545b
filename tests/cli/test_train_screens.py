"""What a person sees of a training, as golden text; see `terminal`."""

from __future__ import annotations

import re
from types import SimpleNamespace

import pytest
from command_line import ended
from terminal import WIDTHS, check_screen, on_terminal
from training_stub import paint_patches, write_config

from wsi_sampath.cli import train
from wsi_sampath.training import live

# The last digits may differ from machine to machine.
_FIGURE = re.compile(r"(?<=[ :]0\.)\d+")


@pytest.mark.parametrize("width", WIDTHS)
def test_a_training_and_the_same_again(tmp_path, monkeypatch, width):
    paint_patches(tmp_path / "patches")
    write_config(tmp_path, epochs=2)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(live, "format_duration", lambda _: "6.2 s")
    words = ("wsi-train", "train.yaml", "data=patches", "out=runs/mine", "name=mine")
    for name in ("training", "training-again"):
        with on_terminal(monkeypatch, width) as terminal:
            assert ended(monkeypatch, train.main, *words) == 0
        check_screen(name, width, _FIGURE.sub(lambda found: "#" * len(found[0]), terminal.text()))


def test_the_bar_counts_all_batches_and_goes_when_it_has_ended(monkeypatch):
    trainer = SimpleNamespace(
        is_global_zero=True, current_epoch=1, max_epochs=3, num_training_batches=4
    )
    with on_terminal(monkeypatch, 80) as terminal:
        bar = live.Bar()
        bar.on_train_start(trainer, None)
        bar.on_train_batch_end(trainer, None, None, None, 0)
        bar.on_validation_epoch_start(trainer, None)
        bar._bar.refresh()
        shown = terminal.text()
        bar.on_train_end(trainer, None)
    assert shown.startswith("epoch 2 of 3, validation ")
    # The epoch before a resume counts as well.
    assert " 5/12 batches " in shown
    assert terminal.text().strip() == ""
