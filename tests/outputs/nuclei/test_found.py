"""Nuclei measured and outlined: as scikit-image measures, and back to the same pixels."""

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from random_nuclei import CLASSES, disc, patch_of, random_patches
from skimage.measure import perimeter_crofton, regionprops

from wsi_sampath.errors import WsiError
from wsi_sampath.outputs.nuclei import canvas
from wsi_sampath.outputs.nuclei.found import FoundNuclei, NucleusSpec, found_nuclei, none_found
from wsi_sampath.outputs.nuclei.placed import place
from wsi_sampath.outputs.qupath.slide_shapes import PlaneToSlide

SPEC = NucleusSpec(0.5, 0.5, len(CLASSES))
SEEDS = st.integers(0, 2**32 - 1)


def masks(patches):
    """Yield patch, id and mask of each nucleus, in the order of `found_nuclei`."""
    for one in patches:
        for nucleus in np.unique(one.labels[one.labels > 0]).tolist():
            yield one, nucleus, one.labels == nucleus


def rasterised(shape, patch):
    rows, columns = patch.labels.shape
    x, y = np.meshgrid(np.arange(columns) + patch.x + 0.5, np.arange(rows) + patch.y + 0.5)
    return shapely.contains_xy(shape, x, y)


def columns_of(found):
    outlines = {name: getattr(found.outlines, name) for name in ("points", "rings", "parts")}
    measured = {name: getattr(found, name) for name in FoundNuclei.__dataclass_fields__}
    return {**measured, **outlines, "outlines": found.outlines.nuclei}


@settings(max_examples=15, deadline=None)
@given(seed=SEEDS)
def test_measurements_are_those_of_scikit_image(seed):
    patches = random_patches(seed)
    found = found_nuclei(patches, SPEC)
    for index, (patch, nucleus, mask) in enumerate(masks(patches)):
        (region,) = regionprops(mask.astype(int))
        means = patch.values[:, mask].mean(axis=1)
        sums = patch.values[3:, mask].sum(axis=1, dtype=float)
        assert found.id[index] == nucleus
        assert found.pixels[index] == region.area
        assert found.area_um2[index] == region.area / 4
        expected = {
            "y": region.centroid[0] + patch.y + 0.5,
            "x": region.centroid[1] + patch.x + 0.5,
            "perimeter_um": perimeter_crofton(mask, 4) / 2,
            "major_axis_um": region.axis_major_length / 2,
            "minor_axis_um": region.axis_minor_length / 2,
            "mean_probability": means[0] / 255,
            "haematoxylin_od": means[1] / 100,
            "eosin_od": means[2] / 100,
            "label": sums.argmax() + 1,
            "class_probability": sums.max() / sums.sum(),
        }
        for name, value in expected.items():
            assert getattr(found, name)[index] == pytest.approx(value, abs=1e-6), name
    assert len(found) == len(list(masks(patches)))


@settings(max_examples=15, deadline=None)
@given(seed=SEEDS)
def test_outlines_are_valid_and_rasterise_back(seed):
    patches = random_patches(seed)
    shapes = found_nuclei(patches, SPEC).outlines.shapes()
    assert shapely.is_valid(shapes).all()
    for shape, (patch, _, mask) in zip(shapes, masks(patches), strict=True):
        assert shape.area == mask.sum()
        assert (rasterised(shape, patch) == mask).all()
        assert all(shapely.is_ccw(part.exterior) for part in shapely.get_parts(shape))


@settings(max_examples=10, deadline=None)
@given(seed=SEEDS, canvas_px=st.integers(1, 200))
def test_how_patches_are_gathered_changes_nothing(seed, canvas_px):
    patches = random_patches(seed)
    whole = found_nuclei(patches, SPEC)
    with pytest.MonkeyPatch.context() as patcher:
        patcher.setattr(canvas, "CANVAS_PX", canvas_px)
        batches = found_nuclei(patches, SPEC)
    calls = FoundNuclei.joined([found_nuclei([one], SPEC) for one in patches])
    backwards = whole.take(np.arange(len(whole))[::-1]).take(np.arange(len(whole))[::-1])
    for other in (batches, calls, backwards):
        for name, column in columns_of(whole).items():
            np.testing.assert_array_equal(columns_of(other)[name], column, strict=True)


@settings(max_examples=15, deadline=None)
@given(seed=SEEDS, tolerance=st.sampled_from([0.3, 0.8, 2.0]))
def test_simplified_outlines_stay_valid_near_and_there(seed, tolerance):
    patches = random_patches(seed)
    exact = found_nuclei(patches, SPEC)
    found = found_nuclei(patches, NucleusSpec(0.5, 0.5, len(CLASSES), tolerance))
    shapes, before = found.outlines.shapes(), exact.outlines.shapes()
    assert shapely.is_valid(shapes).all()
    assert (shapely.area(shapes) > 0).all()
    distance = shapely.hausdorff_distance(shapely.boundary(shapes), shapely.boundary(before))
    assert distance.max() <= 2 * tolerance
    assert len(found.outlines.points) <= len(exact.outlines.points)
    assert (found.pixels == exact.pixels).all()


def test_a_simplified_disc_has_fewer_corners():
    patch = patch_of(disc(12))
    exact, rough = (found_nuclei([patch], NucleusSpec(1, 1, 1, px)) for px in (0, 0.8))
    assert len(rough.outlines.points) < 0.6 * len(exact.outlines.points)
    assert rough.outlines.shapes()[0].area == pytest.approx(patch.labels.sum(), rel=0.05)


@pytest.mark.parametrize("center", [0.0, 0.5])
def test_a_disc_is_round(center):
    found = found_nuclei([patch_of(disc(radius, center=center)) for radius in (9.4, 15, 30)], ONE)
    assert found.circularity.min() > 0.94
    assert found.circularity.max() <= 1
    np.testing.assert_allclose(found.major_axis_um, [9.4, 15, 30], rtol=0.02)
    np.testing.assert_allclose(found.perimeter_um, np.pi * found.major_axis_um, rtol=0.03)


def test_a_disc_is_round_where_pixels_are_not_square():
    found = found_nuclei([patch_of(disc(20, stretch=2))], NucleusSpec(1.0, 0.5))
    assert found.circularity[0] == pytest.approx(1, abs=0.03)
    assert found.major_axis_um[0] == pytest.approx(40, rel=0.01)
    assert found.minor_axis_um[0] == pytest.approx(40, rel=0.01)
    assert found.area_um2[0] == pytest.approx(np.pi * 400, rel=0.01)


ONE = NucleusSpec(0.5, 0.5)


@pytest.mark.parametrize(
    ("rows", "n_parts", "n_holes"),
    [
        (["#.", ".#"], 2, 0),
        (["###", "#.#", "###"], 1, 1),
        (["##.", "#.#", "###"], 1, 1),
        (["####", "#.##", "##.#", "####"], 1, 2),
        (["###..", "#.#..", "###..", "...##"], 2, 1),
    ],
)
def test_corners_that_touch(rows, n_parts, n_holes):
    labels = np.array([[one == "#" for one in row] for row in rows], np.uint32)
    (shape,) = found_nuclei([patch_of(labels)], ONE).outlines.shapes()
    assert shape.geom_type == ("Polygon" if n_parts == 1 else "MultiPolygon")
    assert shapely.get_num_geometries(shape) == n_parts
    assert shapely.get_num_interior_rings(shapely.get_parts(shape)).sum() == n_holes
    assert shape.is_valid


def test_the_first_of_equal_classes_and_no_class_at_all():
    patch = patch_of([[1, 2]], n_classes=3)
    patch.values[3:] = [[[0, 9]], [[0, 9]], [[0, 0]]]
    found = found_nuclei([patch], SPEC)
    assert found.label.tolist() == [1, 1]
    assert found.class_probability.tolist() == [0, 0.5]


def test_one_class_is_as_probable_as_the_foreground():
    found = found_nuclei([patch_of([[7]])], ONE)
    assert (found.label[0], found.class_probability[0], found.mean_probability[0]) == (1, 1, 1)


@pytest.mark.parametrize("patches", [[], [patch_of(np.zeros((3, 2)))]])
def test_nothing_gives_no_nuclei(patches):
    found = found_nuclei(patches, ONE)
    assert len(found) == len(found.outlines) == 0
    assert len(place(found, PlaneToSlide(1, 1, 0, 0, 1, 1)).shapes) == 0
    assert len(FoundNuclei.joined([none_found(), found])) == 0


@pytest.mark.parametrize(("dtype", "n_classes"), [(np.int32, 1), (np.uint32, 3)])
def test_a_patch_of_another_kind_is_refused(dtype, n_classes):
    patch = patch_of([[1]])
    object.__setattr__(patch, "labels", patch.labels.astype(dtype))
    with pytest.raises(WsiError, match="bad-input: a patch has"):
        found_nuclei([patch], NucleusSpec(1, 1, n_classes))


@settings(max_examples=12, deadline=None)
@given(
    seed=SEEDS,
    scale=st.sampled_from([0.05, 0.4, 1.0, 0.9929, 4.0003]),
    tolerance=st.sampled_from([0.0, 1.0]),
)
def test_on_the_slide_every_outline_is_valid_and_rounded(seed, scale, tolerance):
    found = found_nuclei(random_patches(seed), NucleusSpec(0.5, 0.5, 3, tolerance))
    edge = scale * 120.003
    placed = place(found, PlaneToSlide(scale, scale * 1.1, 7.777, -3, 0.25, 0.25, edge, edge))
    assert len(placed) == len(placed.shapes) == len(found)
    assert shapely.is_valid(placed.shapes).all()
    assert not shapely.is_empty(placed.shapes).any()
    points = shapely.get_coordinates(placed.shapes)
    np.testing.assert_array_equal(points, points.round(2))
    np.testing.assert_allclose(placed.centers_px[:, 0], found.x * scale + 7.777)


def test_outlines_end_at_the_edge_of_the_slide_unless_nothing_is_left():
    found = found_nuclei([patch_of([[1, 1, 2]])], ONE)
    placed = place(found, PlaneToSlide(1, 1, 0, 0, 1, 1, limit_x=1.5))
    assert [one.bounds for one in placed.shapes] == [(0, 0, 1.5, 1), (2, 0, 3, 1)]


def test_pixels_too_small_for_outlines_are_refused():
    with pytest.raises(WsiError, match="too small for outlines"):
        place(none_found(), PlaneToSlide(1, 0.01, 0, 0, 1, 1))
