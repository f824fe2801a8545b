"""Which mask belongs to which image: by name, below two folders."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from wsi_sampath.errors import UsageError, WsiError
from wsi_sampath.training.datasets import several

SOURCE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")


def pair_up(
    images: Sequence[Path], masks: Sequence[Path], mask_suffix: str = ""
) -> dict[str, tuple[Path, Path]]:
    """Return image and mask by id: the name, with the folders below (and, for several, above).

    Raises
    ------
    WsiError
        ``bad-input`` naming what has no partner, or more than one.
    """
    tops = [folder.resolve() for folder in images]
    for folder in (*images, *masks):
        if not folder.is_dir():
            raise UsageError("there is no such folder", subject=str(folder))
    pairs: dict[str, tuple[Path, Path]] = {}
    for top, image_folder, mask_folder in zip(tops, images, masks, strict=True):
        prefix = "" if len(tops) == 1 else f"{_told_apart(top, tops)}__"
        found = _by_name(mask_folder, mask_suffix)
        pictures = _by_name(image_folder, "")
        if mask_suffix and image_folder.resolve() == mask_folder.resolve():
            pictures = {k: v for k, v in pictures.items() if not k.endswith(mask_suffix)}
        _check_pairs(image_folder, pictures, found)
        pairs |= {prefix + name: (pictures[name], found[name]) for name in sorted(pictures)}
    return pairs


def _by_name(folder: Path, suffix: str) -> dict[str, Path]:
    files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SOURCE_SUFFIXES)
    found: dict[str, Path] = {}
    for path in files:
        name = "__".join(path.relative_to(folder).with_suffix("").parts)
        if not name.endswith(suffix):
            continue
        name = name.removesuffix(suffix)
        if name in found:
            message = f"has the name of {found[name].name}; keep one of them"
            raise WsiError("bad-input", message, subject=str(path))
        found[name] = path
    return found


def _check_pairs(folder: Path, images: dict[str, Path], masks: dict[str, Path]) -> None:
    alone = sorted(images.keys() - masks.keys())
    if alone:
        message = f"no mask for {several([images[one].name for one in alone])}"
        raise WsiError("bad-input", message, subject=str(folder))
    spare = sorted(masks.keys() - images.keys())
    if spare:
        message = f"no image for mask {several([masks[one].name for one in spare])}"
        raise WsiError("bad-input", message, subject=str(folder))
    if not images:
        kinds = ", ".join(SOURCE_SUFFIXES)
        raise WsiError("bad-input", f"holds no image ({kinds})", subject=str(folder))


def _told_apart(top: Path, tops: Sequence[Path]) -> str:
    """Return the parts of a path that not all of `tops` have."""
    shared = set(tops[0].parts).intersection(*(one.parts for one in tops))
    return "__".join(part for part in top.parts if part not in shared)
