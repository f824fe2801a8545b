"""Everything that decides the result of a run, in one frozen object."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from wsi_sampath.errors import UsageError
from wsi_sampath.inference.instances.settings import NucleusSettings
from wsi_sampath.inference.prompted.settings import GridSettings, OwnPromptSettings
from wsi_sampath.settings import (
    Added,
    Belongs,
    Flags,
    Frozen,
    Help,
    MayBeFile,
    Neutral,
    Panel,
    Reads,
    Suggests,
)

Device = str
Precision = Literal["auto", "fp16", "bf16", "fp32"]
# Beyond these no slide is worth an attempt: the sizes planned by them overflow or never end.
Positive = Annotated[float, Field(gt=0, le=1e12, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, le=1e12, allow_inf_nan=False)]
ModelMpp = Annotated[float, Field(ge=0.05, le=100, allow_inf_nan=False)]
OutputMpp = Annotated[float, Field(ge=0.01, le=10_000, allow_inf_nan=False)]
Level0Px = Annotated[float, Field(ge=0, le=2**32, allow_inf_nan=False)]
Extent = Annotated[float, Field(gt=0, le=2**32, allow_inf_nan=False)]
Density = Annotated[float, Field(ge=0.005, le=0.5, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


def _auto_or_number(word: str) -> int | str:
    try:
        return word if word == "auto" else int(word)
    except ValueError:
        raise UsageError(f"--batch-size {word!r} is neither auto nor a whole number") from None


def read_mpp(word: str) -> tuple[float, float]:
    """Read the microns per pixel of a slide, ``VALUE`` or ``X,Y``."""
    # Imported here, since help need not wait for what reads slides and tables.
    from wsi_sampath.slides.mpp import parse_mpp

    return parse_mpp(word)


def _path(word: str) -> str:
    return str(Path(word))


def model_names() -> list[str]:
    """Return what shells suggest for a model."""
    from wsi_sampath.models.shipped import bundled_models

    return list(bundled_models())


SlideMpp = Annotated[
    tuple[Positive, Positive] | None,
    *(Panel.INPUT, Belongs.SLIDE, Flags(metavar="VALUE|X,Y"), Reads(read_mpp)),
    Help("True microns per level-0 pixel, over what the file says."),
]
ReaderName = Annotated[
    str,
    Panel.INPUT,
    Suggests(lambda: ("auto", "tiff", "openslide", "tiffslide")),
    Help("The only reader to try: auto, tiff, openslide or tiffslide."),
]


class ModelSettings(Frozen):
    """Which network, and where and how it runs; every command that runs one has these options."""

    # What is marked Neutral may differ between two runs that give the same bytes. Of files, as
    # `model` and `weights` may be, the content decides and not the name: see `identity`.

    model: Annotated[
        str,
        *(Neutral, MayBeFile(), Panel.NETWORK, Flags("--model", "-m"), Suggests(model_names)),
        Help("Model to run: a name from wsi-models list, a .safetensors or a .yaml file."),
    ] = "gland-mini"
    weights: Annotated[
        str | None,
        *(Neutral, MayBeFile(), Panel.NETWORK, Flags(metavar="FILE"), Reads(_path)),
        Help("Weights for a .yaml model: a .safetensors file, or a published checkpoint."),
    ] = None
    allow_random_weights: Annotated[
        bool,
        *(Neutral, Panel.NETWORK, Flags("--allow-random-weights/--no-random-weights")),
        Help("Run a .yaml model without weights, for tests and timing."),
    ] = False
    device: Annotated[
        Device,
        *(Neutral, Panel.NETWORK, Belongs.MACHINE),
        Suggests(lambda: ("auto", "cpu", "cuda", "mps")),
        Help("Where the network runs: auto, cpu, cuda, cuda:N or mps."),
    ] = "auto"
    precision: Annotated[
        Precision,
        Panel.NETWORK,
        Help("Precision of the network: auto, fp16, bf16 or fp32."),
    ] = "auto"


class NetworkSettings(ModelSettings):
    """The same of commands that show a network tiles."""

    batch_size: Annotated[
        Annotated[int, Field(ge=1, le=4096)] | Literal["auto"],
        *(Neutral, Panel.NETWORK, Belongs.MACHINE, Flags("--batch-size", "-b", metavar="auto|N")),
        Reads(_auto_or_number),
        Help("Tiles per forward pass."),
    ] = "auto"


class SegmentSettings(NetworkSettings):
    """Settings of a slide run; the command line and Python build the same object.

    Each field says by its `Help` what it is; None takes what the brackets there say.
    """

    mpp: Annotated[
        ModelMpp | None,
        Panel.INPUT,
        Help("Microns per pixel that the network sees [the model's own]."),
    ] = None
    slide_mpp: SlideMpp = None
    tile: Annotated[
        Annotated[int, Field(ge=64, le=16_384)] | None,
        Panel.INPUT,
        Help("Side of the tiles, in pixels at the model's mpp [the model's own]."),
    ] = None
    overlap: Annotated[
        Annotated[int, Field(ge=0, le=16_384)] | None,
        Panel.INPUT,
        Help("Overlap of neighbouring tiles, in the same pixels [a quarter of the tile]."),
    ] = None
    # Snapped to a whole number of model pixels that divides the tile.
    output_mpp: Annotated[
        OutputMpp | None,
        Panel.INPUT,
        Help("Microns per pixel of the stored maps [the network's own output grid]."),
    ] = None
    reader: ReaderName = "auto"
    image: Annotated[
        Annotated[int, Field(ge=0)] | None,
        *(Panel.INPUT, Belongs.SLIDE),
        Help("Number of the picture to read in a file of several [the largest scan]."),
    ] = None
    max_bad_tiles: Annotated[
        Share,
        *(Neutral, Panel.INPUT),
        Help("Share of undecodable tiles above which a slide fails."),
    ] = 0.01
    workers: Annotated[
        int,
        Field(ge=1, le=1024),
        *(Neutral, Panel.INPUT, Belongs.MACHINE, Flags("--workers", "-j")),
        Help("Threads that read and decode tiles."),
    ] = 4
    compile: Annotated[
        bool,
        *(Neutral, Panel.NETWORK, Belongs.MACHINE, Flags("--compile/--no-compile")),
        Help("Compile the network with torch.compile."),
    ] = False
    tissue: Annotated[
        str,
        *(Neutral, MayBeFile("otsu", "none"), Panel.TISSUE, Belongs.SLIDE),
        Flags(metavar="otsu|none|FILE"),
        Suggests(lambda: ("otsu", "none")),
        Help(
            "Find tissue, take all of the slide, or take a mask: a PNG over the whole slide, or a "
            "GeoJSON."
        ),
    ] = "otsu"
    min_tissue_um2: Annotated[
        NotNegative,
        *(Panel.TISSUE, Flags("--min-tissue")),
        Help("Leave out smaller pieces of the tissue that was found, um^2."),
    ] = 8_000.0
    max_hole_um2: Annotated[
        NotNegative,
        *(Panel.TISSUE, Flags("--max-hole")),
        Help("Take larger holes in the tissue that was found to be glass, um^2."),
    ] = 10_000.0
    tissue_threshold: Annotated[
        Density | None,
        *(Added, Panel.TISSUE),
        Help("Optical density above which stain is tissue, 0.005 to 0.5 [found on each slide]."),
    ] = None
    min_tile_tissue: Annotated[
        Share,
        Panel.TISSUE,
        Help(
            "Leave out tiles with less than this share of tissue where other tiles hold all of it; "
            "0 keeps them."
        ),
    ] = 0.1
    region: Annotated[
        tuple[Level0Px, Level0Px, Extent, Extent] | None,
        *(Panel.TISSUE, Belongs.SLIDE, Flags(metavar="X Y W H")),
        Help("Analyse only this box, in level-0 pixels [the whole slide]."),
    ] = None
    geojson: Annotated[
        str | None,
        *(Neutral, Panel.OUTPUT, Belongs.CALL, Flags(metavar="FILE"), Reads(_path)),
        Help("File for the polygons [NAME.geojson beside the zarr]."),
    ] = None
    polygons: Annotated[
        bool,
        *(Panel.OUTPUT, Flags("--polygons/--no-geojson")),
        Help("Write polygons as GeoJSON, or none."),
    ] = True
    min_area_um2: Annotated[
        NotNegative,
        *(Panel.OUTPUT, Flags("--min-area")),
        Help("Leave out polygons below this area, and fill such holes, um^2."),
    ] = 0.0
    simplify_um: Annotated[
        NotNegative,
        *(Panel.OUTPUT, Flags("--simplify")),
        Help("Simplify borders by up to this distance, um; 0 keeps the outlines of the pixels."),
    ] = 0.0
    probabilities: Annotated[
        bool,
        *(Panel.OUTPUT, Flags("--probabilities/--no-probabilities")),
        Help("Store probabilities, or the class map alone."),
    ] = True
    existing: Annotated[
        str | None,
        *(Neutral, MayBeFile(), Panel.NUCLEI, Belongs.SLIDE),
        *(Flags("--nuclei", metavar="FILE"), Reads(_path)),
        Help("Measure and classify the nuclei of this .geojson or .parquet, and find no others."),
    ] = None
    mode: Annotated[
        Literal["ais", "apg", "amg"],
        *(Panel.NUCLEI, Flags(metavar="ais|apg|amg")),
        Help(
            "How nuclei are found: ais, by a watershed of the network's maps; apg, by asking the "
            "network at points that its maps suggest; amg, at every point of a grid (slow)."
        ),
    ] = "ais"
    # The options of these are blocks of their own; see `with_options`.
    nuclei: NucleusSettings = NucleusSettings()
    grid: GridSettings = GridSettings()
    own_prompts: OwnPromptSettings = OwnPromptSettings()
    zarr_format: Annotated[
        Literal[2, 3],
        Panel.OUTPUT,
        Help("Format of the zarr: 2 (NGFF 0.4, for today's QuPath) or 3 (NGFF 0.5)."),
    ] = 2
    report: Annotated[
        bool,
        *(Neutral, Panel.OUTPUT, Flags("--report/--no-report")),
        Help("Write NAME.html beside the zarr."),
    ] = True
    overlay: Annotated[
        bool,
        *(Neutral, Panel.OUTPUT, Flags("--overlay/--no-overlay")),
        Help("Write NAME.png beside the zarr: the map over the slide, with a legend."),
    ] = False
    force: Annotated[
        bool,
        *(Neutral, Panel.OUTPUT, Belongs.CALL),
        Help("Replace an earlier result that has other settings."),
    ] = False
