"""How a ServiceAccount is called as a user: one name and two groups, made of namespace and name."""

from __future__ import annotations

from gitkube.objects.names import dns_label, dns_subdomain

ACCOUNT_PREFIX = "system:serviceaccount:"
ACCOUNTS_GROUP = "system:serviceaccounts"


def user_name_of(namespace: str, name: str) -> str:
    return f"{ACCOUNT_PREFIX}{namespace}:{name}"


def groups_of(namespace: str) -> tuple[str, str]:
    return (ACCOUNTS_GROUP, f"{ACCOUNTS_GROUP}:{namespace}")


def account_of(user_name: str) -> tuple[str, str] | None:
    """Namespace and name of the ServiceAccount that a user is; None for every other user."""
    if not user_name.startswith(ACCOUNT_PREFIX):
        return None
    namespace, colon, name = user_name.removeprefix(ACCOUNT_PREFIX).partition(":")
    if not colon or dns_label(namespace) or dns_subdomain(name):
        return None
    return namespace, name
