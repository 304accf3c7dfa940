"""Why a spec has no check: a reason for each, by words of its name.

The first line that matches counts. A spec that nothing matches has a check, or else `problems` names it and
the tests fail; so does a line that no spec without a check needs any more.
"""

from __future__ import annotations

from collections.abc import Mapping

from tests.conformance.harness import CHECKS, SPECS

_CONTAINER = "needs a container that runs; these checks run against hollow hosts"
_VOLUME = "needs a container that reads its volumes; these checks run against hollow hosts"
_TRAFFIC = "needs pods that answer; these checks run against hollow hosts"

REASONS: Mapping[str, str] = {
    "Aggregator Should be able to support": "there is no API aggregation",
    "multiple endpoint IPs specified in multiple EndpointSlices": _TRAFFIC,
    "multiple ports specified in multiple EndpointSlices": _TRAFFIC,
    "[sig-network] DNS": "needs a pod that asks the DNS of its host",
    "Networking Granular Checks": _TRAFFIC,
    "Proxy version v1": _TRAFFIC,
    "HostPort validates": _TRAFFIC,
    "[sig-network] Services": _TRAFFIC,
    "Service endpoints latency": "a measure, not a promise: see the benchmarks",
    "[sig-storage] ConfigMap": _VOLUME,
    "[sig-storage] Secrets": _VOLUME,
    "[sig-storage] Projected": _VOLUME,
    "[sig-storage] Downward API volume": _VOLUME,
    "[sig-storage] EmptyDir": _VOLUME,
    "[sig-storage] Subpath": _VOLUME,
    "CSIInlineVolumes should support CSIVolumeSource": "needs a CSI driver",
    "[sig-node] Probing container": _CONTAINER,
    "[sig-node] InitContainer": "needs init containers that run one after the other",
    "[sig-node] Container Lifecycle Hook": _CONTAINER,
    "[sig-node] PreStop": _CONTAINER,
    "[sig-node] Container Runtime": _CONTAINER,
    "[sig-node] Containers": _CONTAINER,
    "[sig-node] Kubelet": _CONTAINER,
    "[sig-node] Downward API": _CONTAINER,
    "[sig-node] Variable Expansion": _CONTAINER,
    "[sig-node] Security Context": _CONTAINER,
    "[sig-node] Sysctls": _CONTAINER,
    "[sig-node] ImageVolume": _CONTAINER,
    "should be consumable": _CONTAINER,
    "should support remote command execution over websockets": _CONTAINER,
    "should support retrieving logs from the container over websockets": _CONTAINER,
    "should contain environment variables for services": _CONTAINER,
    "ServiceAccounts should mount": "needs a container that reads its token",
    "ServiceAccountIssuerDiscovery should support OIDC discovery": "needs a container that reads its token",
    "Guestbook application": "needs containers that serve",
    "Kubectl logs": _CONTAINER,
    "[sig-apps] Daemon set": "there is no DaemonSet controller",
    "[StatefulSetBasic]": "there is no StatefulSet controller",
    "issue 500 podspec updates": "kubelet's observedGeneration is not reported",
    "[sig-scheduling] SchedulerPreemption": "pods do not preempt others",
}


def reason(spec: str) -> str:
    """Why there is no check; "" when there should be one."""
    return next((why for words, why in REASONS.items() if words in spec), "")


def problems() -> list[str]:
    """What keeps the table from being whole."""
    without = [spec for spec in SPECS if spec not in CHECKS]
    wrong = [f"no check and no reason: {spec}" for spec in without if not reason(spec)]
    used = {next((words for words in REASONS if words in spec), "") for spec in without}
    wrong += [f"a reason that no spec needs: {words}" for words in REASONS if words not in used]
    return wrong
