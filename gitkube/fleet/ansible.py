"""An Ansible YAML inventory, read as it is: groups, children, vars, host ranges, and the `ansible_*` words.

Of Ansible's many variables only those are read that say where a host is and how to log in. Words that carry
options for ssh, run something here, or hold a password are refused with a sentence: quietly ignoring a
ProxyCommand would connect to the wrong machine. Templates are never evaluated: in a word that is read they
are a mistake, elsewhere the variable is left aside with a note.

Precedence is Ansible's: `all`, then parents, then children (same level: by name), then the host itself.
`gitkube_labels` and `gitkube_taints` add up over the groups, the nearer winning per key.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from gitkube.fleet import hosts
from gitkube.fleet.document import Value
from gitkube.fleet.hosts import Host, Inventory, Place, Taint
from gitkube.fleet.reader import Mistakes, read_labels, read_taints, refuse_commands

MAX_GROUP_DEPTH = 12
_GROUP_KEYS = ("hosts", "children", "vars")
_RANGE = re.compile(r"\[([0-9]+|[a-z]):([0-9]+|[a-z])(?::([0-9]+))?\]")

_ALIASES = {
    "ansible_ssh_host": "ansible_host",
    "ansible_ssh_port": "ansible_port",
    "ansible_ssh_user": "ansible_user",
}
_READ = frozenset({
    "ansible_host", "ansible_port", "ansible_user", "ansible_ssh_private_key_file",
    "ansible_private_key_file", "ansible_become", "ansible_become_method", "ansible_become_user",
    "ansible_connection", "ansible_python_interpreter", "ansible_group_priority", "gitkube_labels",
    "gitkube_taints", "gitkube_host_key", "gitkube_host_keys", "gitkube_pod_cidr",
})  # fmt: skip
_PASSWORDS = frozenset({
    "ansible_password", "ansible_ssh_pass", "ansible_ssh_password", "ansible_become_pass",
    "ansible_become_password", "ansible_sudo_pass", "ansible_ssh_private_key_passphrase",
})  # fmt: skip
_REFUSED_PREFIXES = (
    "ansible_ssh_", "ansible_sftp_", "ansible_scp_", "ansible_paramiko_", "ansible_become_", "ansible_shell_",
    "ansible_su_", "ansible_sudo_", "ansible_netconf_", "ansible_docker_", "ansible_winrm_", "ansible_psrp_",
)  # fmt: skip
_CONNECTIONS = (
    "ssh",
    "smart",
    "paramiko",
    "paramiko_ssh",
    "ansible.builtin.ssh",
    "ansible.builtin.paramiko_ssh",
)


@dataclass
class _Group:
    name: str
    place: Place
    depth: int = 0
    parents: set[str] = field(default_factory=set)
    hosts: dict[str, tuple[Place, dict[str, Value]]] = field(default_factory=dict)
    vars: dict[str, Value] = field(default_factory=dict)


def read_inventory(document: Value, path: Path, mistakes: Mistakes) -> Inventory:
    """The inventory in a document whose top is a mapping of groups; mistakes are noted."""
    refuse_commands(document, mistakes)
    groups: dict[str, _Group] = {}
    for name, value in mistakes.mapping(document, None, "an inventory").items():
        place = (document.key_places or {}).get(name, value.place)
        _read_group(name, value, place, None, groups, 0, mistakes)
    for group in groups.values():
        if group.name != "all" and not group.parents:
            group.parents.add("all")
    _measure_depths(groups, mistakes)
    notes: list[str] = []
    order = sorted(groups.values(), key=lambda group: (group.name != "all", group.depth, group.name))
    names = list(dict.fromkeys(name for group in groups.values() for name in group.hosts))
    result: dict[str, Host] = {}
    for name in names:
        host = _read_host(name, order, groups, path.parent, mistakes, notes)
        if host is not None:
            result[name] = host
    return Inventory(result, path, tuple(dict.fromkeys(notes)))


def _read_group(
    name: str,
    value: Value,
    place: Place,
    parent: str | None,
    groups: dict[str, _Group],
    level: int,
    mistakes: Mistakes,
) -> None:
    if level > MAX_GROUP_DEPTH:
        mistakes.add(place, f"groups are nested deeper than {MAX_GROUP_DEPTH} levels")
        return
    group = groups.setdefault(name, _Group(name, place))
    if parent is not None:
        group.parents.add(parent)
    fields = mistakes.mapping(value, _GROUP_KEYS, f"group {name}")
    if "vars" in fields:
        group.vars |= mistakes.mapping(fields["vars"], None, "vars")
    if "hosts" in fields:
        members = mistakes.mapping(fields["hosts"], None, f"hosts of group {name}")
        for pattern, variables in members.items():
            host_place = (fields["hosts"].key_places or {}).get(pattern, variables.place)
            own = mistakes.mapping(variables, None, f"host {pattern}")
            for host_name in mistakes.check(host_place, expand_range, pattern) or ():
                earlier = group.hosts.get(host_name, (host_place, {}))
                group.hosts[host_name] = (earlier[0], earlier[1] | own)
    if "children" in fields:
        for child, body in mistakes.mapping(fields["children"], None, f"children of group {name}").items():
            child_place = (fields["children"].key_places or {}).get(child, body.place)
            _read_group(child, body, child_place, name, groups, level + 1, mistakes)


def expand_range(pattern: str) -> list[str]:
    """`web[01:03]` -> web01, web02, web03; also letters, steps, and several ranges in one name.

    Raises:
        ValueError: not a range, or too many hosts.
    """
    found = _RANGE.search(pattern)
    if found is None:
        if "[" in pattern or "]" in pattern:
            raise ValueError(f"{pattern[:80]!r} is not a host range; write web[01:03]")
        return [pattern]
    first, last, step_text = found.groups()
    step = int(step_text or 1) if len(step_text or "") <= 6 else 0
    if step < 1 or first.isdigit() != last.isdigit() or len(first) > 9 or len(last) > 9:
        raise ValueError(f"{pattern[:80]!r} is not a host range; write web[01:03]")
    if first.isdigit():
        if first.startswith("0") and len(first) > 1 and len(first) != len(last):
            raise ValueError(f"the ends of the range in {pattern[:80]!r} must have the same number of digits")
        width = len(first) if first.startswith("0") else 0
        numbers = range(int(first), int(last) + 1, step)
        _check_length(len(numbers), pattern)
        middles = [str(number).zfill(width) for number in numbers]
    else:
        middles = [chr(code) for code in range(ord(first), ord(last) + 1, step)]
    if not middles:
        raise ValueError(f"the range in {pattern[:80]!r} is empty: it begins after its end")
    tails = expand_range(pattern[found.end() :])
    _check_length(len(middles) * len(tails), pattern)
    return [pattern[: found.start()] + middle + tail for middle in middles for tail in tails]


def _check_length(count: int, pattern: str) -> None:
    if count > hosts.MAX_HOSTS:
        raise ValueError(f"{pattern[:80]!r} names {count} hosts; the limit is {hosts.MAX_HOSTS}")


def _measure_depths(groups: Mapping[str, _Group], mistakes: Mistakes) -> None:
    """A group's depth is its longest way from `all`; a loop of groups is a mistake."""
    for _ in range(MAX_GROUP_DEPTH + 1):
        changed = False
        for group in groups.values():
            depth = max((groups[parent].depth + 1 for parent in group.parents if parent in groups), default=0)
            if group.name != "all" and depth != group.depth:
                group.depth, changed = depth, True
        if not changed:
            return
    worst = max(groups.values(), key=lambda group: group.depth)
    mistakes.add(
        worst.place, f"group {worst.name} is its own ancestor, or groups nest deeper than {MAX_GROUP_DEPTH}"
    )


def _ancestors(name: str, groups: Mapping[str, _Group]) -> set[str]:
    found: set[str] = set()
    todo = [name]
    while todo:
        current = todo.pop()
        if current not in found:
            found.add(current)
            todo += groups[current].parents if current in groups else ()
    return found


def _read_host(
    name: str,
    order: list[_Group],
    groups: Mapping[str, _Group],
    base: Path,
    mistakes: Mistakes,
    notes: list[str],
) -> Host | None:
    direct = [group for group in order if name in group.hosts]
    place = direct[0].hosts[name][0]
    if mistakes.check(place, hosts.check_host_name, name) is None:
        return None
    member_of = {"all"}.union(*(_ancestors(group.name, groups) for group in direct))
    layers = [group.vars for group in order if group.name in member_of]
    layers += [group.hosts[name][1] for group in direct]
    variables: dict[str, Value] = {}
    labels: dict[str, str] = {}
    taints: dict[tuple[str, str], Taint] = {}
    for layer in layers:
        variables |= {_ALIASES.get(key, key): value for key, value in layer.items()}
        labels |= read_labels(layer.get("gitkube_labels"), mistakes)
        layer_taints = read_taints(layer.get("gitkube_taints"), mistakes)
        taints |= {(taint.key, taint.effect): taint for taint in layer_taints}
    _refuse(variables, mistakes)
    read = {key: value for key, value in variables.items() if key in _READ}
    _check_become(read, mistakes)
    address = read.get("ansible_host")
    key_file = read.get("ansible_ssh_private_key_file") or read.get("ansible_private_key_file")
    pod_cidr = read.get("gitkube_pod_cidr")
    become = _boolean(read.get("ansible_become"), mistakes)
    return Host(
        name=name,
        address=(mistakes.checked_text(address, "ansible_host", hosts.check_address) or "")
        if address
        else name,
        port=(mistakes.port(read["ansible_port"]) or 22) if "ansible_port" in read else 22,
        user=_user(read, mistakes),
        identity_file=mistakes.file(key_file, base) if key_file else None,
        host_keys=_host_keys(read, mistakes),
        # Without a word gitkube still has to become root: Ansible leaves that to the playbook.
        sudo=True if become is None else become,
        labels=labels,
        taints=tuple(taints.values()),
        pod_cidr=(mistakes.checked_text(pod_cidr, "gitkube_pod_cidr", hosts.check_pod_cidr) or "")
        if pod_cidr
        else "",
        vars=_other_vars(variables, notes),
        place=place,
    )


def _user(read: Mapping[str, Value], mistakes: Mistakes) -> str:
    if "ansible_user" not in read:
        return "root"
    return mistakes.checked_text(read["ansible_user"], "ansible_user", hosts.check_user) or "root"


def _host_keys(read: Mapping[str, Value], mistakes: Mistakes) -> tuple[hosts.HostKey, ...]:
    values = [read["gitkube_host_key"]] if "gitkube_host_key" in read else []
    values += mistakes.items(read.get("gitkube_host_keys"), "gitkube_host_keys")
    keys = [mistakes.checked_text(value, "a host key", hosts.parse_host_key) for value in values]
    return tuple(key for key in keys if key is not None)


def _refuse(variables: Mapping[str, Value], mistakes: Mistakes) -> None:
    for key, value in variables.items():
        if key in _PASSWORDS:
            sentence = (
                "is refused: no password is kept in an inventory; use a key (ansible_ssh_private_key_file)"
            )
            mistakes.add(value.place, f"{key} {sentence} and passwordless sudo on the host")
        elif key not in _READ and key.startswith(_REFUSED_PREFIXES):
            sentence = (
                "is refused: it could run a command here or change how ssh connects; remove it for gitkube"
            )
            mistakes.add(value.place, f"{key} {sentence}, with an ansible_host that is reached directly")
        elif key in _READ and _has_template(value):
            mistakes.add(
                value.place, f"{key} is a template, and gitkube evaluates none here; write the value itself"
            )


def _check_become(read: Mapping[str, Value], mistakes: Mistakes) -> None:
    for key, allowed in (
        ("ansible_become_method", ("sudo", "ansible.builtin.sudo")),
        ("ansible_become_user", ("root",)),
        ("ansible_connection", _CONNECTIONS),
    ):
        if key in read and read[key].data not in allowed:
            mistakes.add(read[key].place, f"{key} must be {allowed[0]}: gitkube knows no other way")


def _boolean(value: Value | None, mistakes: Mistakes) -> bool | None:
    """As Ansible reads one: YAML 1.1's words too."""
    if value is None or value.data is None:
        return None
    if isinstance(value.data, bool):
        return value.data
    word = (value.plain_text or "").lower()
    if word in ("yes", "on", "true", "1", "y"):
        return True
    if word in ("no", "off", "false", "0", "n"):
        return False
    mistakes.add(value.place, "ansible_become must be true or false")
    return None


def _other_vars(variables: Mapping[str, Value], notes: list[str]) -> dict[str, object]:
    kept: dict[str, object] = {}
    for key, value in variables.items():
        if key in _READ or key.startswith("ansible_"):
            continue
        if _has_template(value):
            notes.append(f"{value.place}: {key} is a template and was left aside")
        else:
            kept[key] = value.plain()
    return kept


def _has_template(value: Value) -> bool:
    if isinstance(value.data, dict):
        return any(_has_template(item) for item in value.data.values())
    if isinstance(value.data, list):
        return any(_has_template(item) for item in value.data)
    return isinstance(value.data, str) and any(mark in value.data for mark in ("{{", "{%", "{#"))
