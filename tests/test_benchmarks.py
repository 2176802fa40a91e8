"""benchmarks/speed: counts of arithmetic against counting, and the statistics of rounds."""

from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("matplotlib")

from benchmarks.speed import race, roofline, summary
from npgrad import at, mlp, networks

sizes = st.lists(st.integers(1, 4), min_size=2, max_size=4).map(tuple)
times = st.lists(st.floats(1e-7, 1e-2), min_size=1, max_size=9).map(np.array)


class Counted:
    """A number that counts the products and sums of two of its kind."""

    products = sums = 0

    def __mul__(self, other):
        Counted.products += isinstance(other, Counted)
        return Counted()

    def __add__(self, other):
        Counted.sums += isinstance(other, Counted)
        return Counted()

    __rmul__, __radd__ = __mul__, __add__


def counted(*shape):
    return np.array([Counted() for _ in range(np.prod(shape))], object).reshape(shape)


def operations(f):
    """(products, sums) of f()."""
    Counted.products = Counted.sums = 0
    f()
    return Counted.products, Counted.sums


def went_forward(sizes, B, d=0):
    """A network of Counted numbers after B rows went forward; d second inputs at its first layer.
    Memory that is set aside for numbers of a machine cannot hold them."""
    model = mlp(sizes, "identity", second=d)
    with mock.patch.object(networks, "aligned", np.empty):
        net = at(model, counted(model.layout.size))
        net.forward(counted(B, sizes[0]), u=counted(B, d) if d else None)
    return net


@given(sizes, st.integers(1, 4))
def test_forward__counts_every_product_and_sum(sizes, B):
    net, x = went_forward(sizes, B), counted(B, sizes[0])
    assert sum(operations(lambda: net.forward(x))) == roofline.forward(sizes, B).operations


@given(sizes, st.integers(1, 4))
def test_backward__counts_two_for_every_product(sizes, B):
    net, g = went_forward(sizes, B), counted(B, sizes[-1])
    products, _ = operations(lambda: net.backward(g))
    assert 2 * products == roofline.backward(sizes, B).operations


@given(sizes, st.integers(1, 4), st.integers(1, 3))
def test_inputs__counts_two_for_every_product(sizes, B, d):
    net, g = went_forward(sizes, B, d), counted(B, sizes[-1])
    products, _ = operations(lambda: net.backward_u(g))
    assert 2 * products == roofline.inputs((d, *sizes[1:]), B).operations


@given(sizes)
def test_parameters__are_those_of_the_model(sizes):
    assert roofline.parameters(sizes) == mlp(sizes).layout.size


@given(times, st.floats(0.01, 100.0), st.floats(0.01, 1.0))
def test_outcome__has_ratios_within_rounds(page, factor, share):
    """However much a round slows both sides."""
    measured = dict(torch=factor * page, page=page, environment=share * page)
    one = race.Race("any", lambda rounds: measured, leave_out=False)
    found = race.outcome(one, len(page))
    assert found["rows"]["torch"]["over"]["page"] == pytest.approx([factor] * 3, rel=1e-3)
    assert race.limit(found["rows"]) == found["rows"]["environment"]["microseconds"][0]


@given(times, st.floats(0.01, 100.0), st.floats(0.01, 0.9))
def test_compared__has_ours_theirs_ratio_and_limit(page, factor, share):
    """Where the page takes longer than its environment alone."""
    measured = {"torch lean": factor * page, "page": page, "environment": share * page}
    results = {"any": race.outcome(race.Race("any", lambda rounds: measured), len(page))}
    ((setting, ours, theirs, y, x, ratio, bound),) = summary.compared(results)
    assert (setting, ours, theirs) == ("any", "page", "torch lean")
    assert x / y == pytest.approx(factor, rel=2e-3) and ratio[0] == pytest.approx(factor, rel=1e-3)
    assert bound == pytest.approx(factor / share, rel=2e-3)


@given(times)
def test_interval__holds_the_median_and_is_held_by_the_extremes(x):
    middle, low, high = race.interval(x)
    assert low <= middle <= high
    assert middle == pytest.approx(np.median(x), rel=1e-3)
    assert x.min() * (1 - 1e-3) <= low and high <= x.max() * (1 + 1e-3)


@given(st.integers(1, 5), st.integers(1, 4))
def test_rounds__give_every_contestant_a_turn_each_and_one_to_warm_up(rounds, contestants):
    log = []
    turns = {str(k): lambda k=k: log.append(k) or 1 for k in range(contestants)}
    found = race.rounds_of(turns, rounds)
    assert all(t.shape == (rounds,) for t in found.values())
    each = np.sort(np.reshape(log, (rounds + 1, contestants)), 1)
    assert (each == np.arange(contestants)).all()


@given(st.floats(1.5, 900.0), st.floats(0.1, 2.0))
def test_crossing__is_where_a_power_law_passes_1(at, power):
    value = 2.0 ** np.arange(11)
    ratio = (value / at) ** -power
    assert race.crossing(list(zip(value, ratio))) == pytest.approx(at)
    assert race.crossing(list(zip(value, 1 / ratio))) is None  # below 1 from the first on
