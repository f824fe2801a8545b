"""What a network answers to a prompt, on its way into a file."""

from __future__ import annotations

from dataclasses import dataclass

import shapely

EDITED = "edited by hand"
"""What is noted of a mask that a person has changed since."""


@dataclass(frozen=True)
class Mask:
    """One candidate for the object asked for.

    Attributes
    ----------
    outline
        Polygon or MultiPolygon in level-0 pixels of the slide, as `outline_of_mask` makes it.
    quality
        The IoU with the object that the network predicts, about 0 to 1; NaN where none did.
    """

    outline: shapely.Geometry
    quality: float


@dataclass(frozen=True)
class Answer:
    """The answer to one prompt.

    Attributes
    ----------
    prompt
        Index of the prompt in `PromptFile.prompts`.
    masks
        One at least, the chosen one first.
    mpp
        Microns in a pixel of the field that was looked at; NaN where none was.
    is_coarser
        Whether that is a multiple of the network's own, for what is too large to be seen at it.
    is_cut
        Whether an edge of the field cuts a mask.
    is_edited
        Whether a person has changed it since.
    """

    prompt: int
    masks: tuple[Mask, ...]
    mpp: float
    is_coarser: bool = False
    is_cut: bool = False
    is_edited: bool = False

    @property
    def note(self) -> str:
        """What is particular about it, for the user; empty for most."""
        seen = f"seen at {self.mpp:.4g} um per pixel, for it is too large for the model's"
        cut = "cut by the edge of what was seen"
        said = [(self.is_coarser, seen), (self.is_cut, cut), (self.is_edited, EDITED)]
        return "; ".join(text for applies, text in said if applies)


@dataclass(frozen=True)
class Unanswered:
    """A prompt that got no answer.

    Attributes
    ----------
    prompt
        Index of the prompt in `PromptFile.prompts`.
    reason
        One sentence without its end.
    """

    prompt: int
    reason: str
