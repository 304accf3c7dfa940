"""Which user a container runs as: numbers out of the spec, or names looked up in the image's own files. Pure.

`/etc/passwd` and `/etc/group` come from the image, so they are text from strangers: a line that does not
parse is no user.
"""

from __future__ import annotations

from dataclasses import dataclass

from gitkube.node.env import ConfigError
from gitkube.node.kube import Object


@dataclass(frozen=True)
class User:
    uid: int
    gid: int
    groups: tuple[int, ...]


@dataclass(frozen=True)
class _Account:
    name: str
    uid: int
    gid: int


def _accounts(passwd: str) -> list[_Account]:
    found = []
    for line in passwd.splitlines():
        fields = line.split(":")
        if len(fields) >= 4 and fields[2].isdigit() and fields[3].isdigit():
            found.append(_Account(fields[0], int(fields[2]), int(fields[3])))
    return found


def _groups(group: str) -> list[tuple[str, int, list[str]]]:
    found = []
    for line in group.splitlines():
        fields = line.split(":")
        if len(fields) >= 4 and fields[2].isdigit():
            found.append((fields[0], int(fields[2]), [name for name in fields[3].split(",") if name]))
    return found


def resolve(image_user: str, security: Object, passwd: str, group: str) -> User:
    """The user of a container.

    Args:
        image_user: `User` of the image's configuration: "", "name", "uid", "name:group" or "uid:gid".
        security: the merged security context.
        passwd: the image's /etc/passwd.
        group: the image's /etc/group.

    Raises:
        ConfigError: a name that the image does not have, or root where `runAsNonRoot` forbids it.
    """
    user_text, _, group_text = image_user.partition(":")
    accounts, all_groups = _accounts(passwd), _groups(group)
    if security.get("runAsUser") is not None:
        user_text, group_text = str(int(security["runAsUser"])), ""
    account = None
    for candidate in accounts:
        if candidate.name == user_text or (user_text.isdigit() and candidate.uid == int(user_text)):
            account = candidate
            break
    if account is not None:
        uid, gid = account.uid, account.gid
    elif user_text in ("", "0", "root"):
        uid, gid = 0, 0
    elif user_text.isdigit():
        uid, gid = int(user_text), 0
    else:
        raise ConfigError(f"the image's user {user_text!r} is not in its /etc/passwd")
    if group_text:
        gid = _group_id(group_text, all_groups)
    if security.get("runAsGroup") is not None:
        gid = int(security["runAsGroup"])
    if security.get("runAsNonRoot") and uid == 0:
        raise ConfigError("container has runAsNonRoot and would run as root: set securityContext.runAsUser")
    groups = [] if account is None else [number for _, number, names in all_groups if account.name in names]
    if security.get("fsGroup") is not None:
        groups.append(int(security["fsGroup"]))
    groups += [int(number) for number in security.get("supplementalGroups") or []]
    return User(uid, gid, tuple(dict.fromkeys([gid, *groups])))


def _group_id(text: str, all_groups: list[tuple[str, int, list[str]]]) -> int:
    for name, number, _ in all_groups:
        if name == text:
            return number
    if text.isdigit():
        return int(text)
    raise ConfigError(f"the image's group {text!r} is not in its /etc/group")
