"""The baseline profile: no known way out of the container."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from gitkube.objects import meta, pods
from gitkube.objects.pod_security.check import (
    Check,
    Finding,
    containers_of,
    context_of,
    has_own_users,
    named,
    plural,
    quoted,
    setters,
)
from gitkube.objects.types import Object

_CAPABILITIES = frozenset(
    {
        "AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD", "NET_BIND_SERVICE",
        "SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT",
    }
)  # fmt: skip
_APPARMOR = "container.apparmor.security.beta.kubernetes.io/"
_SECCOMP_POD = "seccomp.security.alpha.kubernetes.io/pod"
_SECCOMP_CONTAINER = "container.seccomp.security.alpha.kubernetes.io/"
_SELINUX_TYPES = {0: ("", "container_t", "container_init_t", "container_kvm_t"), 31: ("container_engine_t",)}
_SYSCTLS = {
    0: (
        "kernel.shm_rmid_forced", "net.ipv4.ip_local_port_range", "net.ipv4.tcp_syncookies",
        "net.ipv4.ping_group_range", "net.ipv4.ip_unprivileged_port_start",
    ),
    27: ("net.ipv4.ip_local_reserved_ports",),
    29: (
        "net.ipv4.tcp_keepalive_time", "net.ipv4.tcp_fin_timeout", "net.ipv4.tcp_keepalive_intvl",
        "net.ipv4.tcp_keepalive_probes",
    ),
    32: ("net.ipv4.tcp_rmem", "net.ipv4.tcp_wmem"),
}  # fmt: skip
"""By the minor version since which they are allowed."""
_USER_NAMESPACES_SINCE = 34
_SECCOMP_FIELDS_SINCE = 19
_PROBES = ("livenessProbe", "readinessProbe", "startupProbe")


def _since(table: Mapping[int, tuple[str, ...]], minor: int) -> set[str]:
    return {word for since, words in table.items() if minor >= since for word in words}


def _apparmor(pod: Object, _: int) -> Finding | None:
    values: set[str] = set()

    def is_bad(part: Mapping[str, Any]) -> bool:
        type_ = (context_of(part).get("appArmorProfile") or {}).get("type")
        if type_ in (None, "RuntimeDefault", "Localhost"):
            return False
        values.add(str(type_))
        return True

    who = setters(is_bad(pods.spec(pod)), [one for one in containers_of(pod) if is_bad(one)])
    parts = [who] if who else []
    for key, value in sorted(meta.annotations(pod).items()):
        is_allowed = value in ("", "runtime/default") or value.startswith("localhost/")
        if key.startswith(_APPARMOR) and not is_allowed:
            parts.append(f"annotation {quoted([key])}")
            values.add(value)
    if not parts:
        return None
    detail = f"{' and '.join(parts)} must not set AppArmor profile type to {quoted(sorted(values))}"
    return Finding(plural(len(parts), "forbidden AppArmor profile"), detail)


def _capabilities(pod: Object, _: int) -> Finding | None:
    added = {
        id(one): set((context_of(one).get("capabilities") or {}).get("add") or ()) - _CAPABILITIES
        for one in containers_of(pod)
    }
    bad = [one for one in containers_of(pod) if added[id(one)]]
    if not bad:
        return None
    words = quoted(sorted(set().union(*added.values())))
    return Finding(
        "non-default capabilities",
        f"{named(bad)} must not include {words} in securityContext.capabilities.add",
    )


def _host_namespaces(pod: Object, _: int) -> Finding | None:
    spec = pods.spec(pod)
    shared = [f"{name}=true" for name in ("hostIPC", "hostNetwork", "hostPID") if spec.get(name)]
    return Finding("host namespaces", ", ".join(shared)) if shared else None


def _host_paths(pod: Object, _: int) -> Finding | None:
    bad = [str(one.get("name")) for one in pods.spec(pod).get("volumes") or () if one.get("hostPath")]
    return Finding("hostPath volumes", f"{plural(len(bad), 'volume')} {quoted(bad)}") if bad else None


def _host_ports(pod: Object, _: int) -> Finding | None:
    used = {
        id(one): [str(port["hostPort"]) for port in one.get("ports") or () if port.get("hostPort")]
        for one in containers_of(pod)
    }
    bad = [one for one in containers_of(pod) if used[id(one)]]
    if not bad:
        return None
    numbers = sorted({port for ports in used.values() for port in ports})
    verb = "uses" if len(bad) == 1 else "use"
    return Finding("hostPort", f"{named(bad)} {verb} {plural(len(numbers), 'hostPort')} {', '.join(numbers)}")


def _probe_hosts(pod: Object, _: int) -> Finding | None:
    hosts = {id(one): set(_hosts(one)) for one in containers_of(pod)}
    bad = sorted((one for one in containers_of(pod) if hosts[id(one)]), key=lambda one: str(one.get("name")))
    if not bad:
        return None
    every = sorted(set().union(*hosts.values()))
    verb = "uses" if len(bad) == 1 else "use"
    what = plural(len(every), "probe or lifecycle host")
    return Finding("probe or lifecycle host", f"{named(bad)} {verb} {what} {quoted(every)}")


def _hosts(container: Mapping[str, Any]) -> Iterator[str]:
    lifecycle = container.get("lifecycle") or {}
    handlers = [container.get(name) for name in _PROBES]
    handlers += [lifecycle.get(name) for name in ("postStart", "preStop")]
    for handler in handlers:
        for field in ("httpGet", "tcpSocket"):
            host = ((handler or {}).get(field) or {}).get("host")
            if host:
                yield str(host)


def _privileged(pod: Object, _: int) -> Finding | None:
    bad = [one for one in containers_of(pod) if context_of(one).get("privileged")]
    detail = f"{named(bad)} must not set securityContext.privileged=true"
    return Finding("privileged", detail) if bad else None


def _proc_mount(pod: Object, minor: int) -> Finding | None:
    if minor >= _USER_NAMESPACES_SINCE and has_own_users(pod):
        return None
    bad = [
        one
        for one in containers_of(pod)
        if context_of(one).get("procMount", "Default") not in ("Default", None)
    ]
    if not bad:
        return None
    types = quoted(sorted({str(context_of(one)["procMount"]) for one in bad}))
    return Finding("procMount", f"{named(bad)} must not set securityContext.procMount to {types}")


def _seccomp(pod: Object, minor: int) -> Finding | None:
    if minor < _SECCOMP_FIELDS_SINCE:
        return _seccomp_annotations(pod)
    return forbidden_seccomp(pod)


def forbidden_seccomp(pod: Object) -> Finding | None:
    """A seccomp profile that is neither the runtime's nor one of the host."""
    values: set[str] = set()

    def is_bad(part: Mapping[str, Any]) -> bool:
        type_ = seccomp_type(part)
        if type_ in ("", "RuntimeDefault", "Localhost"):
            return False
        values.add(type_)
        return True

    who = setters(is_bad(pods.spec(pod)), [one for one in containers_of(pod) if is_bad(one)])
    if not who:
        return None
    detail = f"{who} must not set securityContext.seccompProfile.type to {quoted(sorted(values))}"
    return Finding("seccompProfile", detail)


def seccomp_type(part: Mapping[str, Any]) -> str:
    """The seccomp profile's type that a container or a pod's spec sets; "" when it sets none."""
    return str((context_of(part).get("seccompProfile") or {}).get("type") or "")


def _seccomp_annotations(pod: Object) -> Finding | None:
    annotations = meta.annotations(pod)
    keys = [_SECCOMP_POD, *(f"{_SECCOMP_CONTAINER}{one.get('name')}" for one in containers_of(pod))]
    bad = sorted(
        f'{key}="{annotations[key]}"'
        for key in keys
        if key in annotations
        and annotations[key] not in ("runtime/default", "docker/default")
        and not annotations[key].startswith("localhost/")
    )
    if not bad:
        return None
    return Finding("seccompProfile", f"forbidden {plural(len(bad), 'annotation')} {', '.join(bad)}")


def _selinux(pod: Object, minor: int) -> Finding | None:
    allowed = _since(_SELINUX_TYPES, minor)
    types: set[str] = set()
    set_fields: set[str] = set()

    def is_bad(part: Mapping[str, Any]) -> bool:
        options = context_of(part).get("seLinuxOptions") or {}
        type_ = str(options.get("type") or "")
        if type_ not in allowed:
            types.add(type_)
        fields = {field for field in ("user", "role") if options.get(field)}
        set_fields.update(fields)
        return type_ not in allowed or bool(fields)

    who = setters(is_bad(pods.spec(pod)), [one for one in containers_of(pod) if is_bad(one)])
    if not who:
        return None
    parts = [f"{plural(len(types), 'type')} {quoted(sorted(types))}"] if types else []
    parts += [f"{field} may not be set" for field in ("user", "role") if field in set_fields]
    detail = f"{who} set forbidden securityContext.seLinuxOptions: {'; '.join(parts)}"
    return Finding("seLinuxOptions", detail)


def _sysctls(pod: Object, minor: int) -> Finding | None:
    allowed = _since(_SYSCTLS, minor)
    given = [str(one.get("name")) for one in context_of(pods.spec(pod)).get("sysctls") or ()]
    bad = [name for name in given if name not in allowed]
    return Finding("forbidden sysctls", ", ".join(bad)) if bad else None


def _windows_host_process(pod: Object, _: int) -> Finding | None:
    def is_bad(part: Mapping[str, Any]) -> bool:
        return bool((context_of(part).get("windowsOptions") or {}).get("hostProcess"))

    who = setters(is_bad(pods.spec(pod)), [one for one in containers_of(pod) if is_bad(one)])
    detail = f"{who} must not set securityContext.windowsOptions.hostProcess=true"
    return Finding("hostProcess", detail) if who else None


BASELINE: tuple[Check, ...] = (
    Check("appArmorProfile", 0, _apparmor),
    Check("capabilities_baseline", 0, _capabilities),
    Check("hostNamespaces", 0, _host_namespaces),
    Check("hostPathVolumes", 0, _host_paths),
    Check("hostPorts", 0, _host_ports),
    Check("hostProbesAndHostLifecycle", 34, _probe_hosts),
    Check("privileged", 0, _privileged),
    Check("procMount", 0, _proc_mount),
    Check("seLinuxOptions", 0, _selinux),
    Check("seccompProfile_baseline", 0, _seccomp),
    Check("sysctls", 0, _sysctls),
    Check("windowsHostProcess", 0, _windows_host_process),
)
"""In the order in which they are said."""
