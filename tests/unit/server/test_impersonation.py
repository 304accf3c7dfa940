"""Who may ask as somebody else, and who that then is."""

from __future__ import annotations

import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from gitkube.api.authorization import ANONYMOUS, Attributes, Decision, Rules, User
from gitkube.api.errors import StatusError
from gitkube.server.impersonation import impersonated

EVE = User("eve", ("system:authenticated",))


class Allowing:
    """Allows to impersonate what is listed as `GROUP/RESOURCE[/SUBRESOURCE]:NAMESPACE:NAME`; `*` is all."""

    def __init__(self, *allowed: str) -> None:
        self._allowed = allowed
        self.asked: list[str] = []

    def decide(self, attributes: Attributes) -> Decision:
        assert attributes.user == EVE and attributes.verb == "impersonate"
        resource = f"{attributes.group}/{attributes.resource}"
        resource += f"/{attributes.subresource}" if attributes.subresource else ""
        self.asked.append(f"{resource}:{attributes.namespace}:{attributes.name}")
        return Decision("*" in self._allowed or self.asked[-1] in self._allowed)

    def rules(self, user: User, namespace: str) -> Rules:
        return Rules()


def headers(*pairs: tuple[str, str]) -> CIMultiDictProxy[str]:
    return CIMultiDictProxy(CIMultiDict(pairs))


KNOWN = "system:authenticated"
IDENTITIES = [
    ([("Impersonate-User", "jane")], User("jane", (KNOWN,)), ["/users::jane"]),
    ([("impersonate-user", "jane"), ("impersonate-group", "a"), ("IMPERSONATE-GROUP", "b")],
     User("jane", ("a", "b", KNOWN)), ["/users::jane", "/groups::a", "/groups::b"]),
    ([("Impersonate-User", "system:serviceaccount:ns:bot")],
     User("system:serviceaccount:ns:bot", ("system:serviceaccounts", "system:serviceaccounts:ns", KNOWN)),
     ["/serviceaccounts:ns:bot"]),
    ([("Impersonate-User", "system:serviceaccount:x")], User("system:serviceaccount:x", (KNOWN,)),
     ["/users::system:serviceaccount:x"]),
    ([("Impersonate-User", "system:serviceaccount:a:b:c")], User("system:serviceaccount:a:b:c", (KNOWN,)),
     ["/users::system:serviceaccount:a:b:c"]),
    ([("Impersonate-User", "system:anonymous")], ANONYMOUS, ["/users::system:anonymous"]),
    ([("Impersonate-User", "jane"), ("Impersonate-Uid", "7"),
      ("Impersonate-Extra-Example.org%2FScopes", "view"), ("Impersonate-Extra-Example.org%2FScopes", "edit")],
     User("jane", (KNOWN,), "7", (("example.org/scopes", ("view", "edit")),)),
     ["/users::jane", "authentication.k8s.io/userextras/example.org/scopes::view",
      "authentication.k8s.io/userextras/example.org/scopes::edit", "authentication.k8s.io/uids::7"]),
]  # fmt: skip


@pytest.mark.parametrize(("given", "becomes", "questions"), IDENTITIES)
def test_each_part_of_the_identity_is_a_question(
    given: list[tuple[str, str]], becomes: User, questions: list[str]
) -> None:
    allowing = Allowing("*")
    assert impersonated(EVE, headers(*given), allowing) == becomes
    assert allowing.asked == questions


@pytest.mark.parametrize(("given", "becomes", "questions"), IDENTITIES)
def test_one_part_that_is_refused_refuses_all(
    given: list[tuple[str, str]], becomes: User, questions: list[str]
) -> None:
    for missing in questions:
        with pytest.raises(StatusError) as refused:
            impersonated(EVE, headers(*given), Allowing(*(one for one in questions if one != missing)))
        assert refused.value.code == 403
        assert 'User "eve" cannot impersonate resource' in refused.value.message


def test_without_a_user_to_become_nothing_changes_or_the_request_is_refused() -> None:
    for none in ([], [("Impersonate-User", "")], [("Impersonate", "jane")], [("X-Impersonate-User", "jane")]):
        assert impersonated(EVE, headers(*none), Allowing()) is EVE
    for header in ("Impersonate-Group", "Impersonate-Uid", "Impersonate-Extra-Scopes"):
        for user in ([], [("Impersonate-User", "")]):
            with pytest.raises(StatusError) as refused:
                impersonated(EVE, headers(*user, (header, "system:masters")), Allowing("*"))
            assert refused.value.code == 400
