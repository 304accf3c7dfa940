"""Which block of networks belongs to which lab: one small file for the whole machine.

/run forgets with the machine's boot, as the networks do. A block whose lab has no state file any more is free
again, so a lab deleted by hand does not hold its block for ever.
"""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gitkube.lab.errors import LabError
from gitkube.lab.layout import MAX_BLOCKS

BLOCKS_FILE = Path("/run/gitkube-lab/blocks.json")


@contextmanager
def taken_block(directory: Path, *, state_name: str, wanted: int | None = None) -> Iterator[int]:
    """The block of the lab in `directory`, a free one if it has none yet.

    Whoever takes one writes the state file within: before that, another lab would find the block free.

    Args:
        state_name: name of the file whose presence says that a lab still exists.
        wanted: the block it had before the machine booted, taken again when it is still free.

    Raises:
        LabError: all are taken.
    """
    with _blocks() as blocks:
        yield _choose(blocks, directory, state_name, wanted)


def _choose(blocks: dict[str, str], directory: Path, state_name: str, wanted: int | None) -> int:
    for block, owner in list(blocks.items()):
        if owner == str(directory):
            return int(block)
        if not (Path(owner) / state_name).exists():
            del blocks[block]
    candidates = list(range(MAX_BLOCKS))
    if wanted is not None:
        candidates.insert(0, wanted)
    for candidate in candidates:
        if str(candidate) not in blocks:
            blocks[str(candidate)] = str(directory)
            return candidate
    raise LabError(f"{MAX_BLOCKS} labs exist on this machine; end one with `gitkube lab down --dir DIR`")


def release_block(directory: Path) -> None:
    with _blocks() as blocks:
        for block in [block for block, owner in blocks.items() if owner == str(directory)]:
            del blocks[block]


@contextmanager
def _blocks() -> Iterator[dict[str, str]]:
    BLOCKS_FILE.parent.mkdir(parents=True, exist_ok=True)
    with BLOCKS_FILE.open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        text = file.read()
        blocks: dict[str, str] = json.loads(text) if text else {}
        before = dict(blocks)
        yield blocks
        if blocks != before:
            file.seek(0)
            file.truncate()
            file.write(json.dumps(blocks))
