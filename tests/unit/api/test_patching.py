"""Numbers in patches: which of them are whole."""

from __future__ import annotations

from typing import Any

import pytest

from gitkube.api.client import PatchType
from gitkube.api.patching import apply_patch
from gitkube.objects.kinds import DEPLOYMENT
from gitkube.objects.schema import schema_of


@pytest.mark.parametrize(
    ("type", "number", "replicas"),
    [
        (PatchType.STRATEGIC, 3.0, 3),
        (PatchType.STRATEGIC, 3.5, 3.5),
        (PatchType.MERGE, 3.0, 3.0),
    ],
)
def test_a_strategic_patch_may_write_a_whole_number_as_a_fraction(
    type: PatchType, number: float, replicas: Any
) -> None:
    patched = apply_patch(
        DEPLOYMENT, {"spec": {}}, {"spec": {"replicas": number}}, type, schema=schema_of(DEPLOYMENT)
    )
    assert repr(patched["spec"]["replicas"]) == repr(replicas)
