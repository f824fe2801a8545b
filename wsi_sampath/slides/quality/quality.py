"""What a quick look at a slide tells of its quality, and what of it is doubtful."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from wsi_sampath.shown import plural

# Edges of sharp places of eleven sources stay below 1.2 um, and those blurred by 2 um come out
# above 1.35 (docs/quality.md).
SOFT_UM = 1.5
BESIDE_UM = 100.0
# What is not doubted: shares, and the saturation of the palest H&E measured less a third.
_MOST_BLURRED, _MOST_BESIDE_PEN, _MOST_CLIPPED, _LEAST_SATURATION = 0.1, 0.01, 0.1, 0.1
# Fewer places may all be of smooth tissue.
_ENOUGH_PLACES = 4


@dataclass(frozen=True)
class Quality:
    """What a quick look at a slide tells; shares are 0 to 1, None is what cannot be judged.

    Attributes
    ----------
    places
        Number of places with tissue that were looked at.
    unstained
        Number of places with hardly any stain, which tell nothing more.
    unread
        Number of places that could not be decoded.
    judged
        How many places have detail enough to judge their focus; None on a slide too coarse for it.
    blurred
        Share of the judged places with edges softer than `SOFT_UM`.
    softness_um
        Median softness of their edges (sigma, um).
    pen
        Share of the slide's area under marker strokes and other opaque marks.
    tissue_beside_pen
        Share of the tissue within `BESIDE_UM` of such a mark.
    saturation
        Median saturation (HSV, 0 to 1) of the stained pixels.
    clipped
        Share of the stained pixels with a channel at 0 or 255.
    green_most, brown
        See `Stain`.
    looks_like
        What the slide looks like if not like H&E: the doubt of `Stain`.
    """

    places: int = 0
    unstained: int = 0
    unread: int = 0
    judged: int | None = None
    blurred: float | None = None
    softness_um: float | None = None
    pen: float | None = None
    tissue_beside_pen: float | None = None
    saturation: float | None = None
    clipped: float | None = None
    green_most: float | None = None
    brown: float | None = None
    looks_like: str | None = None

    @property
    def doubts(self) -> tuple[str, ...]:
        """A few words for each doubt, for a list of many slides."""
        stain = (f"looks like {self.looks_like}",) if self.looks_like else ()
        return (*(short for short, _ in self._doubts()), *stain)

    @property
    def warnings(self) -> tuple[str, ...]:
        """A sentence for each doubt but that of the stain, which `find_tissue` has."""
        return tuple(sentence for _, sentence in self._doubts())

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON values, with the doubts."""
        values = {
            name: round(value, 4) if isinstance(value, float) else value
            for name, value in asdict(self).items()
        }
        return {**values, "doubts": list(self.doubts)}

    def _doubts(self) -> Iterator[tuple[str, str]]:
        if self.blurred is not None and self.blurred > _MOST_BLURRED:
            share = percent(self.blurred)
            yield (
                f"{share} out of focus",
                f"{share} of the {plural(self.judged or 0, 'place')} looked at are out of focus "
                f"(edges softer than {SOFT_UM:g} um): what is found there is less sure",
            )
        if not self.places and self.unstained >= _ENOUGH_PLACES:
            yield (
                "hardly any stain",
                f"none of the {self.unstained} places looked at holds stain enough to judge it",
            )
        if self.judged == 0 and self.places >= _ENOUGH_PLACES:
            yield (
                "no detail",
                f"none of the {self.places} places looked at has detail enough to judge its focus",
            )
        if self.tissue_beside_pen is not None and self.tissue_beside_pen > _MOST_BESIDE_PEN:
            share = percent(self.tissue_beside_pen)
            yield (
                f"pen beside {share} of the tissue",
                f"{share} of the tissue lies within {BESIDE_UM:g} um of marker strokes or other "
                "opaque marks: what they tint may be taken for something else",
            )
        if self.clipped is not None and self.clipped > _MOST_CLIPPED:
            share = percent(self.clipped)
            yield (
                f"{share} clipped",
                f"{share} of the stained pixels have a channel at 0 or 255: the scan is over- or "
                "underexposed, or its contrast was stretched",
            )
        if self.saturation is not None and self.saturation < _LEAST_SATURATION:
            yield (
                "hardly any colour",
                "the stained pixels have hardly any colour: their median saturation is "
                f"{self.saturation:.2f}, where H&E has 0.15 to 0.8",
            )
        if self.unread:
            yield (
                f"{plural(self.unread, 'place')} unreadable",
                f"{self.unread} of the {plural(self.places + self.unread, 'place')} looked at for "
                "the slide's quality cannot be decoded",
            )


def percent(share: float) -> str:
    """Write a share with as many digits as tell something.

    Examples
    --------
    >>> percent(0.344), percent(0.012), percent(0.0001)
    ('34 %', '1.2 %', '0.01 %')
    """
    return f"{100 * share:.0f} %" if share >= 0.0995 else f"{100 * share:.2g} %"
