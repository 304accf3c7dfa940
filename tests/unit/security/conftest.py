"""Stages that other parts' tests have built, for those who attack them."""

from __future__ import annotations

from tests.unit.fleet.test_fleet import world
from tests.unit.gitops.conftest import api_client, judge, renderer, repo, sync
from tests.unit.node.test_layers import root

__all__ = ["api_client", "judge", "renderer", "repo", "root", "sync", "world"]
