"""The tracer: exact, seam-free, valid; simplified without gaps."""

import numpy as np
import pytest
import shapely
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.ndimage import gaussian_filter
from scipy.ndimage import label as connected

from wsi_sampath.errors import WsiError
from wsi_sampath.outputs.polygons import tiling
from wsi_sampath.outputs.polygons.tracer import PolygonTracer

CLASSES = 4
EXAMPLES = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def planes(lowest=0):
    sides = st.integers(1, 18)
    return st.tuples(sides, sides, st.integers(max(lowest, 1), CLASSES)).flatmap(
        lambda s: arrays(np.uint8, s[:2], elements=st.integers(lowest, s[2]))
    )


def scores_for(labels):
    rows, columns = np.indices(labels.shape)
    return ((rows * 37 + columns * 91 + labels * 13) % 256).astype(np.uint8)


def trace(labels, chops=(), **options):
    tracer = PolygonTracer(labels.shape[1], largest_label=CLASSES, **options)
    traced = []
    for rows in np.split(np.arange(len(labels)), chops):
        traced += tracer.append(labels[rows], scores_for(labels)[rows])
    return traced + tracer.finish()


def fingerprint(traced):
    return [(p.label, p.pixels, p.mean_score, p.polygon.wkb) for p in traced]


def rasterise(traced, shape):
    """Paint pixels whose centre lies in a polygon; also count how often each is painted."""
    y, x = np.indices(shape) + 0.5
    labels, times = np.zeros(shape, np.uint8), np.zeros(shape, int)
    for one in traced:
        inside = shapely.contains_xy(one.polygon, x, y)
        labels[inside] = one.label
        times += inside
    return labels, times


def count_regions(labels):
    return sum(connected(labels == value)[1] for value in range(1, CLASSES + 1))


def assert_exact(labels, traced):
    painted, times = rasterise(traced, labels.shape)
    np.testing.assert_array_equal(painted, labels)
    assert times.max(initial=0) <= 1
    assert len(traced) == count_regions(labels)
    for one in traced:
        assert shapely.is_valid(one.polygon), shapely.is_valid_reason(one.polygon)
        assert one.polygon.area == one.pixels
        assert one.polygon.exterior.is_ccw
        assert not any(ring.is_ccw for ring in one.polygon.interiors)
        for ring in (one.polygon.exterior, *one.polygon.interiors):
            assert_only_corners(shapely.get_coordinates(ring)[:-1])


def assert_only_corners(points):
    step = np.roll(points, -1, axis=0) - points
    assert ((step == 0).sum(axis=1) == 1).all()
    assert (step * np.roll(step, 1, axis=0) == 0).all()
    assert tuple(points[0])[::-1] == min((y, x) for x, y in points)


def spiral(size):
    plane = np.ones((size, size), np.uint8)
    row, column, dy, dx = 1, 0, 0, 1
    while True:
        free = 0
        while (
            0 <= row + 2 * dy < size
            and 0 <= column + 2 * dx < size
            and plane[row + 2 * dy, column + 2 * dx] == 1
        ):
            plane[row, column] = 2
            row, column, free = row + dy, column + dx, free + 1
        plane[row, column] = 2
        if free < 2:
            return plane
        dy, dx = dx, -dy


def nested(size):
    y, x = np.indices((size, size))
    depth = np.minimum(np.minimum(y, x), np.minimum(size - 1 - y, size - 1 - x))
    return (depth % 3).astype(np.uint8)


def pinches():
    # two rings whose inside and outside touch only at corners, and a chain of such rings
    ring = np.array([[0, 1, 1, 0], [1, 0, 1, 1], [1, 1, 0, 1], [1, 1, 1, 0]], np.uint8)
    return np.block([[ring, ring[::-1]], [ring.T, 2 * ring]])


def smooth(shape, seed, lowest=0, sigma=1.5):
    noise = np.random.default_rng(seed).standard_normal((CLASSES + 1, *shape))
    labels = gaussian_filter(noise, (0, sigma, sigma)).argmax(axis=0)
    return np.maximum(labels, lowest).astype(np.uint8)


ADVERSARIAL = {
    "checkerboard": (np.indices((12, 13)).sum(0) % 2 + 1).astype(np.uint8),
    "checkerboard on nothing": (np.indices((12, 13)).sum(0) % 2).astype(np.uint8),
    "single pixels": np.kron(np.eye(5, dtype=np.uint8), np.pad([[3]], 1).astype(np.uint8)),
    "diagonal": np.eye(9, dtype=np.uint8) + 1,
    "one pixel": np.ones((1, 1), np.uint8),
    "one class": np.full((9, 7), 2, np.uint8),
    "nothing": np.zeros((6, 7), np.uint8),
    "one row": np.array([[1, 1, 0, 2, 2, 1]], np.uint8),
    "one column": np.array([[1, 1, 0, 2, 2, 1]], np.uint8).T.copy(),
    "spiral": spiral(23),
    "nested": nested(25),
    "pinches": pinches(),
    "comb": np.where(np.arange(11) % 2, np.eye(14, 1, -13).astype(int), 1).astype(np.uint8),
    "hole at a corner": np.array([[1, 1, 1], [1, 2, 1], [1, 1, 2]], np.uint8),
    "stripes": np.tile(np.array([[1], [2], [1]], np.uint8), (4, 6)),
    "smooth": smooth((40, 50), 0),
}


@pytest.mark.parametrize("name", ADVERSARIAL)
@pytest.mark.parametrize("band_rows", [1, 4, 512])
def test_fixed_maps_are_exact(name, band_rows):
    labels = ADVERSARIAL[name]
    assert_exact(labels, trace(labels, band_rows=band_rows))


@EXAMPLES
@given(planes(), st.integers(1, 9))
def test_any_map_is_exact(labels, band_rows):
    assert_exact(labels, trace(labels, band_rows=band_rows))


@EXAMPLES
@given(planes(), st.lists(st.integers(0, 18), max_size=5), st.sampled_from([0.0, 1.0]))
def test_chopping_the_rows_changes_nothing(labels, chops, tolerance):
    options = {"simplify": tolerance, "band_rows": 4}
    whole = trace(labels, **options)
    assert fingerprint(trace(labels, sorted(chops), **options)) == fingerprint(whole)


@EXAMPLES
@given(planes(), st.integers(1, 9))
def test_exact_polygons_do_not_depend_on_the_band(labels, band_rows):
    banded, whole = trace(labels, band_rows=band_rows), trace(labels)
    assert sorted(fingerprint(banded)) == sorted(fingerprint(whole))


@EXAMPLES
@given(planes(), st.integers(0, 18), st.sampled_from([0.0, 1.0]))
def test_going_on_from_a_state_changes_nothing(labels, cut, tolerance):
    options = {"simplify": tolerance, "band_rows": 3}
    score = scores_for(labels)
    first = PolygonTracer(labels.shape[1], largest_label=CLASSES, **options)
    traced = first.append(labels[:cut], score[:cut])
    saved = {name: array.copy() for name, array in first.state().items()}
    assert all(array.dtype != object for array in saved.values())
    second = PolygonTracer.from_state(saved)
    traced += second.append(labels[cut:], score[cut:]) + second.finish()
    assert fingerprint(traced) == fingerprint(trace(labels, **options))


@EXAMPLES
@given(
    planes(),
    st.lists(st.integers(1, 2**32 - 1), min_size=CLASSES, max_size=CLASSES, unique=True),
    st.integers(0, 18),
    st.sampled_from([0.0, 1.0]),
)
def test_ids_of_32_bits_are_traced_like_classes(labels, ids, cut, tolerance):
    ids = np.array([0, *ids], np.uint32)
    score = scores_for(labels)
    first = PolygonTracer(labels.shape[1], largest_label=2**32 - 1, simplify=tolerance, band_rows=3)
    traced = first.append(ids[labels][:cut], score[:cut])
    second = PolygonTracer.from_state(first.state())
    traced += second.append(ids[labels][cut:], score[cut:]) + second.finish()
    expected = fingerprint(trace(labels, simplify=tolerance, band_rows=3))
    assert fingerprint(traced) == [(ids[label], *rest) for label, *rest in expected]


def test_neighbours_of_different_ids_that_end_in_the_same_byte_are_two():
    ids = np.array([[1, 257, 65537, 2**31 + 1]], np.uint32).repeat(2, axis=0)
    tracer = PolygonTracer(4, largest_label=2**32 - 1)
    traced = tracer.append(ids, np.zeros((2, 4), np.uint8)) + tracer.finish()
    assert sorted((one.label, one.pixels) for one in traced) == [(one, 2) for one in ids[0]]


def test_polygons_come_as_soon_as_they_are_final():
    labels = np.zeros((12, 8), np.uint8)
    labels[1:3, 1:3] = 1
    labels[1:12, 5] = 2
    tracer = PolygonTracer(8, largest_label=2, band_rows=4)
    early = tracer.append(labels[:8], scores_for(labels)[:8])
    assert [one.label for one in early] == [1]
    late = tracer.append(labels[8:], scores_for(labels)[8:]) + tracer.finish()
    assert [(one.label, one.pixels) for one in late] == [(2, 11)]


def test_only_open_regions_are_remembered():
    specks = (np.indices((4, 64)).prod(0) % 2).astype(np.uint8)
    specks[-1] = 0
    tracer = PolygonTracer(64, largest_label=1, band_rows=4)
    sizes = []
    for _ in range(5):
        tracer.append(specks, specks)
        sizes.append(sum(array.nbytes for array in tracer.state().values()))
    assert len(set(sizes)) == 1


def test_pixels_and_mean_score_belong_to_the_region():
    labels = np.array([[1, 1, 2], [0, 1, 2], [1, 0, 2]], np.uint8)
    score = np.arange(9, dtype=np.uint8).reshape(3, 3) * 10
    tracer = PolygonTracer(3, largest_label=2, band_rows=1)
    traced = tracer.append(labels, score) + tracer.finish()
    found = sorted((one.label, one.pixels, one.mean_score) for one in traced)
    assert found == [(1, 1, 60.0), (1, 3, 50 / 3), (2, 3, 50.0)]


def test_a_pinched_ring_is_a_shell_and_a_hole_that_touch():
    labels = np.array([[1, 1, 1], [1, 0, 1], [1, 1, 0]], np.uint8)
    (one,) = trace(labels)
    assert len(one.polygon.interiors) == 1
    assert one.polygon.exterior.intersection(one.polygon.interiors[0]).equals(shapely.Point(2, 2))


def assert_simplified(labels, traced, tolerance, *, whole):
    shapes = np.array([one.polygon for one in traced], object)
    exact = {(one.label, one.pixels, one.mean_score) for one in trace(labels)}
    assert {(one.label, one.pixels, one.mean_score) for one in traced} == exact
    assert len(shapes) == count_regions(labels)
    if len(shapes) == 0:
        return
    assert shapely.is_valid(shapes).all()
    areas = shapely.area(shapes)
    assert (areas > 0).all()
    assert shapely.coverage_is_valid(shapes)
    union = shapely.union_all(shapes)
    assert union.area == pytest.approx(areas.sum(), rel=1e-9)
    if whole:
        assert union.area == pytest.approx(labels.size, rel=1e-9)


TOLERANCES = st.sampled_from([0.3, 0.6, 0.75, 1.0, 1.5, 2.5, 6.0])


@EXAMPLES
@given(planes(), TOLERANCES, st.sampled_from([2, 5, 512]), st.sampled_from([4, 512]))
def test_simplified_neighbours_share_their_border(labels, tolerance, band_rows, side):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiling, "LARGEST_SIDE", side)
        traced = trace(labels, simplify=tolerance, band_rows=band_rows)
    assert_simplified(labels, traced, tolerance, whole=labels.min() > 0)


@settings(EXAMPLES, max_examples=60)
@given(st.integers(0, 10**6), TOLERANCES, st.sampled_from([5, 512]), st.floats(0.7, 4))
def test_simplified_smooth_maps_have_no_gap(seed, tolerance, band_rows, sigma):
    labels = smooth((35, 45), seed, lowest=1, sigma=sigma)
    traced = trace(labels, simplify=tolerance, band_rows=band_rows)
    assert_simplified(labels, traced, tolerance, whole=True)


@pytest.mark.parametrize("name", ADVERSARIAL)
@pytest.mark.parametrize("band_rows", [2, 512])
def test_fixed_maps_simplify_without_gaps(name, band_rows):
    labels = ADVERSARIAL[name]
    for tolerance in (0.75, 2.0):
        traced = trace(labels, simplify=tolerance, band_rows=band_rows)
        assert_simplified(labels, traced, tolerance, whole=labels.min() > 0)


def test_simplifying_drops_vertices_and_stays_near():
    labels = smooth((300, 300), 3, lowest=1, sigma=12)
    exact, simple = trace(labels), trace(labels, simplify=1.0)
    vertices = [
        sum(shapely.get_num_coordinates([p.polygon for p in one])) for one in (exact, simple)
    ]
    assert vertices[1] < vertices[0] / 3
    borders = [shapely.union_all([p.polygon.boundary for p in one]) for one in (exact, simple)]
    assert shapely.hausdorff_distance(*borders) <= 1.0 + 1e-9


def test_an_unsound_simplification_is_not_used(monkeypatch):
    """Where the geometry library lets lines cross, the exact lines are kept."""
    monkeypatch.setattr(shapely, "is_simple", lambda groups: np.zeros(len(groups), bool))
    labels = ADVERSARIAL["smooth"]
    shapes = [one.polygon.normalize() for one in trace(labels)]
    simple = [one.polygon.simplify(0).normalize() for one in trace(labels, simplify=2.0)]
    assert all(a.equals(b) for a, b in zip(shapes, simple, strict=True))


@pytest.mark.parametrize(
    ("labels", "score"),
    [
        (np.zeros((2, 5), np.uint8), np.zeros((2, 5), np.uint8)),
        (np.zeros((2, 4), np.uint8), np.zeros((3, 4), np.uint8)),
        (np.zeros(4, np.uint8), np.zeros(4, np.uint8)),
        (np.zeros((2, 4), np.int64), np.zeros((2, 4), np.uint8)),
        (np.zeros((2, 4), np.uint32), np.zeros((2, 4), np.uint8)),
        (np.full((2, 4), 3, np.uint8), np.zeros((2, 4), np.uint8)),
    ],
)
def test_rows_that_do_not_fit_are_refused(labels, score):
    with pytest.raises(WsiError) as caught:
        PolygonTracer(4, largest_label=2).append(labels, score)
    assert caught.value.reason == "bad-input"


@pytest.mark.parametrize(
    ("width", "options"),
    [
        (0, {"largest_label": 2}),
        (4, {"largest_label": 0}),
        (4, {"largest_label": 2**32}),
        (4, {"largest_label": 2, "band_rows": 0}),
        (4, {"largest_label": 2, "simplify": -1.0}),
        (4, {"largest_label": 2, "simplify": float("nan")}),
    ],
)
def test_settings_out_of_range_are_refused(width, options):
    with pytest.raises(WsiError) as caught:
        PolygonTracer(width, **options)
    assert caught.value.reason == "bad-input"


@pytest.mark.parametrize("band_rows", [33, 512])
def test_crowded_bands_are_simplified_in_small_tiles(band_rows, monkeypatch):
    labels = np.random.default_rng(1).integers(1, 5, (70, 90)).astype(np.uint8)
    labels[:, :20] = 1
    sides = []
    steps = tiling._steps
    monkeypatch.setattr(tiling, "_steps", lambda n, side: (sides.append(side), steps(n, side))[1])
    traced = trace(labels, simplify=1.0, band_rows=band_rows)
    assert max(sides[:2]) < tiling.LARGEST_SIDE
    assert_simplified(labels, traced, 1.0, whole=True)
