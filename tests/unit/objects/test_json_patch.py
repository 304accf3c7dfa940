"""RFC 6902: each example of its appendix A, and what holds for every patch."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitkube.objects.patch.errors import PatchError
from gitkube.objects.patch.json_patch import MAX_OPERATIONS, apply_json_patch, parse_pointer

# (section, document, patch, result)
APPENDIX_A: list[tuple[str, Any, Any, Any]] = [
    ("A.1", {"foo": "bar"}, [{"op": "add", "path": "/baz", "value": "qux"}], {"baz": "qux", "foo": "bar"}),
    (
        "A.2",
        {"foo": ["bar", "baz"]},
        [{"op": "add", "path": "/foo/1", "value": "qux"}],
        {"foo": ["bar", "qux", "baz"]},
    ),
    ("A.3", {"baz": "qux", "foo": "bar"}, [{"op": "remove", "path": "/baz"}], {"foo": "bar"}),
    ("A.4", {"foo": ["bar", "qux", "baz"]}, [{"op": "remove", "path": "/foo/1"}], {"foo": ["bar", "baz"]}),
    ("A.5", {"baz": "qux"}, [{"op": "replace", "path": "/baz", "value": "boo"}], {"baz": "boo"}),
    (
        "A.6",
        {"foo": {"bar": "baz", "waldo": "fred"}, "qux": {"corge": "grault"}},
        [{"op": "move", "from": "/foo/waldo", "path": "/qux/thud"}],
        {"foo": {"bar": "baz"}, "qux": {"corge": "grault", "thud": "fred"}},
    ),
    (
        "A.7",
        {"foo": ["all", "grass", "cows", "eat"]},
        [{"op": "move", "from": "/foo/1", "path": "/foo/3"}],
        {"foo": ["all", "cows", "eat", "grass"]},
    ),
    (
        "A.8",
        {"baz": "qux", "foo": ["a", 2, "c"]},
        [{"op": "test", "path": "/baz", "value": "qux"}, {"op": "test", "path": "/foo/1", "value": 2}],
        {"baz": "qux", "foo": ["a", 2, "c"]},
    ),
    (
        "A.10",
        {"foo": "bar"},
        [{"op": "add", "path": "/child", "value": {"grandchild": {}}}],
        {"foo": "bar", "child": {"grandchild": {}}},
    ),
    (
        "A.11",
        {"foo": "bar"},
        [{"op": "add", "path": "/baz", "value": "qux", "xyz": 123}],
        {"foo": "bar", "baz": "qux"},
    ),
    ("A.14", {"/": 9, "~1": 10}, [{"op": "test", "path": "/~01", "value": 10}], {"/": 9, "~1": 10}),
    (
        "A.16",
        {"foo": ["bar"]},
        [{"op": "add", "path": "/foo/-", "value": ["abc", "def"]}],
        {"foo": ["bar", ["abc", "def"]]},
    ),
]

# (document, patch, what the error must say)
REFUSED: list[tuple[Any, Any, str]] = [
    ({"baz": "qux"}, [{"op": "test", "path": "/baz", "value": "bar"}], "operation 0 (test '/baz')"),  # A.9
    ({"foo": "bar"}, [{"op": "add", "path": "/baz/bat", "value": "qux"}], "'/baz' does not exist"),  # A.12
    ({"/": 9, "~1": 10}, [{"op": "test", "path": "/~01", "value": "10"}], "another one"),  # A.15
    ({"a": 1}, [{"op": "test", "path": "/a", "value": True}], "another one"),
    ({"a": [1]}, [{"op": "add", "path": "/a/2", "value": 1}], "index 2 is outside of the list"),
    ({"a": [1]}, [{"op": "remove", "path": "/a/-"}], "behind the last element"),
    ({"a": [1]}, [{"op": "add", "path": "/a/01", "value": 1}], "'01' is no index"),
    ({"a": 1}, [{"op": "add", "path": "/b"}], "lacks 'value'"),
    ({"a": 1}, [{"op": "add", "path": "b", "value": 1}], "must start with a slash"),
    ({"a": 1}, [{"op": "add", "path": "/a~2b", "value": 1}], "followed by neither 0 nor 1"),
    ({"a": {"b": 1}}, [{"op": "move", "from": "/a", "path": "/a/b/c"}], "moved into itself"),
    ({"a": 1}, [{"op": "merge", "path": "/a", "value": 1}], "unknown operation"),
    ({"a": 1}, {"op": "add"}, "a list of operations, not an object"),
    ({"a": 1}, ["add"], "operation 0 is a string"),
]


@pytest.mark.parametrize(("section", "document", "patch", "result"), APPENDIX_A)
def test_the_examples_of_the_rfc(section: str, document: Any, patch: Any, result: Any) -> None:
    assert apply_json_patch(document, patch) == result


@pytest.mark.parametrize(("document", "patch", "words"), REFUSED)
def test_a_patch_that_cannot_be_done_says_why(document: Any, patch: Any, words: str) -> None:
    with pytest.raises(PatchError) as caught:
        apply_json_patch(document, patch)
    assert words in caught.value.message


def test_negative_indices_count_from_the_end_as_in_kubernetes() -> None:
    patch = [{"op": "add", "path": "/a/-1", "value": 3}, {"op": "remove", "path": "/a/-3"}]
    assert apply_json_patch({"a": [1, 2]}, patch) == {"a": [2, 3]}


def test_a_copy_is_independent_of_its_source() -> None:
    patch = [
        {"op": "copy", "from": "/a", "path": "/b"},
        {"op": "add", "path": "/b/x", "value": 1},
    ]
    assert apply_json_patch({"a": {}}, patch) == {"a": {}, "b": {"x": 1}}


def test_copies_that_double_the_document_are_stopped() -> None:
    patch = [{"op": "copy", "from": "/a", "path": "/a/-"}] * 40
    with pytest.raises(PatchError, match="larger than"):
        apply_json_patch({"a": [0]}, patch)


def test_too_many_operations_are_refused() -> None:
    with pytest.raises(PatchError, match="the limit is"):
        apply_json_patch({}, [{"op": "test", "path": "", "value": {}}] * (MAX_OPERATIONS + 1))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text("ab/~", max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text("ab/~", max_size=2), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(json_values, json_values)
def test_adding_then_testing_holds_and_changes_no_argument(document: Any, value: Any) -> None:
    whole = {"root": document}
    before = copy.deepcopy(whole)
    patch = [
        {"op": "add", "path": "/x~1~0", "value": value},
        {"op": "test", "path": "/x~1~0", "value": value},
    ]
    assert apply_json_patch(whole, patch) == {"root": document, "x/~": value}
    assert whole == before


@given(st.dictionaries(st.text("ab/~", min_size=1, max_size=3), st.integers(), min_size=1, max_size=4))
def test_moving_there_and_back_changes_nothing(document: dict[str, int]) -> None:
    name = next(iter(document))
    pointer = "/" + name.replace("~", "~0").replace("/", "~1")
    there_and_back = [
        {"op": "move", "from": pointer, "path": "/elsewhere"},
        {"op": "move", "from": "/elsewhere", "path": pointer},
    ]
    assert apply_json_patch(document, there_and_back) == document


@given(st.lists(st.text("ab~/01", max_size=3), max_size=4))
def test_a_pointer_reads_back_what_was_escaped(tokens: list[str]) -> None:
    pointer = "".join("/" + token.replace("~", "~0").replace("/", "~1") for token in tokens)
    assert parse_pointer(pointer) == tokens


@given(json_values, json_values)
def test_whatever_comes_is_done_or_refused_with_a_sentence(document: Any, patch: Any) -> None:
    try:
        apply_json_patch(document, patch)
    except PatchError as error:
        assert error.message
