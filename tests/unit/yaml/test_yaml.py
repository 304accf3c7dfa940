"""YAML 1.2's core schema, the caps, and positions that are right for whatever is written."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitkube.yaml import MAX_DEPTH, Document, YamlError, decode, parse


def value(text: str) -> Any:
    return parse(f"v: {text}\n")[0].data["v"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("no", "no"),
        ("yes", "yes"),
        ("on", "on"),
        ("y", "y"),
        ("true", True),
        ("False", False),
        ("TRUE", True),
        ("null", None),
        ("~", None),
        ("", None),
        ("Null", None),
        ("12", 12),
        ("-12", -12),
        ("+3", 3),
        ("0o14", 12),
        ("0x1F", 31),
        ("014", 14),
        ("1_000", "1_000"),
        ("1:30", "1:30"),
        ("12e3", 12000.0),
        ("1.5", 1.5),
        (".5", 0.5),
        ("1.", 1.0),
        ("1e3", 1000.0),
        ("2024-01-31", "2024-01-31"),
        ("0b11", "0b11"),
        ("'12'", "12"),
        ('"true"', "true"),
        ("!!str 12", "12"),
        ("!!int 12", 12),
        ("!!float 1", 1.0),
        ("! 5", "5"),
        ("1.2.3", "1.2.3"),
        ("-", None),
        ("=", "="),
        ("0o8", "0o8"),
        ("tru", "tru"),
    ],
)
def test_scalars_follow_the_core_schema(text, expected):
    if text == "-":
        assert parse("-\n")[0].data == [None]
        return
    found = value(text)
    assert found == expected and type(found) is type(expected)


@pytest.mark.parametrize(
    "text", [".inf", "-.Inf", ".nan", "1e999", "9223372036854775808", "1" * 5000, "!!binary aGk="]
)
def test_what_json_cannot_say_is_refused(text):
    with pytest.raises(YamlError) as caught:
        value(text)
    assert (caught.value.line, caught.value.column) == (1, 4)


def test_a_leading_zero_is_doubtful():
    document = parse("mode: 0644\n")[0]
    assert document.data == {"mode": 644}
    assert "0o644, or 420" in document.doubts[0].hint


def test_a_stream_may_hold_many_documents_and_empty_ones():
    assert [one.data for one in parse("---\na: 1\n---\n---\n# nothing\n---\nb: 2\n...\n")] == [
        {"a": 1},
        {"b": 2},
    ]


def test_a_mistake_in_the_last_document_is_seen():
    with pytest.raises(YamlError) as caught:
        parse("a: 1\n---\nb: [\n")
    assert caught.value.line == 3


def test_trailing_tabs_and_windows_line_ends_are_taken():
    assert parse("a: 1\t\r\nb: x # c\t\r\n")[0].data == {"a": 1, "b": "x"}


def test_aliases_and_merges_are_resolved_with_their_own_positions():
    document = parse("base: &b {x: 1, y: 2}\nuse:\n  <<: *b\n  y: 3\nsame: *b\n")[0]
    assert document.data["use"] == {"x": 1, "y": 3}
    assert document.data["same"] == {"x": 1, "y": 2}
    assert document.position(("use", "x")) == (1, 14)
    assert document.position(("use", "y")) == (4, 6)


def test_an_alias_inside_of_its_anchor_is_refused():
    with pytest.raises(YamlError, match="stands inside of what it names"):
        parse("a: &a [*a]\n")


def test_an_alias_bomb_is_stopped():
    levels = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    levels += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    with pytest.raises(YamlError, match="once its aliases are expanded"):
        parse("\n".join(levels) + "\n")


def test_depth_is_capped_before_libyaml_suffers():
    assert parse("[" * (MAX_DEPTH - 1) + "]" * (MAX_DEPTH - 1))
    with pytest.raises(YamlError, match="nested deeper than"):
        parse("[" * 100_000)


def test_an_image_with_a_tag_needs_no_quotes_in_a_flow_mapping():
    (document,) = parse("{name: web, image: registry.example.com:5000/web:1, args: [a:b, -p80:80]}")
    assert document.data == {
        "name": "web",
        "image": "registry.example.com:5000/web:1",
        "args": ["a:b", "-p80:80"],
    }


def test_a_file_that_is_not_utf8_names_the_line():
    with pytest.raises(YamlError) as caught:
        decode(b"a: 1\nb: \xff\n")
    assert (caught.value.line, caught.value.column) == (2, 4)


KEYS = (
    st.text(alphabet="abcdefgh-_ éß漢", min_size=1, max_size=8)
    .map(str.strip)
    .filter(bool)
    .map(lambda t: "k" + t)
)
SCALARS = st.one_of(
    st.integers(-(2**63), 2**63 - 1),
    st.booleans(),
    st.none(),
    st.text(alphabet="abc é漢\t\"'#:{}[]&*!|>%@`,\\\n", max_size=12),
    st.floats(allow_nan=False, allow_infinity=False),
)
TREES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=25,
)


def walk(node: Any, path: tuple[str | int, ...] = ()) -> Any:
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for step, item in items:
        yield (*path, step), item
        yield from walk(item, (*path, step))


def text_at(lines: list[str], position: tuple[int, int]) -> str:
    return lines[position[0] - 1][position[1] - 1 :]


def check_positions(document: Document, text: str) -> None:
    """At each position stands what the path names: JSON of a scalar, an opening bracket, the key."""
    lines = text.split("\n")
    for path, item in walk(document.data):
        written = text_at(lines, document.position(path))
        expected = (
            "{"
            if isinstance(item, dict)
            else "["
            if isinstance(item, list)
            else json.dumps(item, ensure_ascii=False)
        )
        assert written.startswith(expected)
        if isinstance(path[-1], str):
            assert text_at(lines, document.position(path, of_key=True)).startswith(
                json.dumps(path[-1], ensure_ascii=False)
            )


@given(st.dictionaries(KEYS, TREES, max_size=4), st.sampled_from([None, 1, 2]))
def test_positions_are_right_for_anything_written_as_json(data, indent):
    text = json.dumps(data, indent=indent, ensure_ascii=False)
    document = parse(text)[0]
    assert document.data == data
    check_positions(document, text)


def block(node: Any, indent: int) -> list[str]:
    """Block style, written by the simplest of writers."""
    pad = " " * indent
    lines = []
    if isinstance(node, dict) and node:
        for key, item in node.items():
            head = f"{pad}{json.dumps(key, ensure_ascii=False)}:"
            nested = isinstance(item, (dict, list)) and item
            lines += (
                [head, *block(item, indent + 2)]
                if nested
                else [f"{head} {json.dumps(item, ensure_ascii=False)}"]
            )
    elif isinstance(node, list) and node:
        for item in node:
            nested = isinstance(item, (dict, list)) and item
            lines += (
                [f"{pad}-", *block(item, indent + 2)]
                if nested
                else [f"{pad}- {json.dumps(item, ensure_ascii=False)}"]
            )
    return lines


@given(st.dictionaries(KEYS, TREES, min_size=1, max_size=4))
def test_positions_are_right_in_block_style(data):
    text = "\n".join(block(data, 0)) + "\n"
    document = parse(text)[0]
    assert document.data == data
    lines = text.split("\n")
    for path, item in walk(document.data):
        if not isinstance(item, (dict, list)):
            assert text_at(lines, document.position(path)) == json.dumps(item, ensure_ascii=False)
        if isinstance(path[-1], str):
            key = json.dumps(path[-1], ensure_ascii=False)
            assert text_at(lines, document.position(path, of_key=True)).startswith(key + ":")


@given(st.text(max_size=200))
def test_any_text_is_read_or_refused_at_a_line_that_exists(text):
    try:
        parse(text)
    except YamlError as error:
        ends = sum(text.count(end) for end in "\n\r\x85\u2028\u2029")
        assert 1 <= error.line <= ends + 1
        assert error.column >= 1
