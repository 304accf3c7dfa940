"""What a pod's /etc/resolv.conf says, out of its dnsPolicy and dnsConfig and of the host's own file. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

Object = dict[str, Any]
MAX_SERVERS, MAX_SEARCHES, MAX_SEARCH_CHARACTERS = 3, 32, 2048
"""The API's limits; the C library reads no more name servers than three."""


@dataclass(frozen=True)
class ResolvConf:
    servers: tuple[str, ...] = ()
    searches: tuple[str, ...] = ()
    options: tuple[str, ...] = ()

    def text(self) -> str:
        lines = [f"nameserver {server}" for server in self.servers]
        if self.searches:
            lines.append(f"search {' '.join(self.searches)}")
        if self.options:
            lines.append(f"options {' '.join(self.options)}")
        return "\n".join(lines) + "\n"


def read(text: str) -> ResolvConf:
    """The content of a resolv.conf (resolv.conf(5)); unknown lines are passed over."""
    servers: list[str] = []
    searches: list[str] = []
    options: list[str] = []
    for line in text.splitlines():
        words = line.split("#", 1)[0].split(";", 1)[0].split()
        if len(words) < 2:
            continue
        if words[0] == "nameserver":
            servers.append(words[1])
        elif words[0] in ("search", "domain"):
            searches = words[1:]
        elif words[0] == "options":
            options += words[1:]
    return ResolvConf(tuple(servers), tuple(searches), tuple(options))


def for_pod(pod: Object, host: ResolvConf, *, gateway: str, domain: str) -> ResolvConf:
    """The pod's resolver configuration.

    Args:
        host: what the host itself uses.
        gateway: the address of the cluster's name server for this host's pods.
    """
    spec, namespace = pod.get("spec") or {}, (pod.get("metadata") or {}).get("namespace", "default")
    policy = spec.get("dnsPolicy", "ClusterFirst")
    if policy == "ClusterFirst" and spec.get("hostNetwork"):
        policy = "Default"
    if policy == "None":
        base = ResolvConf()
    elif policy == "Default":
        base = host
    else:
        searches = (f"{namespace}.svc.{domain}", f"svc.{domain}", domain, *host.searches)
        base = ResolvConf((gateway,), searches, ("ndots:5",))
    return _merge(base, spec.get("dnsConfig") or {})


def _merge(base: ResolvConf, extra: Object) -> ResolvConf:
    servers = _unique([*base.servers, *(_word(each) for each in extra.get("nameservers") or [])])
    searches = _unique([*base.searches, *(_word(each) for each in extra.get("searches") or [])])
    options = {option.partition(":")[0]: option for option in base.options}
    for option in extra.get("options") or []:
        name, value = _word(option.get("name", "")), option.get("value")
        if name:
            options[name] = name if value is None else f"{name}:{_word(value)}"
    while len(" ".join(searches)) > MAX_SEARCH_CHARACTERS:
        searches.pop()
    return ResolvConf(tuple(servers[:MAX_SERVERS]), tuple(searches[:MAX_SEARCHES]), tuple(options.values()))


def _unique(words: Iterable[str]) -> list[str]:
    return [word for word in dict.fromkeys(words) if word]


def _word(value: object) -> str:
    """One word for one place: a line break out of a manifest must not begin a line of its own."""
    words = str(value).split()
    return words[0] if words else ""
