"""What nuclei-mini learns from, and what it is judged by; the split is by patient.

DATA holds TNBC (``tnbc``), crops of NuCLS (``nucls``), the stained fields of the Data Science Bowl
2018 (``dsb2018``) and pictures without nuclei (``nct_crc``).
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from wsi_sampath.data.patches import read_rgb
from wsi_sampath.training.augment import Rgb
from wsi_sampath.training.nuclei.targets import Targets, nucleus_targets

Part = Literal["train", "validation", "test"]

MPP = 0.25
NUCLS_UM, TNBC_UM, GLASS_UM = 0.2, 0.25, 0.5
HELD_OUT: dict[str, Part] = {
    "tnbc patient_02": "validation",
    "tnbc patient_03": "test",
    "tnbc patient_11": "test",
    "nucls train_9": "validation",
    "nucls train_3": "test",
    "nucls train_8": "test",
}
"""The only patients that are not trained on. Crops of NuCLS count as patients of their own."""
EMPTY = "empty"
_EMPTY_FILES = ("nct_crc/BACK*", "nct_crc/ADI*", "nct_crc/DEB*")
_LEAST_NUCLEI = 5


@dataclass(frozen=True)
class Field:
    """A labelled picture at the model's mpp.

    Attributes
    ----------
    name, source, patient
        Of the picture, of the data set, and whose tissue it is.
    image
        uint8 (height, width, 3).
    targets
        Of its nuclei.
    """

    name: str
    source: str
    patient: str
    image: Rgb
    targets: Targets

    @property
    def part(self) -> Part:
        """What the field is for."""
        return HELD_OUT.get(f"{self.source} {self.patient}", "train")


def read_fields(data: Path) -> list[Field]:
    """Read every labelled field, and the pictures without nuclei (source `EMPTY`)."""
    return [*_tnbc(data / "tnbc"), *_nucls(data / "nucls"), *_dsb(data / "dsb2018"), *_empty(data)]


def _tnbc(folder: Path) -> list[Field]:
    with (folder / "index.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [_field(folder, row["image"], "tnbc", row["group"], TNBC_UM) for row in rows]


def _nucls(folder: Path) -> list[Field]:
    names = sorted(path.name for path in (folder / "images").glob("*.png"))
    return [_field(folder, name, "nucls", Path(name).stem, NUCLS_UM) for name in names]


def _dsb(folder: Path) -> list[Field]:
    """Read the fields of the Bowl; their scale is an estimate from the size of their nuclei."""
    with (folder / "index.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if int(row["nuclei"]) >= _LEAST_NUCLEI]
    return [
        _field(folder, row["image"], row["group"], row["field"], float(row["est_um_px"]))
        for row in rows
    ]


def _empty(data: Path) -> list[Field]:
    fields = []
    for path in sorted(path for files in _EMPTY_FILES for path in data.glob(files)):
        image = _resized(Image.fromarray(read_rgb(path)), GLASS_UM, Image.Resampling.BILINEAR)
        none = nucleus_targets(np.zeros(image.shape[:2], np.int32))
        fields.append(Field(path.stem, EMPTY, path.stem, image, none))
    return fields


def _field(folder: Path, name: str, source: str, patient: str, um: float) -> Field:
    image = Image.fromarray(read_rgb(folder / "images" / name))
    labels = Image.open(folder / "inst" / name).convert("I")
    targets = nucleus_targets(_resized(labels, um, Image.Resampling.NEAREST))
    pixels = _resized(image, um, Image.Resampling.BILINEAR)
    return Field(Path(name).stem, source, patient, pixels, targets)


def _resized(image: Image.Image, um: float, how: Image.Resampling) -> np.ndarray:
    size = [max(1, round(side * um / MPP)) for side in image.size]
    return np.asarray(image.resize((size[0], size[1]), how))
