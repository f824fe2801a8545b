import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from wsi_sampath.models.parts.frame import image_in_frame, points_in_frame, size_in_frame

sides = st.integers(1, 300)


@settings(deadline=None)
@given(sides, sides, st.integers(32, 256))
def test_the_longer_side_fills_the_frame(height, width, tile):
    size = size_in_frame((height, width), tile)
    assert max(size) == tile
    for side, own in zip(size, (height, width), strict=True):
        assert abs(side - own * tile / max(height, width)) <= 0.5 + 1e-9


@given(sides, sides, st.integers(32, 256))
def test_corners_stay_corners(height, width, tile):
    corners = np.array([[0, 0], [width, height]], np.float64)
    shrunk = size_in_frame((height, width), tile)
    expected = [[0, 0], [shrunk[1], shrunk[0]]]
    np.testing.assert_allclose(points_in_frame(corners, (height, width), tile), expected)


def test_an_image_that_fits_is_untouched():
    image = np.random.default_rng(0).integers(0, 256, (64, 40, 3), dtype=np.uint8)
    assert np.array_equal(image_in_frame(image, 64), image)
