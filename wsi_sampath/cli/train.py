"""``wsi-train``: a configuration and labelled patches to one model file."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wsi_sampath.cli.entry import new_app, run
from wsi_sampath.cli.help import Command
from wsi_sampath.errors import UsageError, WsiError

if TYPE_CHECKING:
    from wsi_sampath.training.train import Trained

app = new_app()
_NEEDED = ("lightning", "tensorboard", "torchmetrics")


@app.command(cls=Command)
def train(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="YAML, as in configs/train.")],
    settings: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY=VALUE", help="Over the file: data=DIR out=DIR epochs=3."),
    ] = None,
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
        _tell(trained, chosen.epochs)


def _tell(trained: Trained, epochs: int) -> None:
    result = trained.result
    score = result[trained.score.stored]
    told = "" if score is None else f", {trained.score.title} {score:.4f}"
    kept = f" (kept: {result['kept']})" if "kept" in result else ""
    before = "" if trained.new else "finished before: "
    print(f"{trained.model}: {before}epoch {result['epoch']} of {epochs}{told}{kept}", flush=True)


def _check_installed() -> None:
    lacking = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if lacking:
        raise UsageError(
            f"training needs {', '.join(lacking)}: pip install -e '.[train]' in the clone",
            subject="wsi-train",
        )


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main() -> None:
    """Run the command; every known failure is one line and an exit code."""
    run(app, "wsi-train")


if __name__ == "__main__":
    main()
