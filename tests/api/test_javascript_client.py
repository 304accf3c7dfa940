"""The JavaScript client, in node: objects, watches, informers, apply, logs, exec and port-forward."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from tests.support import tools
from tests.support.live_cluster import LiveCluster

PROGRAM = Path(__file__).parent / "testdata" / "javascript" / "client.mjs"


def test_the_javascript_client_does_what_people_do_with_it(working: LiveCluster, shop: str) -> None:
    client = tools.needed(tools.javascript_client(), tools.JAVASCRIPT_PACKAGE)
    working.kubectl("-n", shop, "run", "p", "--image=web:1")
    working.kubectl("-n", shop, "wait", "pod/p", "--for=condition=Ready", "--timeout=60s")
    done = working.call(shutil.which("node") or "node", str(PROGRAM), client, shop, timeout_s=120)
    said: dict[str, Any] = {}
    for line in done.stdout.splitlines():
        said |= json.loads(line)
    assert said == {
        "patched": {"a": "b", "c": "d"},
        "refused": 404,
        "watched": "ADDED one",
        "informed": "two",
        "applied": 2,
        "scale": 2,
        "log": "three\n",
        "exec": ["Success", "typed"],
        "failed": "7",
        "forwarded": "QUIET",
    }
