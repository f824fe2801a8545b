"""Which mask belongs to which image: by name, below two folders."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import permutations
from os.path import commonprefix
from pathlib import Path
from unicodedata import normalize

from wsi_sampath.data.patches import several
from wsi_sampath.errors import UsageError, WsiError

SOURCE_SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".gif", ".webp", ".jp2", ".jfif", ".pgm"),
    ".ppm",
)
_UNREAD_SUFFIXES = (
    *(".npy", ".npz", ".mat", ".heic", ".heif", ".psd", ".xcf", ".dcm", ".nii", ".exr", ".jpe"),
    *(".jxl", ".j2k"),
)
"""Formats that people also keep images and masks in."""


def pair_up(
    images: Sequence[Path],
    masks: Sequence[Path],
    mask_suffix: str = "",
    *,
    kinds: Sequence[str] = SOURCE_SUFFIXES,
    what: str = "mask",
) -> dict[str, tuple[Path, Path]]:
    """Return image and mask by id: the name with the folders below (and, for several, above) it.

    Parameters
    ----------
    images, masks
        Folders; the first of `images` belongs to the first of `masks`.
    mask_suffix
        What the names of masks append to those of images.
    kinds
        Suffixes of the files that are masks.
    what
        What messages call a mask.

    Raises
    ------
    WsiError
        ``bad-input``, naming files with no partner or more than one.
    UsageError
        For folders that are missing, overlap, or hold both images and masks.
    """
    for folder in (*images, *masks):
        if not folder.is_dir():
            raise UsageError("there is no such folder", subject=str(folder))
    _check_apart(images)
    pairs: dict[str, tuple[Path, Path]] = {}
    for prefix, image_folder, mask_folder in zip(_prefixes(images), images, masks, strict=True):
        pictures, found = _read_folders(image_folder, mask_folder, mask_suffix, kinds)
        _check_pairs(image_folder, pictures, found, what)
        here = {prefix + name: (pictures[name], found[name]) for name in sorted(pictures)}
        twice = sorted(pairs.keys() & here.keys())
        if twice:
            message = f"{several(twice)} would be the names of two images; rename the folder"
            raise WsiError("bad-input", message, subject=str(image_folder))
        pairs |= here
    return pairs


def check_out(out: Path, folders: Sequence[Path]) -> None:
    """Refuse to write among the sources, where the next run would find what this one wrote.

    Raises
    ------
    UsageError
        If `out` is one of the folders, or below.
    """
    for folder in folders:
        if out.resolve().is_relative_to(folder.resolve()):
            message = f"--out lies in {folder}, which is searched for images; take another folder"
            raise UsageError(message, subject=str(out))


def check_name(path: Path) -> None:
    """Refuse a name that cannot be written into ``patches.csv``.

    Raises
    ------
    WsiError
        ``bad-input`` if it is not UTF-8.
    """
    readable = str(path).encode(errors="replace").decode()
    if readable != str(path):
        raise WsiError("bad-input", "its name is not UTF-8; rename it", subject=readable)


def _read_folders(
    images: Path, masks: Path, mask_suffix: str, kinds: Sequence[str]
) -> tuple[dict[str, Path], dict[str, Path]]:
    pictures, found = _by_name(images, "", SOURCE_SUFFIXES), _by_name(masks, mask_suffix, kinds)
    if images.resolve() != masks.resolve():
        return pictures, found
    if not mask_suffix:
        message = "holds both images and masks; name the masks by the end of their names"
        raise UsageError(f"{message}, --mask-suffix", subject=str(images))
    return {k: v for k, v in pictures.items() if not k.endswith(mask_suffix)}, found


def _check_apart(folders: Sequence[Path]) -> None:
    for folder, other in permutations(folders, 2):
        if folder.resolve().is_relative_to(other.resolve()):
            message = f"its images are already among those of {other}; give them once"
            raise UsageError(message, subject=str(folder))


def _by_name(folder: Path, suffix: str, kinds: Sequence[str]) -> dict[str, Path]:
    files = _files(folder, kinds)
    _check_unread(folder, files)
    found: dict[str, Path] = {}
    for path in files:
        # macOS writes accents as letters of their own.
        name = normalize("NFC", "__".join(path.relative_to(folder).with_suffix("").parts))
        if not name.endswith(normalize("NFC", suffix)):
            continue
        check_name(path)
        name = name.removesuffix(normalize("NFC", suffix))
        if name in found:
            message = f"has the name of {found[name].name}; keep one of them"
            raise WsiError("bad-input", message, subject=str(path))
        found[name] = path
    return found


def _files(folder: Path, suffixes: Collection[str]) -> list[Path]:
    """Find files, except those that macOS and editors put beside them under the same names."""
    found = (p for p in folder.rglob("*") if p.suffix.lower() in suffixes)
    return sorted(p for p in found if not _is_hidden(p.relative_to(folder)))


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") or part == "__MACOSX" for part in path.parts)


def _check_unread(folder: Path, read: Collection[Path]) -> None:
    """Refuse to leave out silently what may be meant as an image or a mask."""
    known = {path.with_suffix("") for path in read}
    others = _files(folder, _UNREAD_SUFFIXES)
    unread = [path.name for path in others if path.with_suffix("") not in known]
    if unread:
        message = f"{several(unread)} cannot be read here; save as PNG, or move out of the folder"
        raise WsiError("bad-input", message, subject=str(folder))


def _check_pairs(folder: Path, images: dict[str, Path], masks: dict[str, Path], what: str) -> None:
    alone = sorted(images.keys() - masks.keys())
    if alone:
        message = f"no {what} for {several([images[name].name for name in alone])}"
        raise WsiError("bad-input", message, subject=str(folder))
    spare = sorted(masks.keys() - images.keys())
    if spare:
        message = f"no image for {what} {several([masks[name].name for name in spare])}"
        raise WsiError("bad-input", message, subject=str(folder))
    if not images:
        kinds = ", ".join(SOURCE_SUFFIXES)
        raise WsiError("bad-input", f"holds no image ({kinds})", subject=str(folder))


def _prefixes(folders: Sequence[Path]) -> list[str]:
    """Return for each folder the part of its path between what all of them share."""
    if len(folders) == 1:
        return [""]
    paths = [folder.resolve().parts for folder in folders]
    paths = [parts[len(commonprefix(paths)) :] for parts in paths]
    # At least one part is left to each.
    alike = min(len(commonprefix([parts[::-1] for parts in paths])), min(map(len, paths)) - 1)
    return ["__".join(parts[: len(parts) - alike]) + "__" for parts in paths]
