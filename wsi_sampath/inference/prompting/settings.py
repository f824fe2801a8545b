"""Everything that decides the answers to prompts, and what is kept between them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from wsi_sampath.cache import cache_folder
from wsi_sampath.inference.settings import (
    ModelMpp,
    ModelSettings,
    ReaderName,
    Share,
    SlideMpp,
    model_names,
)
from wsi_sampath.settings import Belongs, Flags, Help, MayBeFile, Neutral, Panel, Suggests

Pick = Literal["best", "largest", "smallest"]
GiB = Annotated[float, Field(ge=0, le=1 << 20, allow_inf_nan=False)]


class PromptSettings(ModelSettings):
    """Settings of prompting; the command line and Python build the same object."""

    model: Annotated[
        str,
        *(Neutral, MayBeFile(), Panel.NETWORK, Flags("--model", "-m"), Suggests(model_names)),
        Help("Model to ask: a name from wsi-models list, or a .safetensors or .yaml file."),
    ] = "nuclei-mini"
    slide_mpp: SlideMpp = None
    mpp: Annotated[
        ModelMpp | None,
        Panel.INPUT,
        Help("Microns per pixel that the network sees [the model's own]."),
    ] = None
    reader: ReaderName = "auto"
    pick: Annotated[
        Pick,
        Panel.PROMPTS,
        Help(
            "Which of a network's three candidates to take: best (for a single point; all else is "
            "asked for one), largest or smallest."
        ),
    ] = "best"
    smallest_part: Annotated[
        Share,
        Panel.PROMPTS,
        Help("Leave out islands, and fill holes, of less than this share of an object."),
    ] = 0.05
    cache: Annotated[
        Path | None,
        *(Neutral, Panel.PROMPTS, Belongs.MACHINE, Flags(metavar="FOLDER")),
        Help("Keep what the network has seen here for later runs [embeddings/ of the cache]."),
    ] = None
    cache_gib: Annotated[
        GiB,
        *(Neutral, Panel.PROMPTS, Belongs.MACHINE),
        Help("Most that this folder may take, GiB; 0 to keep nothing on disk."),
    ] = 4.0
    memory_gib: Annotated[
        GiB, Neutral, Panel.PROMPTS, Belongs.MACHINE, Help("Most that is kept in memory, GiB.")
    ] = 1.0

    @property
    def folder(self) -> Path:
        """Where embeddings are kept."""
        return self.cache or cache_folder() / "embeddings"
