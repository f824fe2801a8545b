"""``python -m wsi_sampath completion``: what makes a shell complete the commands."""

from __future__ import annotations

import os
from enum import Enum
from typing import Annotated

import typer

from wsi_sampath.cli import COMMANDS
from wsi_sampath.cli.entry import completion_variable, new_app, run
from wsi_sampath.cli.help import Command

app = new_app()


class Shell(Enum):
    """Shells that can complete."""

    bash = "bash"
    zsh = "zsh"
    fish = "fish"
    powershell = "powershell"


@app.command(cls=Command)
def completion(
    shell: Annotated[Shell | None, typer.Argument(help="For which shell [yours].")] = None,
) -> None:
    """Print what makes a shell complete the commands, their options and the names of models.

    Into the file that your shell reads at its start: for bash ~/.bashrc, for zsh ~/.zshrc (below
    compinit), for fish ~/.config/fish/config.fish.
    """
    from typer.completion import get_completion_script  # type: ignore[attr-defined]

    name = _own_shell() if shell is None else shell.value
    for command in (f"wsi-{each}" for each in COMMANDS):
        variable = completion_variable(command)
        script = get_completion_script(prog_name=command, complete_var=variable, shell=name)
        print(f"{script.removeprefix(f'#compdef {command}').strip()}\n")


def _own_shell() -> str:
    name = os.path.basename(os.environ.get("SHELL", ""))
    return name if name in {each.value for each in Shell} else Shell.bash.value


def main() -> None:
    """Run the command; every known failure is one line and an exit code."""
    run(app, "python -m wsi_sampath completion")
