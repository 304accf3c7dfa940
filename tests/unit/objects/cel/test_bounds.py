"""No expression takes more than it may, whoever wrote it and whatever it looks at."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gitkube.objects.cel import (
    MAX_SOURCE_LENGTH,
    Budget,
    CelBudgetExceeded,
    CelError,
    CelSyntaxError,
    compile_expression,
)

VARIABLES = frozenset({"object"})
TOO_DEAR = [
    "lists.range(100000).all(x, lists.range(100000).all(y, x + y >= 0))",
    "object.items.all(a, object.items.all(b, object.items.all(c, a.size() + b.size() + c.size() > 0)))",
    "[object.text, object.text].map(a, [a + a, a + a].map(b, [b + b + b + b].map(c, c + c + c + c)))",
    "object.text.replace('', object.text)",
    "[object.text].map(x, object.items.map(y, x)).flatten().join(object.text)",
    "object.items.map(x, object.text.matches('(a*)*b' + object.text)).size() > 0",
    "lists.range(9223372036854775807).size()",
    "'%.99f %.99f'.format([1.0, 2.0]) + object.items.map(x, object.text.upperAscii()).join()",
    "object.items.map(x, object.items.map(y, [object.items, object.items])) == []",
    "lists.range(200000).sort().distinct().size()",
]
TOO_LARGE = [
    "(" * 3000 + "1" + ")" * 3000,
    "[" * 3000,
    "1" + " + 1" * 3000,
    "!" * 3000 + "true",
    "object" + ".a" * 3000,
    "object" + "[0]" * 3000,
    "{" * 3000,
    "x" * (MAX_SOURCE_LENGTH + 1),
    "object.all(x, " * 200 + "true" + ")" * 200,
    "(" * 40 + "1" + ("+1" * 90 + ")") * 40,
    "true ? 1 : " * 500 + "1",
]


@pytest.mark.parametrize("source", TOO_DEAR)
def test_what_costs_too_much_is_stopped(source: str) -> None:
    thing = {"items": ["abcdef"] * 2000, "text": "a" * 50_000}
    program = compile_expression(source, VARIABLES)
    with pytest.raises(CelBudgetExceeded):
        program.evaluate({"object": thing}, Budget())


@pytest.mark.parametrize("source", TOO_LARGE, ids=range(len(TOO_LARGE)))
def test_a_monstrous_text_is_refused_and_harms_nobody(source: str) -> None:
    with pytest.raises(CelSyntaxError):
        compile_expression(source, VARIABLES)


def test_a_long_chain_of_conditions_is_no_monster() -> None:
    program = compile_expression(" && ".join(["object == 1"] * 500), VARIABLES)
    assert program.evaluate({"object": 1}, Budget()) is True


def test_evaluations_share_a_budget() -> None:
    program = compile_expression("object.all(x, x > 0)", VARIABLES)
    budget = Budget(1000)
    spent = 0
    with pytest.raises(CelBudgetExceeded):
        for _ in range(1000):
            program.evaluate({"object": [1] * 10}, budget)
            spent += 1
    assert 5 < spent < 50


def test_what_one_evaluation_spends_is_spent_of_the_whole() -> None:
    whole = Budget(100)
    part = whole.part(30)
    part.spend(20)
    whole.settle(part)
    assert whole.left_units == 80
    with pytest.raises(CelBudgetExceeded):
        whole.part(30).spend(31)
    greedy = whole.part(1000)
    with pytest.raises(CelBudgetExceeded):
        greedy.spend(81)
    with pytest.raises(CelBudgetExceeded):
        whole.settle(greedy)


ATOMS = st.sampled_from(
    [
        "object",
        "1",
        "'a'",
        "[1, 'b']",
        "{'k': 1}",
        "null",
        "1.5",
        "2u",
        "b'x'",
        "true",
        "optional.of(1)",
        "int",
    ]
)
SHAPES = st.sampled_from(
    [
        "({0} + {1})",
        "({0} == {1})",
        "({0} < {1})",
        "({0} in {1})",
        "({0} && {1})",
        "{0}[{1}]",
        "{0}.map(x, {1})",
        "{0}.all(x, x == {1})",
        "({0} ? {1} : {0})",
        "size({0})",
        "{0}.split({1})",
        "dyn({0})",
        "{0}.?a.orValue({1})",
        "string({0})",
        "{0}.format([{1}])",
        "{0}.matches({1})",
        "duration({0})",
        "quantity({0})",
        "[{0}].sort()",
        "{0}.min()",
        "{0}.flatten()",
    ]
)
EXPRESSIONS = st.recursive(
    ATOMS, lambda inner: st.builds(lambda shape, a, b: shape.format(a, b), SHAPES, inner, inner), max_leaves=8
)


@given(source=EXPRESSIONS)
@settings(max_examples=300, deadline=None)
def test_nothing_but_its_own_errors_comes_out_of_an_expression(source: str) -> None:
    try:
        compile_expression(source, VARIABLES).evaluate({"object": {"a": [1, "x", None]}}, Budget(10_000))
    except CelError as error:
        assert error.message and "Traceback" not in error.message


@given(source=st.text(alphabet="ab01.,:?!+-*/%<>=&|()[]{}'\"\\ rux\n", max_size=40))
@settings(max_examples=300, deadline=None)
def test_any_text_is_read_or_refused(source: str) -> None:
    try:
        compile_expression(source, frozenset({"a", "b"}))
    except CelSyntaxError as error:
        assert error.message.startswith("ERROR: <input>:")
