"""The file that holds the keys under which Secrets are sealed, and which kinds are sealed.

`pki/sealing-keys.json` in the data directory, beside the authorities and never in the store's directory. The
first key is written with, the others are only read with. `api/sealing.py` says what they are for and keeps
the file; here it is read and written whole. Invariant: nobody but its owner can read it, and what was read
was written whole.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from gitkube.api.sealing import KEY_BYTES, SealError, key_id
from gitkube.files import replace_durably
from gitkube.objects.kinds import BUILT_IN, SECRET, Kind
from gitkube.server.authority import PkiError, refuse_open_key

FILE_NAME = "sealing-keys.json"
FORMAT = "gitkube-sealing-keys-1"
NOTHING = "none"


class KeyFile:
    """A `KeyKeeper` (`api/sealing.py`)."""

    def __init__(self, pki: Path) -> None:
        """
        Args:
            pki: the directory of the authorities, which is there.
        """
        self._path = pki / FILE_NAME

    @property
    def place(self) -> str:
        return str(self._path)

    def read(self) -> dict[str, bytes]:
        """Key id -> key, in the file's order; empty when there is no file.

        Raises:
            SealError: it is no such file, or others can read it.
        """
        if not self._path.exists():
            return {}
        try:
            refuse_open_key(self._path)
            found = json.loads(self._path.read_bytes())
            keys = [base64.b64decode(one, validate=True) for one in found["keys"]]
            is_good = found["format"] == FORMAT and all(len(key) == KEY_BYTES for key in keys)
        except PkiError as error:
            raise SealError(str(error)) from error
        except (OSError, ValueError, KeyError, TypeError, binascii.Error) as error:
            raise SealError(f"{self._path} cannot be read: {error}; restore it from a backup") from error
        if not is_good:
            raise SealError(f"{self._path} is no file of sealing keys; restore it from a backup")
        return {key_id(key): key for key in keys}

    def write(self, keys: Mapping[str, bytes]) -> None:
        """Write it whole, the key that is written with first.

        Raises:
            SealError: the disk refuses.
        """
        text = json.dumps(
            {"format": FORMAT, "keys": [base64.b64encode(key).decode() for key in keys.values()]}
        )
        try:
            replace_durably(self._path, f"{text}\n".encode())
        except OSError as error:
            raise SealError(f"{self._path} cannot be written: {error.strerror}") from error


def sealed_kinds(names: Sequence[str]) -> tuple[Kind, ...]:
    """The kinds that `--encrypt` names; Secrets always, unless the only name is `none`.

    Args:
        names: plurals, with the group where there is one: `configmaps`, `widgets.example.com`.

    Raises:
        ValueError: there is no such kind.
    """
    if list(names) == [NOTHING]:
        return ()
    by_name = {f"{kind.plural}.{kind.group}" if kind.group else kind.plural: kind for kind in BUILT_IN}
    for name in names:
        if name not in by_name:
            raise ValueError(f"--encrypt {name}: there is no such kind; say it as in: configmaps, jobs.batch")
    return (SECRET, *(by_name[name] for name in dict.fromkeys(names) if by_name[name] is not SECRET))
