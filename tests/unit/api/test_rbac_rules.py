"""What one rule allows and covers, in tables."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitkube.api.authorization import Attributes, User
from gitkube.api.rbac.rules import Rule, allows, compact, rule_of, uncovered

EVE = User("eve")


def rule(text: str) -> Rule:
    """`VERBS GROUPS RESOURCES [NAMES]`, or `VERBS PATHS`, words separated by commas, "" as `core`."""
    lists = [tuple("" if word == "core" else word for word in part.split(",")) for part in text.split()]
    if len(lists) == 2:
        return Rule(lists[0], paths=lists[1])
    return Rule(lists[0], lists[1], lists[2], lists[3] if len(lists) > 3 else ())


def asked(text: str) -> Attributes:
    """`VERB GROUP RESOURCE[/SUBRESOURCE] [NAME]` or `VERB /PATH`."""
    verb, *rest = text.split()
    if rest[0].startswith("/"):
        return Attributes(EVE, verb, path=rest[0])
    resource, _, subresource = rest[1].partition("/")
    name = rest[2] if len(rest) > 2 else ""
    group = "" if rest[0] == "core" else rest[0]
    return Attributes(EVE, verb, group, "v1", resource, subresource, "default", name)


ALLOWED = [
    ("get core pods", "get core pods x"), ("get,list core pods", "list core pods"),
    ("* core pods", "delete core pods x"), ("get * pods", "get metrics.k8s.io pods"),

    ("get core *", "get core secrets x"), ("get core *", "get core pods/log x"),
    ("get core pods/log", "get core pods/log x"),
    ("update apps */scale", "update apps deployments/scale web"),
    ("get core secrets a,b", "get core secrets b"), ("list core secrets a", "list core secrets a"),
    ("* * *", "impersonate core users jane"), ("get /metrics", "get /metrics"),
    ("get /logs/*", "get /logs/a"),
    ("get /logs/*", "get /logs/"), ("get /a*", "get /abc"), ("get *", "get /anything/at/all"),
    ("* /x/*", "delete /x/y/z"),
]  # fmt: skip

DENIED = [
    ("get core pods", "list core pods"), ("get core pods", "get apps pods x"),
    ("get core pods", "get core podss x"), ("get core pods", "get core pod x"),
    ("get core pod", "get core pods x"), ("get core pods", "get core pods/log x"),
    ("get core pods", "get core pods/exec x"), ("get core pods/log", "get core pods x"),
    ("get core pods/lo", "get core pods/log x"), ("get core pods/*", "get core pods/log x"),
    ("get core po*", "get core pods x"), ("g* core pods", "get core pods x"),
    ("get app* deployments", "get apps deployments x"),
    ("get core */log", "get core pods x"), ("update apps */scale", "update apps deployments web"),
    ("get core secrets a", "get core secrets b"), ("get core secrets a", "get core secrets"),
    ("list core secrets a", "list core secrets"), ("watch core secrets a", "watch core secrets"),
    ("* core secrets a", "list core secrets"), ("* core secrets a", "create core secrets"),
    ("* core secrets a", "deletecollection core secrets"), ("get core secrets *", "get core secrets a"),
    ("get core secrets a", "get core secrets ab"), ("get core secrets ab", "get core secrets a"),
    ("* * *", "get /metrics"), ("get *", "get core pods x"), ("get /metrics", "get /metrics/"),
    ("get /metrics", "get /metricsx"), ("get /metrics", "post /metrics"), ("get /logs/*", "get /logs"),
    ("get /lo*gs", "get /loXgs"), ("get */logs", "get /a/logs"), ("get core GET", "GET core pods x"),
    ("get core pods", "* core pods x"), ("get core pods", "get core * x"),
]  # fmt: skip


@pytest.mark.parametrize(("written", "question"), ALLOWED)
def test_a_rule_allows_what_it_says(written: str, question: str) -> None:
    assert allows(rule(written), asked(question))


@pytest.mark.parametrize(("written", "question"), DENIED)
def test_a_rule_allows_nothing_that_is_only_alike(written: str, question: str) -> None:
    assert not allows(rule(written), asked(question))


def test_a_rule_without_a_list_allows_nothing() -> None:
    star = ["*"]
    for written in (
        {}, {"verbs": star}, {"verbs": star, "apiGroups": star}, {"apiGroups": star},
        {"resources": star, "apiGroups": star}, {"verbs": None, "resources": None},
    ):  # fmt: skip
        for question in ("get core pods x", "get /metrics", "list core pods"):
            assert not allows(rule_of(written), asked(question))


words = st.sampled_from(["get", "list", "a", "b", "ab", "pods", "pods/log", "core", "apps"])
plain_rules = st.builds(
    Rule, *(st.lists(words, min_size=1, max_size=3).map(tuple) for _ in range(3)),
    st.lists(words, max_size=2).map(tuple),
)  # fmt: skip


@given(plain_rules, words, words, words, words)
def test_without_a_star_only_whole_words_match(
    written: Rule, verb: str, group: str, resource: str, name: str
) -> None:
    base, _, subresource = resource.partition("/")
    question = Attributes(EVE, verb, group, "v1", base, subresource, "default", name)
    expected = (
        verb in written.verbs
        and group in written.groups
        and resource in written.resources
        and (not written.names or name in written.names)
    )
    assert allows(written, question) is expected


@given(st.lists(plain_rules, max_size=4))
def test_rules_cover_themselves_and_nothing_covers_more_than_it_holds(held: list[Rule]) -> None:
    assert uncovered(held, held) == []
    more = Rule(("escalate",), ("x",), ("y",))
    assert uncovered(held, [more]) == [more]


COVERED = [
    (["* * *"], "get core pods"), (["get,list core pods,secrets"], "list core secrets"),
    (["get core secrets"], "get core secrets a"), (["get core secrets a,b"], "get core secrets b"),
    (["get apps *"], "get apps deployments/scale"), (["get apps */scale"], "get apps deployments/scale"),
    (["get /x/*"], "get /x/y"), (["* *"], "get /metrics"),
    (["get core pods", "list core pods"], "get,list core pods"),
]  # fmt: skip
UNCOVERED = [
    (["get core pods"], "list core pods", "list core pods"), ([], "get core pods", "get core pods"),
    (["get core secrets a"], "get core secrets", "get core secrets"),
    (["get core secrets a"], "get core secrets b", "get core secrets b"),
    (["get core pods"], "get core pods/exec", "get core pods/exec"),
    (["get core pods"], "* core pods", "* core pods"), (["* core pods"], "get * pods", "get * pods"),
    (["* * *"], "get /metrics", "get /metrics"), (["get /x/y"], "get /x/*", "get /x/*"),
    (["get core */log"], "get core *", "get core *"),
]  # fmt: skip


@pytest.mark.parametrize(("held", "wanted"), COVERED)
def test_what_is_held_covers_what_is_less(held: list[str], wanted: str) -> None:
    assert uncovered([rule(each) for each in held], [rule(wanted)]) == []


@pytest.mark.parametrize(("held", "wanted", "missing"), UNCOVERED)
def test_what_is_not_held_is_named(held: list[str], wanted: str, missing: str) -> None:
    assert uncovered([rule(each) for each in held], [rule(wanted)]) == [rule(missing)]


def test_missing_parts_are_told_in_kubernetes_words() -> None:
    parts = uncovered([rule("get core pods")], [rule("get,list core pods,secrets"), rule("get /a,/b")])
    assert [str(each) for each in compact(parts)] == [
        '{APIGroups:[""], Resources:["pods"], Verbs:["list"]}',
        '{APIGroups:[""], Resources:["secrets"], Verbs:["get" "list"]}',
        '{NonResourceURLs:["/a"], Verbs:["get"]}',
        '{NonResourceURLs:["/b"], Verbs:["get"]}',
    ]
