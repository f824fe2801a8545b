"""CRAG as released (``train`` and ``valid``, instance masks) to patches of background and gland."""

from __future__ import annotations

from pathlib import Path

from wsi_sampath.data.folds import case_folds
from wsi_sampath.data.grouping import Grouping, read_grouping
from wsi_sampath.data.pairing import pair_up
from wsi_sampath.data.patch_plan import LabelledImage, PatchPlan
from wsi_sampath.data.patches import TEST_FOLD, Patch
from wsi_sampath.data.prepare import whole
from wsi_sampath.errors import UsageError

MPP = 0.5
_TRAIN, _TEST = "train", "valid"


def plan_crag(
    root: Path, out: Path, *, grouping: Grouping | None = None, folds: int = 5, seed: int = 0
) -> PatchPlan:
    """Plan patches from a download of CRAG.

    Its ``valid`` folder is the official test split. Its files do not name patients, so every image
    is its own case, and validation images are drawn from ``train``.

    Parameters
    ----------
    root
        Folder with ``train`` and ``valid``, each with ``Images`` and ``Annotation``.
    out
        Folder to write.
    grouping
        Values of the masks to classes; by default 0 is background, all instances are gland.
    folds, seed
        As in `case_folds`.

    Raises
    ------
    WsiError
        ``bad-input`` for pairs that lack a half.
    """
    pairs = {split: _pairs(root, split) for split in (_TRAIN, _TEST)}
    drawn = case_folds([*pairs[_TRAIN]], folds=folds, seed=seed)
    drawn |= dict.fromkeys(pairs[_TEST], TEST_FOLD)
    chosen = grouping or read_grouping("crag")
    sources: list[LabelledImage] = [
        whole(*files, Patch(name, drawn[name], name), chosen)
        for split in pairs.values()
        for name, files in split.items()
    ]
    return PatchPlan(out, chosen, tuple(sources), MPP)


def _pairs(root: Path, split: str) -> dict[str, tuple[Path, Path]]:
    folders = [root / split / name for name in ("Images", "Annotation")]
    for folder in folders:
        if not folder.is_dir():
            message = f"has no folder {folder.relative_to(root)}; is this the folder of CRAG?"
            raise UsageError(message, subject=str(root))
    found = pair_up([folders[0]], [folders[1]])
    # The release numbers both splits from 1 in names like train_1, but not every copy kept them.
    return {
        name if name.startswith(("train", "test")) else f"{split}_{name}": files
        for name, files in found.items()
    }
