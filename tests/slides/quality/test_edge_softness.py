"""The softness of edges is that of the blur that they went through, on paper and on tissue."""

import io

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from wsi_sampath.slides.quality.focus import edge_softness
from wsi_sampath.slides.quality.quality import SOFT_UM
from wsi_sampath.slides.slide import Slide

SIGMAS = (0, 0.5, 1, 1.5, 2, 3, 4)


def blurred(rgb, sigma_px):
    soft = [ndimage.gaussian_filter(rgb[..., c].astype(float), sigma_px) for c in range(3)]
    return np.stack(soft, -1).round().clip(0, 255).astype(np.uint8)


def jpeg(rgb, quality):
    data = io.BytesIO()
    Image.fromarray(rgb).save(data, "JPEG", quality=quality)
    return np.asarray(Image.open(data))


def softness(rgb, um=0.5):
    return edge_softness(rgb.mean(2, dtype=np.float32), um_x=um, um_y=um)


@pytest.fixture(scope="module")
def tissue(painted):
    """256 px of painted mucosa at 0.5 um."""
    with Slide.open(painted.path) as slide:
        return slide.read(x0=1400, y0=1100, width=256, height=256, mpp=0.5)


@pytest.mark.parametrize("sigma", [1.0, 1.5, 2.0, 3.0])
@pytest.mark.parametrize(("um_x", "um_y"), [(0.25, 0.25), (0.5, 0.5), (1.0, 1.0), (0.5, 0.25)])
def test_steps_have_the_softness_they_were_given(sigma, um_x, um_y):
    steps = np.where(np.arange(0, 192, um_x) // 24 % 2, 100.0, 200.0)
    row = ndimage.gaussian_filter1d(steps, sigma / um_x)
    grey = np.tile(row, (200, 1)).astype(np.float32)
    # Where pixels are a um wide, they soften the edges, too.
    assert edge_softness(grey, um_x=um_x, um_y=um_y) == pytest.approx(sigma, rel=0.12, abs=0.25)
    assert edge_softness(grey.T.copy(), um_x=um_y, um_y=um_x) == pytest.approx(
        edge_softness(grey, um_x=um_x, um_y=um_y), rel=0.01
    )


def test_softness_grows_with_blur_and_passes_the_limit_between_one_and_two_um(tissue):
    found = [softness(blurred(tissue, sigma / 0.5)) for sigma in SIGMAS]
    assert found == sorted(found)
    assert found[SIGMAS.index(1)] < SOFT_UM < found[SIGMAS.index(2)]


@pytest.mark.parametrize("quality", [50, 80])
def test_blocks_and_noise_do_not_sharpen(tissue, quality):
    noise = np.random.default_rng(3).normal(0, 4, tissue.shape)
    soft = (blurred(tissue, 5).astype(float) + noise).clip(0, 255).astype(np.uint8)
    assert softness(jpeg(soft, quality)) > SOFT_UM
    assert softness(jpeg(tissue, quality)) < SOFT_UM


@pytest.mark.parametrize("sigma", [0, 3])
def test_contrast_and_brightness_change_nothing(tissue, sigma):
    rgb = blurred(tissue, sigma / 0.5)
    pale = (200 + rgb.astype(float) / 5).round().astype(np.uint8)
    assert softness(pale) == pytest.approx(softness(rgb), abs=0.15)


def test_glass_and_smooth_places_are_not_judged():
    noise = np.random.default_rng(3).normal(0, 3, (256, 256, 3))
    assert softness(np.full((256, 256, 3), 240, np.uint8)) is None
    assert softness((240 + noise).astype(np.uint8)) is None
    ramp = np.linspace(180, 220, 256)[:, None, None] + noise
    assert softness(ramp.astype(np.uint8)) is None
    assert softness(np.zeros((1, 1, 3), np.uint8)) is None


def test_a_lone_edge_is_not_judged_and_many_are():
    lone = np.full((256, 256, 3), 235, np.uint8)
    lone[:, 100:] = 60
    assert softness(lone) is None
    rng, many = np.random.default_rng(0), np.full((256, 256, 3), 235, np.uint8)
    ys, xs = np.mgrid[:256, :256]
    for y, x in rng.uniform(8, 248, (40, 2)):
        many[(ys - y) ** 2 + (xs - x) ** 2 < 64] = 110
    assert softness(many) < 1.0
    assert softness(blurred(many, 3 / 0.5)) > SOFT_UM


@pytest.mark.parametrize(
    "pattern", ["nct_crc/[LMNST]*.tif", "he_tiles/histoqc*.png", "ocdc/images/*.jpg"]
)
def test_real_patches_are_sharp_until_they_are_blurred(data_folder, pattern):
    files = sorted(data_folder.glob(pattern))[:6]
    assert files
    pictures = [np.asarray(Image.open(file).convert("RGB"))[:256, :256] for file in files]
    # None is a picture that holds too few edges to be judged by.
    sharp = [found for rgb in pictures if (found := softness(rgb)) is not None]
    soft = [found for rgb in pictures if (found := softness(blurred(rgb, 3 / 0.5))) is not None]
    assert min(len(sharp), len(soft)) >= len(files) - 2
    assert max(sharp) < 1.2
    assert min(soft) > SOFT_UM
