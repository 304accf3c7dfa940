"""Asking a container something: the one way behind probes and lifecycle hooks."""

from __future__ import annotations

import asyncio

from gitkube.node import exec as container_exec
from gitkube.node import probes
from gitkube.node.kube import Object
from gitkube.node.probes import Answer
from gitkube.node.target import Target, check_command

HOOK_TIMEOUT_S = 3600.0
"""postStart has no limit of its own in the API; this one keeps a hung hook from being held for ever."""


class Hooks:
    """Probes and lifecycle hooks by exec, HTTP or TCP."""

    async def ask(
        self, probe: Object, container: Object, target: Target, pod_ip: str, timeout_s: float
    ) -> Answer:
        """Put a probe's question once."""
        kind = probes.describe(probe)
        try:
            if kind == "exec":
                command = check_command(probe["exec"].get("command"))
                return await container_exec.run_exec(target, command, timeout_s)
            if kind == "httpGet":
                return await probes.ask_http(pod_ip, container, probe["httpGet"], timeout_s)
            if kind == "tcpSocket":
                action = probe["tcpSocket"]
                port = probes.port_number(action.get("port"), container)
                return await probes.ask_tcp(str(action.get("host") or pod_ip), port, timeout_s)
        except (ValueError, OSError) as error:
            return Answer(False, str(error))
        return Answer(False, f"this host knows exec, httpGet and tcpSocket; not {', '.join(sorted(probe))}")

    async def run(
        self,
        hook: Object,
        container: Object,
        target: Target,
        pod_ip: str,
        *,
        timeout_s: float = HOOK_TIMEOUT_S,
    ) -> Answer:
        """Run a lifecycle hook to its end."""
        if hook.get("sleep") is not None:
            await asyncio.sleep(min(timeout_s, float(hook["sleep"].get("seconds") or 0)))
            return Answer(True)
        return await self.ask(hook, container, target, pod_ip, timeout_s)
