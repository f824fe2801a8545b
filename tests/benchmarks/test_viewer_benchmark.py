"""The viewer's benchmark asks for what there is."""

import re
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import viewer  # noqa: E402

LEVELS = [
    {"width": 3000, "height": 700, "tile": [240, 300]},
    {"width": 200, "height": 100, "tile": [240, 300]},
]
MAPS = [{"width": 1500, "height": 350}]
PICTURES = viewer.Pictures(
    {
        "id": "s",
        "width": 3000,
        "height": 700,
        "levels": LEVELS,
        "results": [
            {"id": "r", "layers": [{"name": name, "levels": MAPS} for name in ("classes", "maps")]}
        ],
    }
)


@pytest.mark.parametrize("kind", PICTURES.kinds)
def test_views_lie_on_the_slide(kind):
    rng = np.random.default_rng(0)
    levels = LEVELS if kind == "slide" else MAPS
    seen = set()
    for path in [path for _ in range(40) for path in PICTURES.paths(kind, rng)]:
        if place := re.search(r"/(?:(\d)/)?(\d+)_(\d+)\.", path):
            level = levels[int(place[1] or 0)]
            wide, high = level.get("tile", (256, 256)) if place[1] else (2048, 2048)
            seen.add(place[0])
            assert int(place[2]) * wide < level["width"] * (1 if place[1] else 2)
            assert int(place[3]) * high < level["height"] * (1 if place[1] else 2)
        else:
            x, y = (float(one) for one in re.findall(r"[xy]=([\d.]+)", path)[:2])
            seen.add((x, y))
            assert 0 <= x < 3200
            assert 0 <= y < 900
    assert len(seen) > 1


def test_without_a_result_only_tiles_are_asked_for():
    assert viewer.Pictures({"results": []}).kinds == ("slide",)


def test_times_are_told_by_quantiles():
    row = viewer.row_of([0.001] * 19 + [0.1], 0.04)
    assert row["p50 ms"] == pytest.approx(1)
    assert row["server CPU ms"] == pytest.approx(2)
    assert 1 < row["p95 ms"] < 100


def test_nothing_is_asked_for_twice():
    views = [["a", "b"], ["b", "c"], ["a", "d"]]
    assert viewer.dealt(views, 2) == [["a", "b", "d"], ["c"]]
    assert viewer.dealt(views, 1) == [["a", "b", "c", "d"]]
