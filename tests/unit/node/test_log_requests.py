"""Which attempt of a container a request for its log means."""

from __future__ import annotations

import pytest

from gitkube.node.records import EXITED, RUNNING, WAITING, ContainerRecord, Ended
from gitkube.node.streams import Refused, wanted_attempt


def entry(phase: str, attempt: int, waiting_reason: str = "") -> ContainerRecord:
    ended = Ended(1, "Error", 1.0, 2.0, "id") if phase == EXITED else None
    return ContainerRecord("web", phase, attempt, ended=ended, waiting_reason=waiting_reason)


@pytest.mark.parametrize(
    ("container", "is_backing_off", "previous", "attempt"),
    [
        (entry(RUNNING, 3), False, False, 3),
        (entry(RUNNING, 3), False, True, 2),
        (entry(EXITED, 3), False, False, 3),
        (entry(EXITED, 3), False, True, 2),
        # In a crash loop the attempt that people ask for is the one that crashed last.
        (entry(EXITED, 3), True, False, 3),
        (entry(EXITED, 3), True, True, 3),
        (entry(EXITED, 0), True, True, 0),
        (entry(EXITED, 3, "ErrImagePull"), False, True, 3),
    ],
)
def test_a_log_is_of_the_attempt_that_kubernetes_would_read(
    container: ContainerRecord, is_backing_off: bool, previous: bool, attempt: int
) -> None:
    found = wanted_attempt(container, "p", is_backing_off=is_backing_off, previous=previous)
    assert found == attempt


@pytest.mark.parametrize(
    ("container", "previous", "words"),
    [
        (entry(RUNNING, 0), True, 'previous terminated container "web" in pod "p" not found'),
        (entry(WAITING, -1), True, 'previous terminated container "web" in pod "p" not found'),
        (entry(WAITING, -1), False, 'container "web" in pod "p" is waiting to start: ContainerCreating'),
        (
            entry(WAITING, -1, "ErrImagePull"), False,
            'container "web" in pod "p" is waiting to start: ErrImagePull',
        ),
    ],
)  # fmt: skip
def test_a_log_that_is_not_there_is_a_bad_request(
    container: ContainerRecord, previous: bool, words: str
) -> None:
    with pytest.raises(Refused) as raised:
        wanted_attempt(container, "p", is_backing_off=False, previous=previous)
    assert (str(raised.value), raised.value.reason) == (words, "BadRequest")
