"""Checks of security contexts, of a pod and of a container."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from gitkube.objects.validation.causes import Causes

_MAX_ID = 2**31 - 1
_SYSCTL_SLASHED = r"([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?"
_sysctl_re = re.compile(_SYSCTL_SLASHED)


def check_security_context(causes: Causes, context: Mapping[str, Any], path: str) -> None:
    for field in ("runAsUser", "runAsGroup", "fsGroup"):
        value = context.get(field)
        if value is not None and not 0 <= value <= _MAX_ID:
            causes.invalid(f"{path}.{field}", value, f"must be between 0 and {_MAX_ID}, inclusive")
    for index, group in enumerate(context.get("supplementalGroups") or ()):
        if not 0 <= group <= _MAX_ID:
            causes.invalid(
                f"{path}.supplementalGroups[{index}]", group, f"must be between 0 and {_MAX_ID}, inclusive"
            )
    causes.one_of(f"{path}.procMount", context.get("procMount"), ("Default", "Unmasked"), is_required=False)
    policy = context.get("supplementalGroupsPolicy")
    causes.one_of(f"{path}.supplementalGroupsPolicy", policy, ("Merge", "Strict"), is_required=False)
    if context.get("allowPrivilegeEscalation") is False:
        if context.get("privileged"):
            causes.invalid(
                path, dict(context), "cannot set `allowPrivilegeEscalation` to false and `privileged` to true"
            )
        if "CAP_SYS_ADMIN" in ((context.get("capabilities") or {}).get("add") or ()):
            causes.invalid(
                path,
                dict(context),
                "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN",
            )
    for field in ("seccompProfile", "appArmorProfile"):
        if (profile := context.get(field)) is not None:
            what = "seccomp" if field == "seccompProfile" else "AppArmor"
            _check_profile(causes, profile, f"{path}.{field}", what)
    _check_sysctls(causes, context.get("sysctls") or (), f"{path}.sysctls")


def _check_profile(causes: Causes, profile: Mapping[str, Any], path: str, what: str) -> None:
    kind = profile.get("type")
    if not causes.one_of(f"{path}.type", kind, ("Localhost", "RuntimeDefault", "Unconfined")):
        return
    local = profile.get("localhostProfile")
    if kind == "Localhost" and not local:
        causes.required(f"{path}.localhostProfile", f"must be set when {what} type is Localhost")
    elif kind != "Localhost" and local is not None:
        causes.invalid(f"{path}.localhostProfile", local, f"can only be set when {what} type is Localhost")


def _check_sysctls(causes: Causes, sysctls: Any, path: str) -> None:
    seen: set[str] = set()
    for index, sysctl in enumerate(sysctls):
        name = sysctl.get("name") or ""
        where = f"{path}[{index}].name"
        if not name:
            causes.required(where)
        elif len(name) > 253 or not _sysctl_re.fullmatch(name):
            causes.invalid(where, name, f"must have at most 253 characters and match regex {_SYSCTL_SLASHED}")
        elif name in seen:
            causes.duplicate(where, name)
        seen.add(name)
