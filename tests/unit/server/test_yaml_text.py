"""What is written as YAML says the same as the JSON that it was made of, to every parser."""

from __future__ import annotations

from typing import Any

import pytest
import yaml as yaml_1_1
from hypothesis import given
from hypothesis import strategies as st

from gitkube import yaml
from gitkube.server.yaml_text import to_yaml

SCALARS = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text()
KEYS = st.text(min_size=1, max_size=12)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4)
)


def test_an_object_looks_as_kubectl_prints_it() -> None:
    obj: dict[str, Any] = {
        "kind": "ConfigMap",
        "apiVersion": "v1",
        "metadata": {"name": "a", "labels": {}, "finalizers": ["x.org/y"]},
        "data": {"on": "no", "n": "1", "script": "#!/bin/sh\necho a: b\n", "empty": ""},
    }
    assert to_yaml(obj).decode() == (
        "apiVersion: v1\n"
        "data:\n"
        '  empty: ""\n'
        '  "n": "1"\n'
        '  "on": "no"\n'
        "  script: |\n"
        "    #!/bin/sh\n"
        "    echo a: b\n"
        "kind: ConfigMap\n"
        "metadata:\n"
        "  finalizers:\n"
        "  - x.org/y\n"
        "  labels: {}\n"
        "  name: a\n"
    )


@given(st.dictionaries(KEYS, VALUES, min_size=1, max_size=5))
def test_our_own_reader_reads_what_was_written(value: dict[str, Any]) -> None:
    assert yaml.parse(yaml.decode(to_yaml(value)))[0].data == value


@given(st.dictionaries(KEYS, VALUES, min_size=1, max_size=5))
def test_a_reader_of_yaml_1_1_reads_the_same(value: dict[str, Any]) -> None:
    assert yaml_1_1.safe_load(to_yaml(value)) == value


@pytest.mark.parametrize(
    "text", ["a\n", "a", "a\n\n", "\na", " a\nb", "a\n b", "a: b\n#c", "a\tb\nc", "a \n", "x\n\n\n"]
)
def test_lines_come_back_as_they_were(text: str) -> None:
    assert yaml_1_1.safe_load(to_yaml({"k": text, "l": [text, {"m": text}]})) == {
        "k": text,
        "l": [text, {"m": text}],
    }
