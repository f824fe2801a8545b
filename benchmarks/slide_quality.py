"""What the measures of a slide's quality say of real slides and patches, as they are and spoilt.

Prints the tables of docs/quality.md: ``python benchmarks/slide_quality.py $WSI_SAMPATH_DATA``.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy import ndimage
from skimage.measure import blur_effect

from wsi_sampath.slides.quality.focus import edge_softness
from wsi_sampath.slides.quality.marks import pen_shares
from wsi_sampath.slides.quality.quality import SOFT_UM
from wsi_sampath.slides.regions.find import Seen
from wsi_sampath.slides.regions.glass import glass_colour, optical_density
from wsi_sampath.slides.regions.stain import STAINED, stain_of
from wsi_sampath.slides.regions.tissue import stained_tissue
from wsi_sampath.slides.slide import Slide

Rgb = NDArray[np.uint8]
SLIDES = {
    "CMU-1-Small-Region.svs": None,
    "CMU-1-Small-Region.jpeg.tiff": 0.499,
    "CMU-1-Small-Region.webp.tiff": 0.499,
    "OS-1-detail.ome.tif": None,
    "OS-2-ndpi.ome.tif": None,
}
# Um per pixel; those of histoqc, rings, hgsc, ebhi_seg, ocdc and oscc are estimates.
PATCHES = {
    "nct_crc/*.tif": 0.5,
    "tnbc/images/*.png": 0.25,
    "nucls/images/*": 0.2,
    "he_tiles/tcga*.png": 0.25,
    "he_tiles/histoqc*.png": 0.5,
    "ocdc/images/*.jpg": 0.5,
    "oscc/*.jpg": 0.25,
    "rings/images/*.png": 0.7,
    "hgsc/*.jpg": 0.5,
    "ebhi_seg/*/image/*": 0.4,
    "dsb2018/images/*": 0.25,
}
SIGMAS_UM = (0, 0.5, 1, 1.5, 2, 3, 4)
MOST_OF_A_SOURCE = 120
PENS = {
    "blue": (30, 60, 150),
    "green": (20, 110, 70),
    "black": (25, 25, 28),
    "red": (190, 30, 45),
    "violet": (90, 40, 130),
    "yellow": (235, 215, 60),
}


def pictures(data: Path) -> Iterator[tuple[str, float, Rgb]]:
    """Yield source, um per pixel and picture, uint8 (h, w, 3)."""
    for name, mpp in SLIDES.items():
        with Slide.open(data / "slides" / name, slide_mpp=mpp) as slide:
            rgb = slide.reader.read(0, 0, 0, *slide.size)
            for part in cut(rgb, round(128 / slide.mpp.x)):
                yield name, slide.mpp.x, part
    for pattern, mpp in PATCHES.items():
        files = sorted(data.glob(pattern))
        for file in files[:: max(1, len(files) // MOST_OF_A_SOURCE)]:
            rgb = np.asarray(Image.open(file).convert("RGB"))
            source = pattern.split("/")[0] if "he_tiles" not in pattern else file.stem[:7]
            for part in cut(rgb, round(128 / mpp)):
                yield source, mpp, part


def cut(rgb: Rgb, side: int) -> Iterator[Rgb]:
    """Yield squares of a side, or the whole of a smaller picture."""
    height, width = rgb.shape[:2]
    side_y, side_x = min(side, height), min(side, width)
    for y in range(0, height - side_y + 1, side_y):
        for x in range(0, width - side_x + 1, side_x):
            yield rgb[y : y + side_y, x : x + side_x]


def spoilt(rgb: Rgb, sigma_px: float, quality: int | None, seed: int) -> Rgb:
    """Blur, and then add noise and the artefacts of JPEG."""
    soft = np.stack(
        [ndimage.gaussian_filter(rgb[..., c].astype(np.float32), sigma_px) for c in range(3)], -1
    )
    if quality is None:
        return soft.round().clip(0, 255).astype(np.uint8)
    noisy = soft + np.random.default_rng(seed).normal(0, 4, soft.shape)
    data = io.BytesIO()
    Image.fromarray(noisy.round().clip(0, 255).astype(np.uint8)).save(data, "JPEG", quality=quality)
    return np.asarray(Image.open(data))


def softness(rgb: Rgb, mpp: float) -> tuple[float | None, float]:
    """Measure as the package does, at 0.5 um per pixel; and by `blur_effect` of scikit-image."""
    factor = max(1, round(0.5 / mpp))
    grey = np.asarray(Image.fromarray(rgb).reduce(factor)).mean(2, dtype=np.float32)
    um = mpp * factor
    return edge_softness(grey, um_x=um, um_y=um), float(blur_effect(grey))


def has_stain(rgb: Rgb) -> bool:
    """Tell whether a place counts as one with tissue."""
    return bool((optical_density(rgb, glass_colour(rgb)).max(0) > STAINED).mean() >= 0.05)


def print_focus(places: list[tuple[str, float, Rgb]]) -> None:
    """Print how soft edges are by source, and by how much everything was spoilt."""
    print("| source | places | judged | softness, um: 2 %, median, 98 % | above 1.5 um |")
    print("|---|---|---|---|---|")
    for source in dict.fromkeys(name for name, _, _ in places):
        found = [softness(rgb, mpp)[0] for name, mpp, rgb in places if name == source]
        judged = np.array([one for one in found if one is not None])
        spread = ", ".join(f"{one:.2f}" for one in np.percentile(judged, [2, 50, 98]))
        above = f"{100 * (judged > SOFT_UM).mean():.1f} %"
        print(f"| {source} | {len(found)} | {len(judged)} | {spread} | {above} |")
    print("\n| spoilt by | judged | softness, um: 2 %, median, 98 % | above 1.5 um | blur_effect |")
    print("|---|---|---|---|---|")
    for quality in (None, 50):
        for sigma in SIGMAS_UM:
            both = [
                softness(spoilt(rgb, sigma / mpp, quality, n), mpp)
                for n, (_, mpp, rgb) in enumerate(places)
            ]
            judged = np.array([one for one, _ in both if one is not None])
            effect = np.array([other for one, other in both if one is not None])
            spread, effects = (
                ", ".join(f"{one:.2f}" for one in np.percentile(values, [2, 50, 98]))
                for values in (judged, effect)
            )
            how = f"{sigma} um" + (f", noise, JPEG {quality}" if quality else "")
            share = f"{100 * (judged > SOFT_UM).mean():.1f} %"
            print(f"| {how} | {len(judged)} of {len(both)} | {spread} | {share} | {effects} |")


def print_colours(places: list[tuple[str, float, Rgb]]) -> None:
    """Print saturation, clipping and stain by source."""
    print(
        "\n| source | saturation | clipped, most | green most, least | brown, most | looks like |"
    )
    print("|---|---|---|---|---|---|")
    for source in dict.fromkeys(name for name, _, _ in places):
        rows, likes = [], set()
        for rgb in (rgb for name, _, rgb in places if name == source):
            pixels = rgb[optical_density(rgb, glass_colour(rgb)).max(0) > STAINED]
            factor = max(1, min(4, min(rgb.shape[:2]) // 40))
            stain = stain_of(np.asarray(Image.fromarray(rgb).reduce(factor)))
            if stain.green_most is None or stain.brown is None:
                continue
            low, high = pixels.min(1), pixels.max(1)
            saturation = np.median((high - low) / np.maximum(high, 1))
            clipped = ((low == 0) | (high == 255)).mean()
            rows.append((saturation, clipped, stain.green_most, stain.brown))
            likes.add(stain.doubt or "H&E")
        values = np.array(rows)
        low, middle, high = np.percentile(values[:, 0], [2, 50, 98])
        print(
            f"| {source} | {low:.2f}, {middle:.2f}, {high:.2f} | {values[:, 1].max():.3f} "
            f"| {values[:, 2].min():.2f} | {values[:, 3].max():.3f} | {', '.join(sorted(likes))} |"
        )


def print_pens(data: Path) -> None:
    """Print what is found of strokes of known size on real slides."""
    print("\n| slide | " + " | ".join(["no pen", *PENS]) + " |")
    print("|---" * (len(PENS) + 2) + "|")
    for name, mpp in SLIDES.items():
        with Slide.open(data / "slides" / name, slide_mpp=mpp) as slide:
            rgb = slide.reader.read(0, 0, 0, *slide.size)
            cells = [f"{pen_at_8_um(rgb, slide.mpp.x)[0]:.3f}"]
            for colour in PENS.values():
                drawn, true = stroke(rgb, slide.mpp.x, colour)
                found, beside = pen_at_8_um(drawn, slide.mpp.x)
                cells.append(f"{found:.3f} of {true:.3f}, {100 * (beside or 0):.0f} %")
        print(f"| {name} | " + " | ".join(cells) + " |")


def stroke(rgb: Rgb, mpp: float, colour: tuple[int, int, int]) -> tuple[Rgb, float]:
    """Draw a translucent stroke of 60 um across a picture; return its share of the area, too."""
    height, width = rgb.shape[:2]
    line = Image.new("L", (width, height))
    points = [
        (0.2 * width, 0.15 * height),
        (0.45 * width, 0.5 * height),
        (0.8 * width, 0.8 * height),
    ]
    ImageDraw.Draw(line).line(points, fill=255, width=round(60 / mpp), joint="curve")
    inside = np.asarray(line)[..., None] / np.float32(255)
    # A marker's ink filters the light that the tissue lets through.
    inked = rgb.astype(np.float32) * np.array(colour, np.float32) / 245
    drawn = (rgb * (1 - inside) + inked * inside).round().clip(0, 255).astype(np.uint8)
    return drawn, float(inside.mean())


def pen_at_8_um(rgb: Rgb, mpp: float) -> tuple[float, float | None]:
    """Look for marks as the package does."""
    factor = round(8 / mpp)
    small, um = np.asarray(Image.fromarray(rgb).reduce(factor)), mpp * factor
    found = stained_tissue(small, mpp_x=um, mpp_y=um)
    return pen_shares(Seen(small, found.mask, found.marked, um, um))


def main() -> None:
    """Print all tables."""
    data = Path(sys.argv[1])
    places = [(name, mpp, rgb) for name, mpp, rgb in pictures(data) if has_stain(rgb)]
    print_pens(data)
    print_colours(places)
    print_focus(places)


if __name__ == "__main__":
    main()
