"""The machines that gitkube may use, read from one YAML file of a person's.

Two forms. Ours has a mapping `hosts` at the top (name -> address, user, labels, …), and `groups` that give
many hosts the same defaults, labels and taints. An Ansible YAML inventory (groups at the top, such as `all`)
is read as it is (ansible.py). Both come out as the same `Inventory`; nothing in either is ever executed,
expanded or passed to a shell. All mistakes of a file are reported at once, each with file:line:column.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gitkube.fleet import ansible, hosts
from gitkube.fleet.document import Value, read_document
from gitkube.fleet.hosts import Host, HostKey, Inventory, InventoryError, Place, Taint
from gitkube.fleet.reader import Mistakes, read_labels, read_taints, refuse_commands

__all__ = ["Host", "HostKey", "Inventory", "InventoryError", "Place", "Taint", "load_inventory"]

_TOP_KEYS = ("apiVersion", "kind", "defaults", "hosts", "groups")
_CONNECTION_KEYS = ("port", "user", "identity_file", "sudo", "vars")
_HOST_KEYS = ("address", *_CONNECTION_KEYS, "host_key", "host_keys", "labels", "taints", "pod_cidr")
_GROUP_KEYS = ("hosts", "defaults", "labels", "taints")
API_VERSION, KIND = "gitkube.dev/v1alpha1", "Inventory"


def load_inventory(path: Path) -> Inventory:
    """The inventory in a file, in either form.

    Raises:
        InventoryError: with every mistake found and its place.
    """
    document = read_document(path)
    if not isinstance(document.data, dict):
        raise InventoryError(
            [(document.place, "an inventory is a mapping with `hosts:` (or an Ansible inventory)")]
        )
    mistakes = Mistakes()
    if "hosts" in document.data:
        inventory = _read_own_form(document, path, mistakes)
    else:
        inventory = ansible.read_inventory(document, path, mistakes)
    if not inventory.hosts:
        mistakes.add(document.place, "names no host")
    if len(inventory.hosts) > hosts.MAX_HOSTS:
        mistakes.add(document.place, f"has {len(inventory.hosts)} hosts; the limit is {hosts.MAX_HOSTS}")
    _check_addresses_differ(inventory.hosts, mistakes)
    mistakes.raise_if_any()
    return inventory


@dataclass
class _Group:
    """What several hosts share; the nearest word wins: host, then its groups in file order, then defaults."""

    members: tuple[str, ...] = ()
    defaults: dict[str, Any] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    taints: tuple[Taint, ...] = ()


def _read_own_form(document: Value, path: Path, mistakes: Mistakes) -> Inventory:
    refuse_commands(document, mistakes)
    top = mistakes.mapping(document, _TOP_KEYS, "an inventory")
    for key, expected in (("apiVersion", API_VERSION), ("kind", KIND)):
        if key in top and top[key].data != expected:
            mistakes.add(top[key].place, f"{key} must be {expected}")
    base = path.parent
    defaults = _connection(top["defaults"], base, mistakes) if "defaults" in top else {}
    host_values = mistakes.mapping(top["hosts"], None, "hosts")
    groups = _read_groups(top.get("groups"), base, host_values, mistakes)
    result: dict[str, Host] = {}
    for name, value in host_values.items():
        place = (top["hosts"].key_places or {}).get(name, value.place)
        mistakes.check(place, hosts.check_host_name, name)
        mine = [group for group in groups if name in group.members]
        host = _read_host(name, value, place, defaults, mine, base, mistakes)
        if host is not None:
            result[name] = host
    return Inventory(result, path)


def _read_groups(
    value: Value | None, base: Path, known: Mapping[str, Value], mistakes: Mistakes
) -> list[_Group]:
    groups = []
    for body in mistakes.mapping(value, None, "groups").values() if value else ():
        fields = mistakes.mapping(body, _GROUP_KEYS, "a group")
        members = []
        for item in mistakes.items(fields.get("hosts"), "hosts"):
            name = mistakes.text(item, "a group's host") or ""
            members.append(name)
            if name not in known:
                mistakes.add(item.place, f"host {name!r} is not under hosts:")
        groups.append(
            _Group(
                tuple(members),
                _connection(fields["defaults"], base, mistakes) if "defaults" in fields else {},
                read_labels(fields.get("labels"), mistakes),
                read_taints(fields.get("taints"), mistakes),
            )
        )
    return groups


def _read_host(
    name: str,
    value: Value,
    place: Place,
    defaults: dict[str, Any],
    groups: list[_Group],
    base: Path,
    mistakes: Mistakes,
) -> Host | None:
    fields = mistakes.mapping(value, _HOST_KEYS, f"host {name}")
    if "address" not in fields:
        mistakes.add(place, f"host {name} has no address; add `address: 192.0.2.10`")
        return None
    # The later wins: defaults, then groups from the last to the first, then the host's own words.
    settings = dict(defaults)
    variables = dict(settings.pop("vars", {}))
    labels: dict[str, str] = {}
    taints: dict[tuple[str, str], Taint] = {}
    for group in reversed(groups):
        settings |= {key: item for key, item in group.defaults.items() if key != "vars"}
        variables |= group.defaults.get("vars", {})
        labels |= group.labels
        taints |= {(taint.key, taint.effect): taint for taint in group.taints}
    own = _connection_fields(fields, base, mistakes)
    variables |= own.pop("vars", {})
    settings |= own
    labels |= read_labels(fields.get("labels"), mistakes)
    taints |= {(taint.key, taint.effect): taint for taint in read_taints(fields.get("taints"), mistakes)}
    pod_cidr = fields.get("pod_cidr")
    return Host(
        name=name,
        address=mistakes.checked_text(fields["address"], "address", hosts.check_address) or "",
        host_keys=_read_host_keys(fields, mistakes),
        labels=labels,
        taints=tuple(taints.values()),
        pod_cidr=(mistakes.checked_text(pod_cidr, "pod_cidr", hosts.check_pod_cidr) or "")
        if pod_cidr
        else "",
        vars=variables,
        place=place,
        **settings,
    )


def _connection(value: Value, base: Path, mistakes: Mistakes) -> dict[str, Any]:
    return _connection_fields(mistakes.mapping(value, _CONNECTION_KEYS, "defaults"), base, mistakes)


def _connection_fields(fields: Mapping[str, Value], base: Path, mistakes: Mistakes) -> dict[str, Any]:
    """Those of a host's fields that defaults may give too, as keyword arguments of `Host`."""
    readers: dict[str, Callable[[Value], Any]] = {
        "port": lambda value: mistakes.port(value),
        "user": lambda value: mistakes.checked_text(value, "user", hosts.check_user),
        "identity_file": lambda value: mistakes.file(value, base),
        "sudo": lambda value: mistakes.boolean(value, "sudo"),
        "vars": lambda value: {
            key: item.plain() for key, item in mistakes.mapping(value, None, "vars").items()
        },
    }
    read = {key: readers[key](fields[key]) for key in _CONNECTION_KEYS if key in fields}
    return {key: item for key, item in read.items() if item is not None}


def _read_host_keys(fields: Mapping[str, Value], mistakes: Mistakes) -> tuple[HostKey, ...]:
    values = [fields["host_key"]] if "host_key" in fields else []
    values += mistakes.items(fields.get("host_keys"), "host_keys")
    keys = []
    for value in values:
        text = mistakes.text(value, "a host key")
        key = mistakes.check(value.place, hosts.parse_host_key, text) if text is not None else None
        if key is not None:
            keys.append(key)
    return tuple(keys)


def _check_addresses_differ(machines: Mapping[str, Host], mistakes: Mistakes) -> None:
    seen: dict[tuple[str, int], Host] = {}
    for host in machines.values():
        first = seen.setdefault((host.address, host.port), host)
        if first is not host:
            sentence = f"host {host.name} has the address of host {first.name} (line {first.place.line})"
            mistakes.add(host.place, sentence)
