"""``wsi-evaluate prompts``: how good the answers of models to prompts are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from wsi_sampath.cli.entry import new_app
from wsi_sampath.cli.help import Command
from wsi_sampath.cli.options import with_options
from wsi_sampath.cli.score_file import JsonFile, check_json, save_json
from wsi_sampath.evaluation.settings import PromptScoring
from wsi_sampath.settings import Panel
from wsi_sampath.shown import plural

app = new_app()


@app.command(cls=Command)
@with_options(settings=PromptScoring)
def prompts(
    data: Annotated[Path, typer.Argument(metavar="DATA", help="Folder made by wsi-prepare.")],
    settings: PromptScoring,
    against: Annotated[
        list[str] | None,
        typer.Option(
            metavar="MODEL",
            help="A further model that is asked the same; may be repeated.",
            rich_help_panel=Panel.NETWORK.value,
        ),
    ] = None,
    objects: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CLASS",
            help="A class whose areas are objects; may be repeated [all classes].",
            rich_help_panel=Panel.PATCHES.value,
        ),
    ] = None,
    json_file: JsonFile = None,
) -> None:
    """Ask models for labelled objects by box, points or clicks, and score the masks."""
    check_json(json_file)
    # Imported here: what is wrong is said before torch has been imported.
    from wsi_sampath.evaluation.prompts import score_prompts

    scores = score_prompts(data, settings, against=against or (), objects=objects or ())
    if json_file is not None:
        save_json(json_file, scores)
    for line in _lines(scores):
        print(line)


def _lines(scores: Mapping[str, Any]) -> Iterator[str]:
    yield (
        f"{scores['data']} ({scores['split']}): {plural(scores['objects'], 'object')} "
        f"({scores['object']}) in {plural(scores['patches'], 'patch', 'patches')} "
        f"of {plural(scores['cases'], 'case')}; {scores['protocol']}"
    )
    for kind in next(iter(scores["scores"].values())):
        for name, kinds in scores["scores"].items():
            one = kinds[kind]
            dice, iou = (_with_ci(one, score) for score in ("dice", "iou"))
            yield f"  {kind:10} {name:24} Dice {dice}  IoU {iou}  mSA {one['msa']:.4f}"
        for pair, kinds in scores["differences"].items():
            yield f"  {kind:10} {pair:24} Dice {_with_ci(kinds[kind], 'dice', sign='+')}"
        for data, rows in scores.get("paper", {}).get(kind, {}).items():
            told = ", ".join(f"{name} {dice / 100:.4f}" for name, dice in rows.items())
            yield f"  {kind:10} {'paper, ' + data:24} Dice {told}"


def _with_ci(score: Mapping[str, Any], name: str, sign: str = "") -> str:
    value, interval = score[name], score[f"{name}_ci"]
    ends = f" [{interval[0]:{sign}.4f}, {interval[1]:{sign}.4f}]" if interval else ""
    return f"{value:{sign}.4f}{ends}"
