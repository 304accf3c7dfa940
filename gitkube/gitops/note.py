"""The note in a repository: the last head at which its branch and the store's were the same.

It says which of the two has moved when they differ. It names the cluster and the branch, so that a repository
that was carried into another cluster, or a store that was restored, is not taken for the one it was; a note
that is missing or damaged says nothing, and what it would have said is found out anew.
"""

from __future__ import annotations

import json
from pathlib import Path

from gitkube.files import replace_durably
from gitkube.gitops.ledger import Head
from gitkube.gitops.source import CommitId

NOTE = "gitkube.replicated"
"""In the repository."""


def read_note(repository: Path, cluster: int, branch: str) -> Head | None:
    """What the note says of this branch of this cluster."""
    try:
        note = json.loads((repository / NOTE).read_bytes())
        if (note["cluster"], note["branch"]) != (f"{cluster:016x}", branch):
            return None
        return Head(int(note["push"]), CommitId(note["commit"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write_note(repository: Path, cluster: int, branch: str, head: Head) -> None:
    """Note, on disk, that branch and head are the same.

    Raises:
        OSError: the disk failed or is full.
    """
    note = {"cluster": f"{cluster:016x}", "branch": branch, "push": head.push, "commit": head.commit}
    replace_durably(repository / NOTE, json.dumps(note).encode())
