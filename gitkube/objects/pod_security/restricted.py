"""The restricted profile: hardened as today's practice asks for, on top of the baseline."""

from __future__ import annotations

from gitkube.objects import pods
from gitkube.objects.pod_security.baseline import forbidden_seccomp, seccomp_type
from gitkube.objects.pod_security.check import (
    Check,
    Finding,
    containers_of,
    context_of,
    has_own_users,
    is_windows,
    named,
    plural,
    quoted,
    setters,
)
from gitkube.objects.types import Object

_VOLUMES = frozenset(
    {
        "configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected",
        "secret",
    }
)  # fmt: skip
_WINDOWS_SINCE = 25
"""Since then pods that say they are of Windows need not say what only Linux has."""
_USER_NAMESPACES_SINCE = 34


def _escalation(pod: Object, minor: int) -> Finding | None:
    if minor >= _WINDOWS_SINCE and is_windows(pod):
        return None
    bad = [one for one in containers_of(pod) if context_of(one).get("allowPrivilegeEscalation") is not False]
    detail = f"{named(bad)} must set securityContext.allowPrivilegeEscalation=false"
    return Finding("allowPrivilegeEscalation != false", detail) if bad else None


def _capabilities(pod: Object, minor: int) -> Finding | None:
    if minor >= _WINDOWS_SINCE and is_windows(pod):
        return None
    keeping, adding, added = [], [], set()
    for container in containers_of(pod):
        capabilities = context_of(container).get("capabilities") or {}
        if "ALL" not in (capabilities.get("drop") or ()):
            keeping.append(container)
        forbidden = set(capabilities.get("add") or ()) - {"NET_BIND_SERVICE"}
        if forbidden:
            adding.append(container)
            added |= forbidden
    parts = []
    if keeping:
        parts.append(f'{named(keeping)} must set securityContext.capabilities.drop=["ALL"]')
    if adding:
        words = quoted(sorted(added))
        parts.append(f"{named(adding)} must not include {words} in securityContext.capabilities.add")
    return Finding("unrestricted capabilities", "; ".join(parts)) if parts else None


def _volumes(pod: Object, _: int) -> Finding | None:
    bad, types = [], set()
    for volume in pods.spec(pod).get("volumes") or ():
        kinds = {field for field, value in volume.items() if field != "name" and value is not None}
        if not kinds & _VOLUMES:
            bad.append(str(volume.get("name")))
            types |= kinds or {"unknown"}
    if not bad:
        return None
    verb = "uses" if len(bad) == 1 else "use"
    what = f"{plural(len(types), 'restricted volume type')} {quoted(sorted(types))}"
    return Finding("restricted volume types", f"{plural(len(bad), 'volume')} {quoted(bad)} {verb} {what}")


def _not_root(pod: Object, minor: int) -> Finding | None:
    if minor >= _USER_NAMESPACES_SINCE and has_own_users(pod):
        return None
    of_pod = context_of(pods.spec(pod)).get("runAsNonRoot")
    said = {id(one): context_of(one).get("runAsNonRoot") for one in containers_of(pod)}
    who = setters(of_pod is False, [one for one in containers_of(pod) if said[id(one)] is False])
    if who:
        detail = f"{who} must not set securityContext.runAsNonRoot=false"
        return Finding("runAsNonRoot != true", detail)
    silent = [one for one in containers_of(pod) if said[id(one)] is None and not of_pod]
    detail = f"pod or {named(silent)} must set securityContext.runAsNonRoot=true"
    return Finding("runAsNonRoot != true", detail) if silent else None


def _user(pod: Object, minor: int) -> Finding | None:
    if minor >= _USER_NAMESPACES_SINCE and has_own_users(pod):
        return None
    bad = [one for one in containers_of(pod) if context_of(one).get("runAsUser") == 0]
    who = setters(context_of(pods.spec(pod)).get("runAsUser") == 0, bad)
    return Finding("runAsUser=0", f"{who} must not set runAsUser=0") if who else None


def _seccomp(pod: Object, minor: int) -> Finding | None:
    if minor >= _WINDOWS_SINCE and is_windows(pod):
        return None
    forbidden = forbidden_seccomp(pod)
    if forbidden is not None:
        return forbidden
    if seccomp_type(pods.spec(pod)):
        return None
    silent = [one for one in containers_of(pod) if not seccomp_type(one)]
    if not silent:
        return None
    types = 'securityContext.seccompProfile.type to "RuntimeDefault" or "Localhost"'
    return Finding("seccompProfile", f"pod or {named(silent)} must set {types}")


RESTRICTED: tuple[Check, ...] = (
    Check("allowPrivilegeEscalation", 8, _escalation),
    Check("capabilities_restricted", 22, _capabilities, replaces="capabilities_baseline"),
    Check("restrictedVolumes", 0, _volumes, replaces="hostPathVolumes"),
    Check("runAsNonRoot", 0, _not_root),
    Check("runAsUser", 23, _user),
    Check("seccompProfile_restricted", 19, _seccomp, replaces="seccompProfile_baseline"),
)
"""In the order in which they are said, after the baseline's."""
