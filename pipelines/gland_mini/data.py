"""What gland-mini learns from, and what it is judged by; the split is by patient.

DATA holds EBHI-Seg (``ebhi_seg``, ``ebhi_seg_more``), RINGS (``rings``) and pictures without glands
(``nct_crc``, ``he_tiles``, ``ocdc``, ``oscc``, ``nucls``, ``hgsc``, ``slides``).
"""

from __future__ import annotations

import csv
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image
from scipy import ndimage

from pipelines.gland_mini.mosaic import Collection, LabelledPicture
from wsi_sampath.data.patches import read_rgb
from wsi_sampath.slides.slide import Slide
from wsi_sampath.training.augment import Rgb

Part = Literal["train", "validation", "test"]

OTHER, GLAND = 1, 2
EBHI_UM = 1.3
"""Microns per pixel of EBHI-Seg's 224 px patches, judged from the size of normal crypts."""
RINGS_UM = 1.4
"""Of RINGS' images as halved to 512 px, judged from the size of nuclei."""
HELD_OUT_ONE_IN = 8
VALIDATION_ONE_IN = 16
MOST_FOREGROUND = 0.95
"""Masks fuller than this are mostly annotations of a whole picture."""
RINGS_HELD_OUT = "P4"
EBHI_SHARE, RINGS_SHARE = 0.56, 0.16


@dataclass(frozen=True)
class Negative:
    """Files without glands, their microns per pixel, roughly, and how often they are shown.

    The squamous epithelium at hand is pale; it is also shown stained more densely, as skin is.
    """

    files: str
    um: float
    share: float
    most: int = 99
    densities: tuple[float, ...] = (1.0,)


NEGATIVES = (
    Negative("nct_crc/ADI*", 0.5, 0.02),
    Negative("nct_crc/BACK*", 0.5, 0.02),
    Negative("nct_crc/DEB*", 0.5, 0.025),
    Negative("nct_crc/LYM*", 0.5, 0.03),
    Negative("nct_crc/MUC*", 0.5, 0.02),
    Negative("nct_crc/MUS*", 0.5, 0.025),
    Negative("nct_crc/STR*", 0.5, 0.03),
    Negative("he_tiles/histoqc_template[23].png", 0.5, 0.03),
    Negative("ocdc/images/*.jpg", 0.5, 0.08, most=5, densities=(1.0, 1.6, 2.5)),
    Negative("oscc/*.jpg", 0.3, 0.05, densities=(1.0, 1.6, 2.2)),
    Negative("nucls/images/train_[124-8]*.png", 0.2, 0.03),
)
HGSC_UM, HGSC_SHARE = 0.45, 0.06
TUMOUR_NUCLEI, TUMOUR_REACH_PX = 3, 35
SKIN_SHARE = 0.08


@dataclass(frozen=True)
class Glands:
    """Patches with glands by part; `full` are test patches that are annotated as a whole."""

    train: list[LabelledPicture]
    validation: list[LabelledPicture]
    test: list[LabelledPicture]
    full: list[LabelledPicture]


def part_of(patient: str) -> Part:
    """Return the part of a patient of EBHI-Seg: by the name, so that it never changes."""
    number = zlib.crc32(patient.encode())
    if number % HELD_OUT_ONE_IN == 0:
        return "test"
    return "validation" if number % VALIDATION_ONE_IN == 1 else "train"


def held_out(patient: str) -> bool:
    """Return whether a patient of EBHI-Seg is never trained on."""
    return part_of(patient) == "test"


def read_ebhi(data: Path) -> Glands:
    """Read EBHI-Seg, both folders."""
    glands = Glands([], [], [], [])
    for folder in (data / "ebhi_seg", data / "ebhi_seg_more"):
        with (folder / "index.csv").open(newline="") as file:
            for row in csv.DictReader(file):
                patch = _read_ebhi_patch(folder, row)
                full = (patch.mask == GLAND).mean() > MOST_FOREGROUND
                if not full:
                    getattr(glands, part_of(patch.patient)).append(patch)
                elif held_out(patch.patient):
                    glands.full.append(patch)
    return glands


def _read_ebhi_patch(folder: Path, row: dict[str, str]) -> LabelledPicture:
    glands = np.asarray(Image.open(folder / row["label"]).convert("L")) >= 128
    mask = np.where(glands, GLAND, OTHER).astype(np.uint8)
    return LabelledPicture(read_rgb(folder / row["image"]), mask, EBHI_UM, row["patient"])


def read_rings(data: Path) -> tuple[list[LabelledPicture], list[LabelledPicture]]:
    """Read RINGS: for training, and held out.

    Only tumour is annotated in the images with tumour, whatever else they show: there the rest is
    unlabelled.
    """
    split: tuple[list[LabelledPicture], list[LabelledPicture]] = ([], [])
    for path in sorted((data / "rings" / "images").glob("*.png")):
        mask = read_rgb(data / "rings" / "masks" / path.name)
        tumour, gland = mask[..., 0] >= 128, mask[..., 1] >= 128
        label = np.where(tumour | gland, GLAND, 0 if tumour.any() else OTHER).astype(np.uint8)
        patch = LabelledPicture(read_rgb(path), label, RINGS_UM, path.stem)
        split[path.stem.startswith(RINGS_HELD_OUT)].append(patch)
    return split


def stained(image: Rgb, density: float) -> Rgb:
    """Return the picture with its optical density multiplied."""
    return np.rint(255 * (image / 255) ** density).astype(np.uint8)


def read_hgsc(data: Path) -> tuple[LabelledPicture, LabelledPicture]:
    """Read a carcinoma of the ovary, unlabelled, with stroma and lymphocytes around: two halves.

    The upper one is for training, the lower one is there to look at.
    """
    nuclei = np.load(data / "hgsc" / "hgsc_nest_type_mask.npz")["nuc_raster"]
    far = ndimage.distance_transform_edt(nuclei != TUMOUR_NUCLEI) > TUMOUR_REACH_PX
    mask = np.where(far, OTHER, 0).astype(np.uint8)
    return _halves(LabelledPicture(read_rgb(data / "hgsc" / "hgsc_nest.jpg"), mask, HGSC_UM))


def read_skin(data: Path) -> tuple[LabelledPicture, LabelledPicture]:
    """Read OpenSlide's CMU-1-Small-Region, skin, where nothing is a gland: halves as above."""
    with Slide.open(data / "slides" / "CMU-1-Small-Region.svs") as slide:
        width, height = slide.size
        image = slide.read(x0=0, y0=0, width=width, height=height, mpp=slide.mpp.x)
        mask = np.full(image.shape[:2], OTHER, np.uint8)
        return _halves(LabelledPicture(image, mask, slide.mpp.x))


def _halves(whole: LabelledPicture) -> tuple[LabelledPicture, LabelledPicture]:
    middle = len(whole.mask) // 2
    upper, lower = (
        LabelledPicture(whole.image[rows], whole.mask[rows], whole.um)
        for rows in (slice(middle), slice(middle, None))
    )
    return upper, lower


def read_negatives(data: Path) -> list[Collection]:
    """Read pictures without glands."""
    sources = [
        Collection([read_hgsc(data)[0]], HGSC_SHARE),
        Collection([read_skin(data)[0]], SKIN_SHARE),
    ]
    for kind in NEGATIVES:
        read = [read_rgb(path) for path in sorted(data.glob(kind.files))[: kind.most]]
        images = [stained(image, density) for image in read for density in kind.densities]
        masks = [np.full(image.shape[:2], OTHER, np.uint8) for image in images]
        patches = [LabelledPicture(*pair, kind.um) for pair in zip(images, masks, strict=True)]
        if patches:
            sources.append(Collection(patches, kind.share))
    return sources
