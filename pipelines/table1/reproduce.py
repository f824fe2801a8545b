"""Table 1 and Figure 4 of the SAM-Path paper: ``python -m pipelines.table1.reproduce DATA``.

DATA holds the folders ``bcss`` and ``crag`` that ``wsi-prepare`` made. Every row is trained from
its file in ``configs/train`` and scored on the test split; vanilla SAM is scored without training.
A finished row has its file in ``OUT/rows`` and is not run again; an interrupted one resumes. At the
end the table is printed beside the paper's figures, published and corrected.

    python -m pipelines.table1.reproduce DATA --out table1
    python -m pipelines.table1.reproduce DATA --out table1 --rows crag-sam-path --set devices=2
    python -m pipelines.table1.reproduce DATA --out try --small       # minutes on a CPU, no weights
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch

from pipelines.table1.scoring import count_stretched
from wsi_sampath.data.patches import PatchSet, open_patches
from wsi_sampath.errors import UsageError, WsiError
from wsi_sampath.evaluation.scores import summarise
from wsi_sampath.evaluation.vanilla import evaluate_vanilla
from wsi_sampath.models.checkpoints import load_checkpoint
from wsi_sampath.models.parse import spec_from_yaml
from wsi_sampath.models.parts.specs import DecoderSpec, PathologySpec, SamSpec, VitSpec
from wsi_sampath.models.published.download import weights_file
from wsi_sampath.models.sam import Sam
from wsi_sampath.models.sam_path.importing import load_sam
from wsi_sampath.models.sam_path.network import SamPath
from wsi_sampath.models.sam_path.spec import SamPathSpec
from wsi_sampath.training.configuration import read_settings
from wsi_sampath.training.loader import PatchReader, label_table
from wsi_sampath.training.run_folder import read_json, write_json
from wsi_sampath.training.settings import TrainSettings
from wsi_sampath.training.train import train

CONFIGS = Path(__file__).parents[2] / "configs"
SMALL_TILE = 128
SMALL_SAM = SamSpec(embed_dim=32, depth=2, num_heads=2, global_attn_indexes=(1,), window_size=4)
SMALL_VIT = VitSpec(embed_dim=24, depth=2, num_heads=2, position_grid=8)
SMALL_DECODER = DecoderSpec(dim=32, depth=2, num_heads=4, mlp_dim=64)
SMALL_SETTINGS = (
    *("weights=null", "allow_random_weights=true", "trainable=all", "workers=0", "pictures=2"),
    *("epochs=2", "batch_size=4", "accumulate=1"),
    "optimiser={learning_rate: 2.0e-3, warm_up: 2, drops: [], gradient_clip: 1}",
)


@dataclass(frozen=True)
class Row:
    """A row of the table.

    Attributes
    ----------
    name
        Stem of its files.
    data
        ``bcss`` or ``crag``.
    what
        What the paper calls it.
    dice, iou
        The paper's figures, None where it has none.
    true_iou
        What its IoU must be, given its Dice; only where its own is none.
    """

    name: str
    data: str
    what: str
    dice: float | None = None
    iou: float | None = None
    true_iou: float | None = None


VANILLA, CLEANED = "vanilla SAM", "vanilla SAM + post-processing"
# The paper's IoU of the trained rows of CRAG is the recall of gland. BCSS without F_p is worked out
# from its relative improvements (5.12 % in Dice, 8.48 % in IoU).
TABLE = (
    Row("bcss-vanilla", "bcss", VANILLA),
    Row("bcss-vanilla-cleaned", "bcss", CLEANED),
    Row("bcss-without-pathology", "bcss", "SAM-Path w/o F_p", 0.7562, 0.6080),
    Row("bcss-without-sam", "bcss", "SAM-Path w/o F_s"),
    Row("bcss-sam-path", "bcss", "SAM-Path", 0.7949, 0.6596),
    Row("crag-vanilla", "crag", VANILLA, 0.5245, 0.3555, 0.3555),
    Row("crag-vanilla-cleaned", "crag", CLEANED, 0.6598, 0.4923, 0.4923),
    Row("crag-without-pathology", "crag", "SAM-Path w/o F_p", 0.8414, 0.8451, 0.7262),
    Row("crag-without-sam", "crag", "SAM-Path w/o F_s", 0.8191, 0.8252, 0.6936),
    Row("crag-sam-path", "crag", "SAM-Path", 0.8841, 0.8831, 0.7923),
)


@dataclass(frozen=True)
class Study:
    """Where the study reads and writes, and how large it is."""

    data: Path
    out: Path
    small: bool
    sam: str
    overrides: tuple[str, ...]

    def result(self, row: Row) -> Path:
        """Return the file of a finished row."""
        return self.out / "rows" / f"{row.name}.json"

    def patches(self, row: Row) -> PatchSet:
        """Open the data of a row."""
        return open_patches(self.data / row.data)


def all_rows() -> list[Row]:
    """Return the rows of Table 1 and, after them, those of Figure 4."""
    sweeps = sorted((CONFIGS / "train" / "sweeps").glob("*.yaml"))
    return [*TABLE, *(Row(p.stem, p.stem.split("-")[0], _sweep(p.stem)) for p in sweeps)]


def _sweep(name: str) -> str:
    _, parameter, value = name.split("-")
    return f"SAM-Path, {parameter} = {value}"


def settings_of(study: Study, row: Row) -> TrainSettings:
    """Return the settings of a row that is trained."""
    found = [*(CONFIGS / "train").rglob(f"{row.name}.yaml")]
    overrides = [f"data={study.data / row.data}", f"out={study.out / 'runs' / row.name}"]
    plain = cast(TrainSettings, read_settings(found[0], overrides))
    if study.small:
        model = study.out / "models" / Path(plain.model).name
        model.parent.mkdir(parents=True, exist_ok=True)
        small_model(cast(SamPathSpec, spec_from_yaml(plain.model))).to_yaml(model)
        side = "null" if plain.side is None else str(SMALL_TILE * 3 // 2)
        overrides += [f"model={model}", f"side={side}", *SMALL_SETTINGS]
    else:
        overrides.append(f"weights.sam={study.sam}")
    return cast(TrainSettings, read_settings(found[0], [*overrides, *study.overrides]))


def small_model(spec: SamPathSpec) -> SamPathSpec:
    """Return the same architecture with encoders, decoder and tile small enough to try it."""
    pathology = None if spec.pathology is None else PathologySpec(encoder=SMALL_VIT)
    return spec.model_copy(
        update={
            "tile": SMALL_TILE,
            "mpp": spec.mpp * spec.tile / SMALL_TILE,
            "sam": spec.sam and SMALL_SAM,
            "pathology": pathology,
            "decoder": SMALL_DECODER,
        }
    )


def run_trained(study: Study, row: Row) -> None:
    """Train a row and score it on the test split."""
    settings = settings_of(study, row)
    trained = train(settings, lambda line: print(f"  {line}", file=sys.stderr, flush=True))
    model = cast(SamPath, load_checkpoint(trained.model))
    patches = study.patches(row)
    side = settings.side or model.spec.tile
    read = PatchReader(patches, label_table(model.spec, patches), side)
    test = patches.split("test")
    counts = count_stretched(
        model, read, test, device=_device(settings.device), batch_size=settings.batch_size
    )
    names = [spec.name for spec in model.spec.classes]
    scores = summarise([*counts], [patch.case for patch in test], names)
    write_json(study.result(row), {"row": row.name, "training": trained.result, **scores})


def run_vanilla(study: Study, row: Row) -> None:
    """Score vanilla SAM, which makes two rows at once: as it answers, and post-processed."""
    patches = study.patches(row)
    test = patches.split("test")
    sam = _small_sam() if study.small else load_sam(weights_file(study.sam))
    found = [*evaluate_vanilla(sam.to(_device("auto")), patches, test)]
    names = [spec.name for spec in patches.classes]
    rows = [other for other in TABLE if other.data == row.data and other.what in (VANILLA, CLEANED)]
    for baseline, counts in zip(rows, zip(*found, strict=True), strict=True):
        scores = summarise(counts, [patch.case for patch in test], names)
        write_json(study.result(baseline), {"row": baseline.name, **scores})


def _small_sam() -> Sam:
    torch.manual_seed(0)
    return Sam(SMALL_SAM, SMALL_TILE).eval()


def _device(name: str) -> str:
    if name != "auto":
        return name
    return "cuda" if torch.cuda.is_available() else "cpu"


def run(study: Study, rows: Sequence[Row]) -> list[WsiError]:
    """Run the rows that are not finished; return what went wrong with some of them."""
    (study.out / "rows").mkdir(parents=True, exist_ok=True)
    failed = []
    for row in rows:
        if study.result(row).is_file():
            continue
        print(f"{row.name}:", file=sys.stderr, flush=True)
        try:
            (run_vanilla if row.what in (VANILLA, CLEANED) else run_trained)(study, row)
        except WsiError as error:
            print(f"  {error.line()}", file=sys.stderr, flush=True)
            failed.append(error)
    return failed


def table(study: Study, rows: Sequence[Row]) -> Iterator[str]:
    """Return the lines of the table: what was found here, and the paper's in brackets."""
    yield (
        f"{'data':5} {'row':30} {'Dice [paper]':>17} {'IoU [paper]':>17} "
        f"{'true IoU [corrected]':>21} {'macro Dice':>10}"
    )
    for row in rows:
        path = study.result(row)
        dice, iou, true, macro = _figures(row, read_json(path)) if path.is_file() else [None] * 4
        yield (
            f"{row.data:5} {row.what:30} {_beside(dice, row.dice):>17} {_beside(iou, row.iou):>17} "
            f"{_beside(true, row.true_iou):>21} {_number(macro):>10}"
        )
    yield ""
    yield "Dice and IoU as the paper's code computes them. BCSS: both are pixel accuracy (a and"
    yield "a / (2 - a)), true IoU is the mean over classes. CRAG: Dice of gland; the IoU of trained"
    yield "rows is the recall of gland, and the corrected one follows from the paper's Dice."
    if study.small:
        yield "Small, untrained encoders and short trainings: figures without meaning."


def _figures(row: Row, scores: dict[str, Any]) -> list[float | None]:
    paper = scores["paper"]
    macro = scores["macro"]
    gland = scores["per_class"].get("gland")
    true = macro["iou"] if gland is None else gland["iou"]
    vanilla = row.what in (VANILLA, CLEANED) and gland is not None
    iou = true if vanilla else paper["IOU_Jaccard"]["value"]
    return [paper["Dice"]["value"], iou, true, macro["dice"]]


def _beside(found: float | None, published: float | None) -> str:
    return f"{_number(found)} [{_number(published)}]"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, help="folder with bcss and crag, as wsi-prepare made")
    parser.add_argument("--out", type=Path, default=Path("table1"))
    parser.add_argument("--rows", nargs="+", metavar="ROW", help="only these [those of Table 1]")
    parser.add_argument("--sweeps", action="store_true", help="those of Figure 4, too")
    parser.add_argument("--small", action="store_true", help="small random encoders, two epochs")
    parser.add_argument("--sam", default="sam-vit-b", help="SAM's .pth, or a fetched name")
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", dest="overrides")
    return parser.parse_args(words)


def chosen_rows(names: Sequence[str] | None, data: Path, *, sweeps: bool) -> list[Row]:
    """Return the rows to run: named ones, or those whose data is there."""
    known = {row.name: row for row in all_rows()}
    unknown = [name for name in names or () if name not in known]
    if unknown:
        raise UsageError(f"no row {unknown[0]!r}; known: {', '.join(known)}")
    if names:
        return [known[name] for name in names]
    rows = [*known.values()] if sweeps else [*TABLE]
    there = [row for row in rows if (data / row.data).is_dir()]
    if not there:
        raise UsageError("has neither a folder bcss nor crag (see wsi-prepare)", subject=str(data))
    return there


def main(words: Sequence[str] | None = None) -> int:
    """Run the study; return its exit code."""
    options = arguments(words)
    study = Study(options.data, options.out, options.small, options.sam, tuple(options.overrides))
    try:
        rows = chosen_rows(options.rows, study.data, sweeps=options.sweeps)
    except WsiError as error:
        print(error.line(), file=sys.stderr)
        return 2
    failed = run(study, rows)
    print("\n".join(table(study, rows)))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
