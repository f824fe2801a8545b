import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsi_sampath.training.task import learning_rate

counts = st.integers(1, 500)


@given(counts, counts, counts, st.floats(1e-6, 1))
def test_up_flat_and_down_in_steps(warm_up, until, gap, peak):
    first = warm_up + until
    drops = (first, first + gap)

    def rate(step):
        return learning_rate(step, peak, warm_up=warm_up, drops=drops)

    assert rate(0) == 0
    assert rate(warm_up) == rate(first - 1) == pytest.approx(peak)
    assert rate(first) == rate(first + gap - 1) == pytest.approx(peak / 10)
    assert rate(first + gap) == rate(10**6) == pytest.approx(peak / 100)
    rising = [rate(step) for step in range(warm_up + 1)]
    assert rising == sorted(rising)
    assert len(set(rising)) == len(rising)


def test_without_warm_up():
    assert learning_rate(0, 0.5, warm_up=0, drops=()) == 0.5


def test_drops_may_come_in_any_order():
    for step in (9, 10, 20, 30):
        one, other = (learning_rate(step, 1.0, warm_up=0, drops=d) for d in ((10, 30), (30, 10)))
        assert one == other
    assert learning_rate(15, 1.0, warm_up=0, drops=(30, 10)) == pytest.approx(0.1)
