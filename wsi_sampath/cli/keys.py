"""The keys of training configurations and of model specifications, on the screen and in docs.

``python -m wsi_sampath.cli.keys docs`` writes ``training-keys.md``, ``model-keys.md`` and, of the
options of all commands, ``options.md``.
"""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from wsi_sampath.keys import Key, grouped

Groups = Mapping[str, Sequence[Key]]
_WIDEST = 100
_TRAINING = (
    "The keys of a training's YAML file, each of which `wsi-train CONFIG KEY=VALUE` sets as well. "
    "A file may name another as its `base`, and then states only what differs."
)
_MODEL = (
    "The keys of a model's specification, a YAML file as in configs/models. Unknown keys are "
    "refused with the nearest known one."
)
_MADE = "<!-- Made from the fields of the settings by `make keys`; do not edit. -->"


def training_keys() -> dict[str, list[Key]]:
    """Return the keys of every kind of training."""
    from wsi_sampath.training.configuration import KINDS

    return grouped(KINDS, "Every training")


def model_keys() -> dict[str, list[Key]]:
    """Return the keys of every kind of network."""
    from wsi_sampath.models.parse import KINDS

    kinds = {f"architecture: {name}": kind for name, kind in KINDS.items()}
    return grouped(kinds, "Every model (keys of a block: where there is one)")


def print_training_keys() -> None:
    """Print the keys of trainings, as wide as the terminal."""
    _print(_TRAINING, training_keys(), "=")


def print_model_keys() -> None:
    """Print the keys of specifications, as wide as the terminal."""
    _print(_MODEL, model_keys(), ": ")


def write_docs(folder: Path) -> None:
    """Write ``training-keys.md``, ``model-keys.md`` and ``options.md``."""
    from wsi_sampath.cli.option_tables import options_page

    pages = {
        "training-keys.md": ("The keys of a training", _TRAINING, training_keys()),
        "model-keys.md": ("The keys of a model specification", _MODEL, model_keys()),
    }
    texts = {name: "\n".join(_markdown(*page)) for name, page in pages.items()}
    texts["options.md"] = "\n".join([_MADE, *options_page()])
    for name, text in texts.items():
        (folder / name).write_text(f"{text}\n", encoding="utf-8")


def _print(intro: str, groups: Groups, sets: str) -> None:
    width = min(shutil.get_terminal_size().columns, _WIDEST)
    print(textwrap.fill(intro.replace("`", ""), width))
    for title, keys in groups.items():
        print(f"\n{title}")
        for key in keys:
            print(_entry(key, sets, width))


def _entry(key: Key, sets: str, width: int) -> str:
    value = "..." if key.default is None else key.default
    told = key.type if key.default is not None else f"{key.type}; must be given"
    head = f"{key.name}{sets}{value}".rstrip() if value else key.name
    lines = textwrap.wrap(
        f"{head}  ({told})",
        width,
        initial_indent="  ",
        subsequent_indent="      ",
        break_on_hyphens=False,
    )
    text = textwrap.wrap(key.help, width, initial_indent="      ", subsequent_indent="      ")
    return "\n".join([*lines, *text])


def _markdown(title: str, intro: str, groups: Groups) -> Iterator[str]:
    yield from (_MADE, f"# {title}", "", intro)
    for heading, keys in groups.items():
        yield from ("", f"## {heading}", "")
        yield from ("| key | type | default | what it is |", "| --- | --- | --- | --- |")
        for key in keys:
            default = {None: "must be given", "": ""}.get(key.default, f"`{key.default}`")
            yield f"| `{key.name}` | {key.type} | {default} | {key.help} |"


if __name__ == "__main__":
    write_docs(Path(sys.argv[1]))
