"""One object that answers a prompt."""

from __future__ import annotations

from dataclasses import dataclass

import shapely
from torch import Tensor

from wsi_sampath.inference.prompted.masks import Mask
from wsi_sampath.inference.prompting.lattice import Square
from wsi_sampath.outputs.nuclei.mask_outline import outline_of_mask
from wsi_sampath.prompt_files.prompt import Prompt


@dataclass(frozen=True)
class Segmented:
    """One object, as a network sees it.

    Attributes
    ----------
    prompt
        What was asked.
    square
        Where the network looked.
    mask
        The object, in px of the plane of the square.
    quality
        The IoU that the network predicts, about 0 to 1.
    mpp
        (x, y) um per px of this plane: several times the model's for what is larger than a square.
    zoom
        (x, y) level-0 px per px of this plane.
    is_cut
        Whether the mask reaches an edge of the square beyond which the slide goes on.
    logits
        float32 (1, 1, 4 grid, 4 grid): what corrections go on from.
    """

    prompt: Prompt
    square: Square
    mask: Mask
    quality: float
    mpp: tuple[float, float]
    zoom: tuple[float, float]
    is_cut: bool
    logits: Tensor

    def outline(self) -> shapely.Geometry:
        """Return the outline of the mask, valid, in level-0 px."""
        origin = self.mask.x * self.zoom[0], self.mask.y * self.zoom[1]
        return outline_of_mask(self.mask.pixels, origin=origin, scale=self.zoom)
