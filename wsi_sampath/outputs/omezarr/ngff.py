"""NGFF (OME-Zarr) metadata as plain dicts, for NGFF 0.4 (zarr format 2) and 0.5 (zarr format 3).

Source: https://ngff.openmicroscopy.org/0.4 and /0.5. Axes, transformations and colours follow the
specification; ``OME/METADATA.ome.xml`` is there because it is the only place where Bio-Formats,
and so QuPath, looks for the pixel size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from xml.sax.saxutils import quoteattr

from wsi_sampath.classes import ClassSpec
from wsi_sampath.shown import shown

VERSIONS = {2: "0.4", 3: "0.5"}


@dataclass(frozen=True)
class PlaneScale:
    """Physical size of a plane's level-0 pixels.

    Attributes
    ----------
    um_x, um_y
        Um per pixel of the plane.
    slide_um_x, slide_um_y
        Um per level-0 pixel of the slide, whose first pixel centre is the origin.
    """

    um_x: float
    um_y: float
    slide_um_x: float
    slide_um_y: float

    def at(self, level: int) -> tuple[tuple[float, float], tuple[float, float]]:
        """Scale and translation (x, y) of pyramid level `level`, in um.

        The centre of a pixel that covers f slide pixels lies (f - 1) / 2 slide pixels after the
        centre of the first of them.
        """
        um_x, um_y = self.um_x * 2**level, self.um_y * 2**level
        return (um_x, um_y), ((um_x - self.slide_um_x) / 2, (um_y - self.slide_um_y) / 2)


def multiscales(
    name: str, scale: PlaneScale, n_levels: int, *, channels: bool, downsampling: str
) -> list[dict[str, Any]]:
    """Return the ``multiscales`` list of one image (without the 0.4 version member)."""
    axes: list[dict[str, str]] = [{"name": "c", "type": "channel"}] if channels else []
    axes += [{"name": axis, "type": "space", "unit": "micrometer"} for axis in "yx"]
    datasets = [_dataset(scale, level, channels=channels) for level in range(n_levels)]
    return [{"name": name, "axes": axes, "datasets": datasets, "type": downsampling}]


def _dataset(scale: PlaneScale, level: int, *, channels: bool) -> dict[str, Any]:
    (um_x, um_y), (off_x, off_y) = scale.at(level)
    lead: list[float] = [1.0] if channels else []
    zero: list[float] = [0.0] if channels else []
    return {
        "path": str(level),
        "coordinateTransformations": [
            {"type": "scale", "scale": [*lead, um_y, um_x]},
            {"type": "translation", "translation": [*zero, off_y, off_x]},
        ],
    }


def omero(name: str, channels: Sequence[ClassSpec]) -> dict[str, Any]:
    """Return rendering hints: every channel in its colour, 0..255."""
    window = {"min": 0, "max": 255, "start": 0, "end": 255}
    return {
        "id": 1,
        "name": name,
        "channels": [
            {
                "label": one.name,
                "color": one.color.lstrip("#").upper(),
                "active": True,
                "window": window,
            }
            for one in channels
        ],
        "rdefs": {"defaultT": 0, "defaultZ": 0, "model": "color"},
    }


def image_label(values: Sequence[ClassSpec]) -> dict[str, Any]:
    """Return the ``image-label`` member: colours and names of the values 1..k, if they have any."""
    source = {"source": {"image": "../../"}}
    if not values:
        return source
    colors = [{"label-value": 0, "rgba": [0, 0, 0, 0]}]
    properties = [{"label-value": 0, "class": "not analysed"}]
    for value, one in enumerate(values, start=1):
        colors.append({"label-value": value, "rgba": [*rgb(one.color), 255]})
        properties.append({"label-value": value, "class": one.name})
    return {"colors": colors, "properties": properties, **source}


def group_attributes(members: dict[str, Any], zarr_format: int) -> dict[str, Any]:
    """Place NGFF members where the version wants them: bare in 0.4, under ``ome`` in 0.5."""
    version = VERSIONS[zarr_format]
    if zarr_format == 3:
        return {"ome": {"version": version, **members}}
    placed = dict(members)
    if "multiscales" in placed:
        placed["multiscales"] = [{**m, "version": version} for m in placed["multiscales"]]
    for versioned in ("omero", "image-label"):
        if versioned in placed:
            placed[versioned] = {**placed[versioned], "version": version}
    return placed


def rgb(color: str) -> tuple[int, int, int]:
    """Turn ``"#rrggbb"`` into three numbers 0..255."""
    red, green, blue = bytes.fromhex(color.lstrip("#"))
    return red, green, blue


def ome_xml(
    name: str,
    scale: PlaneScale,
    *,
    width: int,
    height: int,
    channels: Sequence[str],
    dtype: str = "uint8",
) -> str:
    """Return a minimal OME-XML (2016-06) document with the physical pixel size."""
    lines = "".join(
        f'<Channel ID="Channel:0:{i}" Name={quoteattr(label)} SamplesPerPixel="1"/>'
        for i, label in enumerate(channels)
    )
    return (
        '<?xml version="1.0" encoding="UTF-8"?>'
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">'
        # XML has no control characters, and no bytes that are not UTF-8.
        f'<Image ID="Image:0" Name={quoteattr(shown(name))}>'
        f'<Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="{dtype}" SizeX="{width}" '
        f'SizeY="{height}" SizeZ="1" SizeC="{len(channels)}" SizeT="1" '
        f'PhysicalSizeX="{scale.um_x:.9g}" PhysicalSizeXUnit="µm" '
        f'PhysicalSizeY="{scale.um_y:.9g}" PhysicalSizeYUnit="µm">'
        f"{lines}<MetadataOnly/></Pixels></Image></OME>\n"
    )
