"""Fixed tokens: a file in which the cluster's owner says which token makes its bearer whom.

The form is Kubernetes' (`--token-auth-file`): lines of CSV, `token,user,uid` and perhaps groups, in quotes
when they are several. The tokens hold until the file is changed and `serve` is started anew, so they are for
what can have neither a certificate nor a ServiceAccount. Invariant: a file that is wrong in one line is no
file.
"""

from __future__ import annotations

import csv
from pathlib import Path

from gitkube.api.authorization import User
from gitkube.server.identity import authenticated

MAX_FILE_BYTES = 1024 * 1024
MIN_TOKEN_CHARS = 16
"""Who can ask without end finds a shorter one."""


class TokenFileError(ValueError):
    """The file is no token file; the text says where and why."""


def read_token_file(path: Path) -> dict[str, User]:
    """Token -> user.

    Raises:
        TokenFileError: it cannot be read, others can read it, or a line is wrong.
    """
    try:
        status = path.stat()
        text = path.read_text(encoding="utf-8") if status.st_size <= MAX_FILE_BYTES else None
    except (OSError, UnicodeDecodeError) as error:
        raise TokenFileError(f"the token file {path} cannot be read: {error}") from error
    if text is None:
        raise TokenFileError(f"the token file {path} is larger than {MAX_FILE_BYTES} bytes")
    if status.st_mode & 0o077:
        raise TokenFileError(
            f"the token file {path} can be read by others (mode {status.st_mode & 0o777:o}); "
            f"run: chmod 600 {path}"
        )
    tokens: dict[str, User] = {}
    lines = csv.reader(text.splitlines(), strict=True)
    try:
        for fields in lines:
            if not fields or fields[0].startswith("#"):
                continue
            token, user = _line(fields)
            if token in tokens:
                raise ValueError("the token stands above already")
            tokens[token] = user
    except (ValueError, csv.Error) as error:
        raise TokenFileError(f"{path}:{lines.line_num}: {error}") from error
    return tokens


def _line(fields: list[str]) -> tuple[str, User]:
    if len(fields) not in (3, 4):
        raise ValueError('a line is token,user,uid or token,user,uid,"group,group"')
    token, name, uid, *rest = (field.strip() for field in fields)
    if len(token) < MIN_TOKEN_CHARS or not token.isascii() or not token.isprintable() or " " in token:
        raise ValueError(f"a token has {MIN_TOKEN_CHARS} characters or more, and no blanks")
    if not name:
        raise ValueError("the line names no user")
    groups = tuple(group.strip() for group in (rest[0] if rest else "").split(",") if group.strip())
    return token, authenticated(User(name, groups, uid))
