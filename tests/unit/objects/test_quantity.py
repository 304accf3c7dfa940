"""Amounts of resources are exact, and printed as Kubernetes prints them."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitkube.objects.quantity import (
    FORMAT_MESSAGE,
    MAX_VALUE,
    NUMBER_MESSAGE,
    SUFFIX_MESSAGE,
    Notation,
    Quantity,
    QuantityError,
    canonical,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1", "1"), ("1000m", "1"), ("1.5", "1500m"), ("0.1", "100m"), (".5", "500m"), ("5.", "5"),
        ("0", "0"), ("0.000", "0"), ("+1k", "1k"), ("1000k", "1M"), ("1e3", "1e3"), ("10e2", "1e3"),
        ("1E", "1E"), ("0.5Gi", "512Mi"), ("1024Ki", "1Mi"), ("1000Ki", "1000Ki"), ("1024", "1024"),
        ("1.5Ki", "1536"), ("1.1Ki", "1126400m"), ("-1.5Gi", "-1536Mi"), ("0.1n", "1n"), ("1e-20", "1e-9"),
        ("9e30", str(MAX_VALUE)), ("16Ei", str(MAX_VALUE)), (2, "2"), (0.5, "500m"), (1500, "1500"),
    ],
)  # fmt: skip
def test_canonical_text_is_that_of_kubernetes(text: object, expected: str) -> None:
    assert canonical(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", FORMAT_MESSAGE), ("abc", FORMAT_MESSAGE), ("1 ", FORMAT_MESSAGE), ("--1", FORMAT_MESSAGE),
        ("1GiB", FORMAT_MESSAGE), (True, FORMAT_MESSAGE), (None, FORMAT_MESSAGE), ("1" * 300, FORMAT_MESSAGE),
        ("1KiKi", SUFFIX_MESSAGE), ("1e", SUFFIX_MESSAGE), ("1e+", SUFFIX_MESSAGE), ("1m5", SUFFIX_MESSAGE),
        ("Ki", NUMBER_MESSAGE), (".", NUMBER_MESSAGE),
    ],
)  # fmt: skip
def test_what_is_no_quantity_is_refused_in_kubernetes_words(text: object, message: str) -> None:
    with pytest.raises(QuantityError) as refusal:
        Quantity.parse(text)
    assert str(refusal.value) == message


def test_an_exponent_of_a_billion_costs_nothing() -> None:
    assert canonical("1e1000000000") == str(MAX_VALUE)


@given(st.integers(-(MAX_VALUE // 2), MAX_VALUE // 2), st.sampled_from(list(Notation)))
def test_canonical_text_means_the_same_amount(nanos: int, notation: Notation) -> None:
    quantity = Quantity(nanos, notation)
    again = Quantity.parse(str(quantity))
    assert again == quantity
    assert str(again) == str(quantity)


@given(st.integers(0, 10**12), st.integers(0, 9), st.sampled_from(["", "m", "k", "Mi", "G", "e3", "e-3"]))
def test_no_precision_is_lost_down_to_the_nano(whole: int, tenth: int, suffix: str) -> None:
    scale = {
        "": 1,
        "m": Fraction(1, 1000),
        "k": 1000,
        "Mi": 2**20,
        "G": 10**9,
        "e3": 1000,
        "e-3": Fraction(1, 1000),
    }
    exact = (whole + Fraction(tenth, 10)) * scale[suffix] * 10**9
    assert Quantity.parse(f"{whole}.{tenth}{suffix}").nanos == min(exact, MAX_VALUE * 10**9)


@given(st.integers(-(10**15), 10**15), st.integers(-(10**15), 10**15))
def test_sums_and_order_are_those_of_the_amounts(left: int, right: int) -> None:
    assert (Quantity(left) + Quantity(right)).nanos == left + right
    assert (Quantity(left) - Quantity(right)).nanos == left - right
    assert (Quantity(left) < Quantity(right)) == (left < right)


def test_whole_units_are_rounded_up_so_that_nothing_asks_for_too_little() -> None:
    assert Quantity.parse("1001u").milli == 2
    assert Quantity.parse("1500m").value == 2
    assert Quantity.parse("-1500m").value == -2


@given(st.text(max_size=12))
def test_any_text_is_a_quantity_or_refused(text: str) -> None:
    try:
        quantity = Quantity.parse(text)
    except QuantityError:
        return
    assert Quantity.parse(str(quantity)) == quantity
