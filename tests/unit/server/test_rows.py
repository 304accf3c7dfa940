"""Rows that are kept say what rows made anew say, at any time."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from gitkube.api.stored import StoredObject
from gitkube.objects import tables
from gitkube.objects.kinds import CONFIG_MAP, POD, SECRET, Kind
from gitkube.server.forms import Shaper
from gitkube.server.negotiation import As, Form
from gitkube.server.rows import row_document
from tests.support.fake_clock import FakeClock

BORN_S = 1_700_000_000.0
METADATA = {"name": "a", "namespace": "shop", "creationTimestamp": "2023-11-14T22:13:20Z"}


def pod(**status: Any) -> dict[str, Any]:
    spec = {"containers": [{"name": "c"}], "nodeName": "ant"}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": METADATA, "spec": spec, "status": status}


RESTARTED = {
    "name": "c",
    "restartCount": 2,
    "lastState": {"terminated": {"exitCode": 1, "finishedAt": "2023-11-14T22:14:00Z"}},
}


@pytest.mark.parametrize(
    ("kind", "obj", "is_kept"),
    [
        (POD, pod(phase="Running"), True),
        (POD, pod(phase="Succeeded"), True),
        (POD, pod(phase="Running", containerStatuses=[RESTARTED]), False),
        (POD, {**pod(), "metadata": {"name": "a", "namespace": "shop"}}, False),
        (
            CONFIG_MAP,
            {"apiVersion": "v1", "kind": "ConfigMap", "metadata": METADATA, "data": {"a": "b"}},
            True,
        ),
        (SECRET, {"apiVersion": "v1", "kind": "Secret", "metadata": METADATA, "type": "\x00"}, False),
    ],
)
def test_a_kept_row_is_the_row(kind: Kind, obj: dict[str, Any], is_kept: bool) -> None:
    stored = StoredObject(obj)
    for later_s in (5.0, 65.0, 3_700.0, 90_000.0, 9e7):
        row = orjson.loads(row_document(kind, stored, BORN_S + later_s) + b"}")
        assert row["cells"] == list(tables.row(kind, obj, BORN_S + later_s))
        assert row.get("conditions", []) == tables.row_conditions(kind, obj)
    assert bool(stored.row) == is_kept


def test_an_object_that_is_not_stored_has_a_row_all_the_same() -> None:
    assert orjson.loads(row_document(POD, pod(), BORN_S) + b"}")["cells"][0] == "a"


def test_a_scale_shows_how_many_there_should_be_and_how_many_there_are() -> None:
    scale = {"kind": "Scale", "metadata": METADATA, "spec": {"replicas": 3}, "status": {"replicas": 2}}
    shaper = Shaper(FakeClock(start_s=BORN_S + 65.0))
    table = orjson.loads(orjson.dumps(shaper.scale(scale, Form(As.TABLE, "v1"))))
    assert [column["name"] for column in table["columnDefinitions"]] == [
        "Name",
        "Desired",
        "Available",
        "Age",
    ]
    assert [row["cells"] for row in table["rows"]] == [["a", 3, 2, "65s"]]
    assert shaper.scale(scale) == scale
