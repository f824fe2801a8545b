"""The pictures in a TIFF: which one is the slide, and which may be its lower levels."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import tifffile

from wsi_sampath.errors import WsiError
from wsi_sampath.slides.readers.base import RefusedError

_MOST_PAGES = 100
# Words by which writers name what is not the scan itself.
_NOT_THE_SCAN = frozenset(
    {"label", "macro", "overview", "thumbnail", "thumb", "barcode", "preview", "map"}
)
_MOST_WORDS = 4
_MASK, _APERIO_MACRO = 4, 8
# How much larger, in pixels, a picture must be to count against its name or its missing tiles.
_FAR_LARGER, _MUCH_LARGER = 16, 4
_WORTH_NAMING = 1 / 400


@dataclass(frozen=True, eq=False)
class Picture:
    """One picture of a file at its full resolution.

    Attributes
    ----------
    number
        The number for ``--image``: its page, or its image in the OME metadata.
    name
        As stated by the file.
    planes
        The page it is on; three pages where red, green and blue are kept apart.
    reduced
        The same for every reduced copy that the file links to it.
    mpp
        (x, y) in um per pixel, None if not stated.
    ome
        Whether the OME metadata mention it.
    refusal
        Why it cannot be turned into RGB, empty where it can.
    warnings
        Sentences for the user if this picture is read.
    role
        What it is instead of a scan: ``"label"``, ``"macro"``...; empty for a scan.
    of_stack
        Whether it is one of several planes of a stack.
    order
        Which samples of its pages are red, green and blue.
    """

    number: int
    name: str
    planes: tuple[Any, ...]
    reduced: tuple[tuple[Any, ...], ...] = ()
    mpp: tuple[float, float] | None = None
    ome: bool = False
    refusal: str = ""
    warnings: tuple[str, ...] = ()
    role: str = ""
    of_stack: bool = False
    order: tuple[int, int, int] = (0, 1, 2)

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels."""
        return self.planes[0].imagewidth, self.planes[0].imagelength

    @property
    def area(self) -> int:
        """Pixels."""
        return self.size[0] * self.size[1]

    @property
    def is_tiled(self) -> bool:
        """Whether it is cut into tiles."""
        return bool(self.planes[0].is_tiled)

    def __str__(self) -> str:
        width, height = self.size
        name = f", {self.name[:40]!r}" if self.name else ""
        return f"image {self.number} ({width} x {height}{name})"


def plain_pictures(tiff: tifffile.TiffFile) -> tuple[Picture, ...]:
    """Take every page of a TIFF as a picture, with its sub-pages as reduced copies.

    Raises
    ------
    RefusedError
        Where there are too many pages for a slide.
    """
    if len(tiff.pages) > _MOST_PAGES:
        raise RefusedError(f"its {len(tiff.pages)} pages are a stack, not a slide")
    return tuple(picture_of_page(number, page) for number, page in enumerate(full_pages(tiff)))


def full_pages(tiff: tifffile.TiffFile) -> Iterator[Any]:
    """Yield the pages of a TIFF, each with all its tags."""
    for index in range(len(tiff.pages)):
        page: Any = tiff.pages[index]
        yield page.aspage()


def picture_of_page(number: int, page: Any) -> Picture:
    """Describe one page."""
    name = _page_name(page)
    pages = [page, *(copy.aspage() for copy in page.pages or ())]
    # Some writers put the scan itself below a page that holds its thumbnail.
    largest = max(pages, key=lambda page: page.imagewidth * page.imagelength)
    copies = tuple((page,) for page in pages if page is not largest)
    role = role_of(name) or _role_of_flags(int(page.subfiletype))
    return Picture(number, name, (largest,), copies, role=role)


def role_of(name: str) -> str:
    """Return what a picture is by its name, if not a scan; empty where it may be a scan.

    Long names are titles, in which such a word may mean anything.
    """
    words = re.findall(r"[a-z]+", name.lower())
    if len(words) > _MOST_WORDS or len(name) > 60:
        return ""
    words = [word[:-5] if word.endswith("image") and word != "image" else word for word in words]
    return next((word for word in words if word in _NOT_THE_SCAN), "")


def choose(pictures: Sequence[Picture], number: int | None) -> tuple[Picture, tuple[str, ...]]:
    """Choose the picture that is the slide: the one asked for, else the largest scan.

    Returns
    -------
    (Picture, tuple of str)
        The picture, and what the user should know about the choice.

    Raises
    ------
    WsiError
        ``bad-input`` where there is no picture of that number.
    """
    if number is not None:
        return _numbered(pictures, number), ()
    chosen = _largest_scan(pictures)
    if chosen.role:
        return chosen, (f"{chosen} calls itself a {chosen.role}, but nothing else is a scan",)
    named = max((p for p in pictures if p.role), key=_by_area, default=chosen)
    if named.role not in ("", "mask") and named.area > _FAR_LARGER * chosen.area:
        return named, (
            f"{named} calls itself a {named.role}, but is far larger than any other; "
            "it is analysed, --image N picks another",
        )
    return chosen, ()


def _numbered(pictures: Sequence[Picture], number: int) -> Picture:
    for picture in pictures:
        if picture.number == number:
            return picture
    held = ", ".join(f"{picture}" for picture in pictures)
    raise WsiError("bad-input", f"there is no image {number}; the file holds {held}")


def _largest_scan(pictures: Sequence[Picture]) -> Picture:
    scans = [picture for picture in pictures if not picture.role] or list(pictures)
    largest = max(scans, key=_by_area)
    tiled = max((picture for picture in scans if picture.is_tiled), key=_by_area, default=largest)
    if largest.area <= _MUCH_LARGER * tiled.area and not has_shape_of(tiled.size, largest.size):
        # Scanners cut the scan into tiles, and keep macro and label in strips.
        largest = tiled
    return max(
        (picture for picture in scans if _is_finer(picture, largest)), key=_by_area, default=largest
    )


def _by_area(picture: Picture) -> tuple[int, int]:
    return picture.area, -picture.number


def _is_finer(picture: Picture, largest: Picture) -> bool:
    """Distinguish a scan from a larger macro: by resolution, where the shapes differ too."""
    if picture.mpp is None or largest.mpp is None or not picture.is_tiled:
        return False
    other_shape = not has_shape_of(picture.size, largest.size, slack=0.05)
    near = picture.area * _FAR_LARGER >= largest.area
    return other_shape and near and picture.mpp[0] * 2 < largest.mpp[0]


def has_shape_of(size: tuple[int, int], other: tuple[int, int], slack: float = 0.02) -> bool:
    """Return whether two pictures have the same ratio of width to height, but for rounding."""
    expected = other[0] * size[1] / other[1]
    return abs(size[0] - expected) <= max(2, slack * expected)


def lower_levels(chosen: Picture, pictures: Iterable[Picture]) -> list[tuple[Any, ...]]:
    """Return what may be lower levels of a picture, largest first: planes of each.

    Reduced copies, and any other page of the file with its shape; what they show is not checked
    here.
    """
    others = [p.planes for p in pictures if p is not chosen and not p.role and not p.refusal]
    return sorted(
        (planes for planes in (*chosen.reduced, *others) if _may_be_lower(planes, chosen)),
        key=lambda planes: -planes[0].imagewidth,
    )


def _may_be_lower(planes: tuple[Any, ...], chosen: Picture) -> bool:
    page = planes[0]
    return (
        len(planes) == len(chosen.planes)
        and page.imagewidth < chosen.size[0]
        and page.imagelength < chosen.size[1]
        and bool(page.is_tiled) >= chosen.is_tiled
        and has_shape_of((page.imagewidth, page.imagelength), chosen.size)
    )


def named_others(
    chosen: Picture, pictures: Iterable[Picture], used: Iterable[Any]
) -> tuple[str, ...]:
    """Name the scans of a file that are not analysed, in at most one sentence."""
    known = {page.offset for page in used}
    others = [
        f"{picture}"
        for picture in pictures
        if picture is not chosen
        and not picture.role
        and picture.planes[0].offset not in known
        and picture.is_tiled >= chosen.is_tiled
        and picture.area >= _WORTH_NAMING * chosen.area
    ]
    if not others:
        return ()
    return (f"{chosen} is analysed, not {', '.join(others)}; --image N picks another",)


def _page_name(page: Any) -> str:
    description = str(page.description or "").strip()
    if description.startswith("Aperio"):
        # The second line of a level describes its size, that of the others begins with their name.
        second = (description.splitlines() + [""])[1].strip()
        return second.split(" ")[0] if second[:1].isalpha() else ""
    kind = re.search(r"<ImageType>(\w+)</ImageType>", description)
    if kind:
        return kind[1]
    stated = str(page.tags.valueof(285, "") or "").strip()
    return stated or ("" if description.startswith(("{", "<", "ImageJ")) else description[:80])


def _role_of_flags(subfiletype: int) -> str:
    if subfiletype & _MASK:
        return "mask"
    return "macro" if subfiletype & _APERIO_MACRO else ""
