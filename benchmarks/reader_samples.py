"""The files that readers.py reads: a painted picture in every format, and real slides."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import tifffile
from PIL import Image

from wsi_sampath.synthetic.painted import paint_slide

SIDE_PX = 2048
APERIO = "Aperio Image Library v11.2.1\r\n{0}x{0} [0,0 {0}x{0}] (256x256) {1}|AppMag = 20|MPP = 0.5"
PHILIPS = (
    '<?xml version="1.0" encoding="UTF-8" ?><DataObject ObjectType="DPUfsImport">{}</DataObject>'
)
PHILIPS_ATTRIBUTE = '<Attribute Name="{}" Group="0x0" Element="0x0" PMSVR="{}">{}</Attribute>'
PHILIPS_ARRAY = '<Array><DataObject ObjectType="{}">{}</DataObject></Array>'


@dataclass(frozen=True)
class Sample:
    """One format and a file in it."""

    name: str
    path: Path


def tiles_of(image: np.ndarray, side: int) -> Iterator[np.ndarray]:
    for y in range(0, image.shape[0], side):
        for x in range(0, image.shape[1], side):
            yield np.ascontiguousarray(image[y : y + side, x : x + side])


def write_jpeg2000(path: Path, image: np.ndarray, compression: int) -> None:
    """Write as Aperio does: in 33003 the colours are YCbCr, and the codec does not know."""
    ycbcr = compression == 33003

    def coded() -> Iterator[bytes]:
        for tile in tiles_of(image, 256):
            colours = np.asarray(Image.fromarray(tile).convert("YCbCr")) if ycbcr else tile
            yield imagecodecs.jpeg2k_encode(
                colours, level=38, codecformat="j2k", mct=not ycbcr, reversible=False
            )

    height, width = image.shape[:2]
    tifffile.imwrite(
        path,
        coded(),
        shape=image.shape,
        dtype=np.uint8,
        tile=(256, 256),
        photometric="ycbcr" if ycbcr else "rgb",
        subsampling=(1, 1) if ycbcr else None,
        compression=compression,
        description=APERIO.format(width, "J2K/KDU Q=70"),
        metadata=None,
        software=False,
    )


def philips_description() -> str:
    """Return the least XML by which OpenSlide knows a Philips TIFF of one level."""

    def attribute(name: str, kind: str, value: str) -> str:
        return PHILIPS_ATTRIBUTE.format(name, kind, value)

    spacing = attribute(
        "DICOM_PIXEL_SPACING", "IDoubleArray", "&quot;0.0005&quot; &quot;0.0005&quot;"
    )
    levels = attribute(
        "PIIM_PIXEL_DATA_REPRESENTATION_SEQUENCE",
        "IDataObjectArray",
        PHILIPS_ARRAY.format("PixelDataRepresentation", spacing),
    )
    scan = attribute("PIM_DP_IMAGE_TYPE", "IString", "WSI") + levels
    images = PHILIPS_ARRAY.format("DPScannedImage", scan)
    return PHILIPS.format(attribute("PIM_DP_SCANNED_IMAGES", "IDataObjectArray", images))


def write_samples(folder: Path, side: int = SIDE_PX) -> Iterator[Sample]:
    """Paint one picture and write it in every format."""
    painted = folder / "painted.svs"
    paint_slide(painted, width=side, height=side, mpp=0.5, seed=1, quality=90)
    image = tifffile.imread(painted, key=0)
    yield Sample("SVS, JPEG", painted)
    for compression, what in ((33003, "YCbCr"), (33005, "RGB")):
        path = folder / f"jpeg2000-{what}.svs"
        write_jpeg2000(path, image, compression)
        yield Sample(f"SVS, JPEG 2000 {what}", path)
    scale = {"resolution": (20000, 20000), "resolutionunit": "CENTIMETER"}
    plain = {"photometric": "rgb", "metadata": None, **scale}
    tiled = {**plain, "tile": (256, 256)}
    ycc = {"photometric": "ycbcr", "subsampling": (2, 2)}
    predictor = {"predictor": True}
    kinds: dict[str, dict[str, Any]] = {
        "TIFF, JPEG": {**tiled, **ycc, "compression": "jpeg", "compressionargs": {"level": 85}},
        "TIFF, JPEG RGB": {**tiled, "compression": "jpeg", "compressionargs": {"level": 85}},
        "TIFF, JPEG, tiles of 512": {**tiled, **ycc, "tile": (512, 512), "compression": "jpeg"},
        "TIFF, deflate": {**tiled, "compression": "deflate", **predictor},
        "TIFF, LZW": {**tiled, "compression": "lzw", **predictor},
        "TIFF, WebP": {**tiled, "compression": "webp", "compressionargs": {"level": 85}},
        "TIFF, zstd": {**tiled, "compression": "zstd", **predictor},
        "TIFF, uncompressed": tiled,
        "TIFF, one raw strip": {**plain, "rowsperstrip": side},
        "TIFF, raw strips": {**plain, "rowsperstrip": 16},
        "TIFF, LZW strips": {**plain, "rowsperstrip": 16, "compression": "lzw", **predictor},
        "Philips TIFF, JPEG": {
            **tiled,
            **ycc,
            "tile": (512, 512),
            "compression": "jpeg",
            "description": philips_description(),
            "software": "Philips DP v1.0",
        },
    }
    for name, options in kinds.items():
        path = folder / (name.replace(", ", "-").replace(" ", "-") + ".tiff")
        tifffile.imwrite(path, image, **options)
        yield Sample(name, path)
    for compression in ("lzw", "jpeg"):
        path = folder / f"{compression}.ome.tiff"
        stated = {"axes": "YXS", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5}
        with tifffile.TiffWriter(path, ome=True) as tiff:
            tiff.write(image, **{**tiled, "metadata": stated, "compression": compression})
        yield Sample(f"OME-TIFF, {compression.upper()}", path)


def real_samples() -> Iterator[Sample]:
    """Yield the slides of the data folder, where there is one."""
    data = os.environ.get("WSI_SAMPATH_DATA")
    if not data:
        return
    names = {
        "CMU-1-Small-Region.svs": "CMU-1 region, SVS JPEG",
        "CMU-1-Small-Region.jpeg.tiff": "CMU-1 region, TIFF JPEG",
        "CMU-1-Small-Region.webp.tiff": "CMU-1 region, TIFF WebP",
        "OS-2-ndpi.ome.tif": "OS-2, OME-TIFF",
        "test3-DAPI-2-387.ndpi": "test3, NDPI",
    }
    for file, name in names.items():
        path = Path(data) / "slides" / file
        if path.exists():
            yield Sample(name, path)
