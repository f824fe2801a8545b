"""``wsi-train``: a configuration and labelled patches to one model file."""

from __future__ import annotations

import importlib.util
import re
import shutil
import sys
import textwrap
from pathlib import Path
from typing import Annotated, TextIO

import typer

from wsi_sampath.cli.entry import new_app, run
from wsi_sampath.cli.help import Command
from wsi_sampath.errors import UsageError, WsiError
from wsi_sampath.extras import install_hint

app = new_app()
_LABEL = re.compile(r"[a-z ]+: +")
OFTEN = (
    *("model", "weights", "data", "out", "classes", "tile", "mpp", "trainable", "epochs"),
    *("batch_size", "optimiser.learning_rate", "keep", "patience", "precision", "device"),
    *("workers", "seed"),
)
_NEEDED = ("lightning", "tensorboard", "torchmetrics")


def _list_keys(wanted: bool) -> None:
    if wanted:
        from wsi_sampath.cli.keys import print_training_keys

        _check_installed()
        print_training_keys()
        raise typer.Exit


@app.command(cls=Command, epilog=f"Keys most often given: {', '.join(OFTEN)}.")
def train(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="YAML, as in configs/train.")],
    settings: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY=VALUE", help="Over the file: data=DIR out=DIR epochs=3."),
    ] = None,
    _keys: Annotated[
        bool,
        typer.Option(
            "--keys",
            callback=_list_keys,
            is_eager=True,
            help="List all keys with type, default and meaning, and exit.",
        ),
    ] = False,
) -> None:
    """Train a model; the same command resumes where it stopped."""
    _check_installed()
    from wsi_sampath.training.configuration import read_settings
    from wsi_sampath.training.run_folder import is_first_process

    chosen = read_settings(config, settings or [])
    try:
        # Only now: Lightning takes seconds to import, and a misspelt setting should not wait.
        from wsi_sampath.training.train import train as run_training

        trained = run_training(chosen, _say)
    except KeyboardInterrupt:
        message = "stopped by the user; the same command resumes after the last finished epoch"
        raise WsiError("interrupted", message, subject=chosen.out) from None
    if is_first_process():
        from wsi_sampath.training.outcome import closing_lines

        for line in closing_lines(trained, chosen):
            print(_fitted(line, sys.stdout), flush=True)


def _check_installed() -> None:
    lacking = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if lacking:
        raise UsageError(
            f"training needs {', '.join(lacking)}: {install_hint('train')}",
            subject="wsi-train",
        )


def _say(line: str) -> None:
    print(_fitted(line, sys.stderr), file=sys.stderr, flush=True)


def _fitted(line: str, stream: TextIO) -> str:
    """Return a line broken between words to the width of a terminal; as it is anywhere else."""
    if not stream.isatty():
        return line
    label = _LABEL.match(line)
    indent = " " * (len(label[0]) if label else 2)
    # A path or an option that is broken cannot be copied.
    return textwrap.fill(
        line,
        shutil.get_terminal_size().columns,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def main() -> None:
    """Run the command; every known failure is one line and an exit code."""
    run(app, "wsi-train")


if __name__ == "__main__":
    main()
