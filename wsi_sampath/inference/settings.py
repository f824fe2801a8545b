"""Everything that decides the result of a run, in one frozen object."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from wsi_sampath.errors import UsageError
from wsi_sampath.settings import Frozen, Neutral, did_you_mean

Device = str
Precision = Literal["auto", "fp16", "bf16", "fp32"]
# Beyond these no slide is worth an attempt: the sizes planned by them overflow or never end.
Positive = Annotated[float, Field(gt=0, le=1e12, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, le=1e12, allow_inf_nan=False)]
ModelMpp = Annotated[float, Field(ge=0.05, le=100, allow_inf_nan=False)]
OutputMpp = Annotated[float, Field(ge=0.01, le=10_000, allow_inf_nan=False)]
Level0Px = Annotated[float, Field(ge=0, le=2**32, allow_inf_nan=False)]
Extent = Annotated[float, Field(gt=0, le=2**32, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


class SegmentSettings(Frozen):
    """Settings of a slide run; the command line and Python build the same object.

    Attributes
    ----------
    model
        Name of a known model, a checkpoint file, or a ``.yaml`` specification.
    weights
        Weights of the model that a ``.yaml`` describes: ours, or a published checkpoint.
    allow_random_weights
        Take a ``.yaml`` without weights: for tests and timing.
    mpp
        Um per pixel that the network sees; None takes the model's own.
    slide_mpp
        True (x, y) um per level-0 pixel, over what the file says.
    tile, overlap
        In model pixels. `tile` None takes the model's own; `overlap` None is a quarter of it.
    output_mpp
        Um per pixel of the stored maps; None is the network's own output grid. Snapped to a whole
        number of model pixels that divides the tile.
    batch_size
        Tiles per forward pass, or ``"auto"``.
    workers
        Threads that read and decode.
    device, precision, compile
        Where and how the network runs.
    tissue
        ``"otsu"``, ``"none"``, or a mask file (PNG over the whole slide, or GeoJSON).
    min_tissue_um2, max_hole_um2
        Where tissue is found: smaller pieces are left out, smaller holes count as tissue.
    region
        (x, y, width, height) in level-0 pixels; None is the whole slide.
    geojson
        File to write the polygons to; None puts ``NAME.geojson`` beside the zarr.
    polygons, probabilities
        Whether to write the GeoJSON, and the probability image.
    min_area_um2
        Smaller polygons are left out of the GeoJSON, and smaller holes filled.
    simplify_um
        Tolerance of border simplification; 0 keeps the exact pixel outlines.
    zarr_format
        2 (NGFF 0.4, opens in today's QuPath) or 3 (NGFF 0.5).
    max_bad_tiles
        Share of undecodable tiles above which the slide fails.
    reader
        ``"auto"``, or the name of the only reader to try.
    image
        Number of the picture to read in a file of several; None reads the largest scan.
    report
        Whether to write ``NAME.html``.
    force
        Replace an earlier result of ours that has other settings.
    """

    # What is marked Neutral may differ between two runs that give the same bytes. For `model`,
    # `weights` and `tissue` the content of the files decides, not their names: see `identity`.

    model: Annotated[str, Neutral] = "gland-mini"
    weights: Annotated[str | None, Neutral] = None
    allow_random_weights: Annotated[bool, Neutral] = False
    mpp: ModelMpp | None = None
    slide_mpp: tuple[Positive, Positive] | None = None
    tile: Annotated[int, Field(ge=64, le=16_384)] | None = None
    overlap: Annotated[int, Field(ge=0, le=16_384)] | None = None
    output_mpp: OutputMpp | None = None
    batch_size: Annotated[Annotated[int, Field(ge=1, le=4096)] | Literal["auto"], Neutral] = "auto"
    workers: Annotated[int, Field(ge=1, le=1024), Neutral] = 4
    device: Annotated[Device, Neutral] = "auto"
    precision: Precision = "auto"
    compile: Annotated[bool, Neutral] = False
    tissue: Annotated[str, Neutral] = "otsu"
    min_tissue_um2: NotNegative = 8_000.0
    max_hole_um2: NotNegative = 10_000.0
    region: tuple[Level0Px, Level0Px, Extent, Extent] | None = None
    geojson: Annotated[str | None, Neutral] = None
    polygons: bool = True
    probabilities: bool = True
    min_area_um2: NotNegative = 0.0
    simplify_um: NotNegative = 0.0
    zarr_format: Literal[2, 3] = 2
    max_bad_tiles: Annotated[Share, Neutral] = 0.01
    reader: str = "auto"
    image: Annotated[int, Field(ge=0)] | None = None
    report: Annotated[bool, Neutral] = True
    force: Annotated[bool, Neutral] = False

    @classmethod
    def build(cls, values: dict[str, Any]) -> SegmentSettings:
        """Check `values` and build the settings.

        Raises
        ------
        UsageError
            Naming the first wrong setting, and for an unknown one the nearest known name.
        """
        unknown = sorted(set(values) - set(cls.model_fields))
        if unknown:
            raise UsageError(
                f"no setting {unknown[0]!r}{did_you_mean(unknown[0], cls.model_fields)}"
            )
        try:
            return cls(**values)
        except ValidationError as error:
            first = error.errors()[0]
            name = str(first["loc"][0]) if first["loc"] else "settings"
            raise UsageError(f"setting {name}: {first['msg']} (got {first['input']!r})") from None
