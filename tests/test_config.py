"""Ranges of hyper-parameters: an annotation says what is allowed, and nothing else gets through."""

import re
from dataclasses import dataclass
from decimal import Decimal
from math import inf, isnan, nan
from typing import Annotated, Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from algorithms.common.config import (
    PRECISIONS,
    BelowOne,
    Count,
    Limit,
    NonNegative,
    OptimizerName,
    Positive,
    Precision,
    Range,
    Unit,
    WholeNumber,
    check,
    ranges,
    widths,
)
from npgrad import OPTIMIZERS

# name: (whether x is allowed, what the error says is)
FLOATS = dict(
    unit=(lambda x: 0 <= x <= 1, "in [0, 1]"),
    below_one=(lambda x: 0 <= x < 1, "in [0, 1)"),
    non_negative=(lambda x: 0 <= x < inf, "at least 0"),
    positive=(lambda x: 0 < x < inf, "above 0"),
    limit=(lambda x: 0 < x, "above 0"),
    signed=(lambda x: -1 < x <= 2.5, "in (-1, 2.5]"),
)
WHOLE = dict(
    count=(lambda x: 1 <= x < 2**63, "at least 1"), whole=(lambda x: 0 <= x < 2**63, "at least 0")
)


@dataclass(frozen=True)
class Everything:
    unit: Unit = 0.5
    below_one: BelowOne = 0.5
    non_negative: NonNegative = 0.5
    positive: Positive = 0.5
    limit: Limit = inf
    signed: Annotated[float, Range(-1, 2.5, above=True)] = 0.5
    count: Count = 1
    whole: WholeNumber = 0
    maybe: Annotated[float | None, Range(0)] = None
    word: Literal["left", "right"] = "left"
    flag: bool = False
    free: object = None
    precision: Precision = "single"
    optimizer: OptimizerName = "sgd"

    __post_init__ = check


def refused(name, value, allowed):
    with pytest.raises(ValueError, match=re.escape(f"{name} = {value!r}: must be {allowed}")):
        Everything(**{name: value})


@given(st.sampled_from(sorted(FLOATS)), st.floats() | st.sampled_from((-1.0, 0.0, 1.0, 2.5)))
def test_check__a_number_within_its_range_and_no_other(name, x):
    within, allowed = FLOATS[name]
    if within(x):
        for value in (x, np.float64(x)):
            assert getattr(Everything(**{name: value}), name) == x
    else:
        refused(name, x, f"finite and {allowed}" if x == inf else allowed)


@given(st.sampled_from(sorted(WHOLE)), st.integers(-(2**70), 2**70))
def test_check__a_whole_number_of_any_size(name, k):
    within, allowed = WHOLE[name]
    if within(k):
        assert getattr(Everything(**{name: k}), name) == k
    else:
        refused(name, k, allowed if k < 2**63 else "below 2**63")


@given(st.sampled_from(sorted(WHOLE)), st.floats())
def test_check__no_float_is_a_whole_number(name, x):
    refused(name, x, f"whole and {WHOLE[name][1]}")


@pytest.mark.parametrize("name", [*FLOATS, *WHOLE])
@pytest.mark.parametrize("value", ["0.5", None, True, [0.5], Decimal("0.5"), 0.5j])
def test_check__only_a_number_is_a_number(name, value):
    with pytest.raises(ValueError, match=f"^{name} = "):
        Everything(**{name: value})


def test_check__numpys_whole_numbers_and_integers_as_floats():
    assert Everything(count=np.int64(3)).count == 3 and Everything(unit=1).unit == 1


@pytest.mark.parametrize("value", [None, 0.0, 3.5])
def test_check__none_where_the_annotation_says_so(value):
    assert Everything(maybe=value).maybe == value
    refused("maybe", -0.5, "at least 0")


@given(st.text("lefrigh", max_size=5) | st.sampled_from(("left", "right", 0, None, 1.5)))
def test_check__one_of_the_words(word):
    if word in ("left", "right"):
        assert Everything(word=word).word == word
    else:
        refused("word", word, "one of left, right")


@pytest.mark.parametrize("value", [0, 1, "True", None])
def test_check__a_flag_is_a_flag(value):
    refused("flag", value, "True or False")
    assert Everything(flag=np.True_).flag and not Everything(flag=False).flag


@given(st.sampled_from(sorted(FLOATS | WHOLE)), st.floats())
def test_range__contains_what_it_prints(name, x):
    """The words of an error and the range of a --help are read back as the same set."""
    _, allowed, *_ = ranges(Everything)[name]
    text = str(allowed)
    if text.startswith("in "):
        left, low, high, right = re.fullmatch(r"in ([\[(])(.*), (.*)([\])])", text).groups()
        above = x >= float(low) if left == "[" else x > float(low)
        expected = above and (x <= float(high) if right == "]" else x < float(high))
    else:
        word, low = text.rsplit(" ", 1)
        expected = x > float(low) if word == "above" else x >= float(low)
        expected = expected and (x < inf or name == "limit")
    assert (x in allowed) == expected and not (isnan(x) and x in allowed)


def test_ranges__are_those_of_the_annotations_and_of_nothing_else():
    found = ranges(Everything)
    assert set(found) == set(Everything.__dataclass_fields__) - {"free"}
    assert all(Everything(free=x).free is x for x in (None, "anything", nan))


def test_names__are_those_that_exist():
    for precision, dtype in PRECISIONS.items():
        assert Everything(precision=precision) and np.dtype(dtype).kind == "f"
    for name in OPTIMIZERS:
        assert Everything(optimizer=name).optimizer == name
    refused("optimizer", "lamb", f"one of {', '.join(OPTIMIZERS)}")
    refused("precision", "half", f"one of {', '.join(PRECISIONS)}")


@given(st.lists(st.integers(-2, 5) | st.just(2**63), max_size=3))
def test_widths__are_positive_integers(hidden):
    if hidden and 0 < min(hidden) <= max(hidden) < 2**63:
        assert widths(hidden) == tuple(hidden)
    else:
        with pytest.raises(ValueError, match=r"^hidden = .*: must be one or more positive integ"):
            widths(hidden)


@pytest.mark.parametrize("hidden", [(4.0,), ("4",), (True,), "44", 64, None])
def test_widths__names_what_is_no_list_of_integers(hidden):
    with pytest.raises(ValueError, match=r"^hidden = "):
        widths(hidden)
