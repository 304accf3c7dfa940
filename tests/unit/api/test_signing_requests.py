"""CertificateSigningRequests through their two doors, status and approval: what each of them lets pass."""

from __future__ import annotations

from typing import Any

import pytest

from gitkube.api.strategy import prepare_for_update
from gitkube.objects.kinds import CERTIFICATE_SIGNING_REQUEST


def request(*conditions: str, certificate: str = "") -> dict[str, Any]:
    status: dict[str, Any] = {"certificate": certificate} if certificate else {}
    if conditions:
        status["conditions"] = [{"type": one, "status": "True"} for one in conditions]
    return {"metadata": {"name": "it"}, "spec": {"signerName": "example.com/a"}, "status": status}


@pytest.mark.parametrize(
    ("door", "before", "asked", "after"),
    [
        # The approval door takes every condition, and nothing else.
        (
            "approval",
            request(certificate="c"),
            request("Looked", "Approved", certificate="x"),
            request("Looked", "Approved", certificate="c"),
        ),
        ("approval", request("Looked"), request("Looked", "Approved"), request("Looked", "Approved")),
        # The status door takes all but approvals, which it can neither give nor take back.
        (
            "status",
            request("Approved"),
            request("Looked", certificate="c"),
            request("Approved", "Looked", certificate="c"),
        ),
        ("status", request(), request("Approved"), request()),
    ],
)
def test_each_door_lets_pass_what_is_its_own(
    door: str, before: dict[str, Any], asked: dict[str, Any], after: dict[str, Any]
) -> None:
    prepare_for_update(CERTIFICATE_SIGNING_REQUEST, asked, before, door)
    assert asked == after
