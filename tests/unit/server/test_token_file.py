"""The file of fixed tokens."""

from __future__ import annotations

from pathlib import Path

import pytest

from gitkube.api.authorization import User
from gitkube.server.token_file import TokenFileError, read_token_file

KNOWN = "system:authenticated"
TOKEN = "0123456789abcdef"


def write(directory: Path, text: str, mode: int = 0o600) -> Path:
    path = directory / "tokens.csv"
    path.write_text(text)
    path.chmod(mode)
    return path


def test_a_line_is_a_token_and_its_user(tmp_path: Path) -> None:
    text = f'# who\n{TOKEN},jane,7\n\n{TOKEN}2,bob,,"a, b"\n{TOKEN}3,sue,9,system:masters\n'
    assert read_token_file(write(tmp_path, text)) == {
        TOKEN: User("jane", (KNOWN,), "7"),
        f"{TOKEN}2": User("bob", ("a", "b", KNOWN)),
        f"{TOKEN}3": User("sue", ("system:masters", KNOWN), "9"),
    }


WRONG = [
    (f"{TOKEN},jane", "tokens.csv:1: a line is"), (f"{TOKEN},jane,7,a,b", "in"), (f"{TOKEN},,7", "no user"),
    ("short,jane,7", "16 characters"), (f",jane,7\n{TOKEN},bob,8", "tokens.csv:1:"),
    (f"{TOKEN},jane,7\n{TOKEN},bob,8", "tokens.csv:2: the token stands above"),
    (f'{TOKEN},jane,7,"a', "tokens.csv:1:"), (f"{TOKEN} x,jane,7", "blanks"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "why"), WRONG)
def test_one_wrong_line_and_there_are_no_tokens(tmp_path: Path, text: str, why: str) -> None:
    with pytest.raises(TokenFileError, match=why):
        read_token_file(write(tmp_path, text))


def test_a_file_that_others_can_read_or_nobody_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TokenFileError, match="chmod 600"):
        read_token_file(write(tmp_path, f"{TOKEN},jane,7", 0o640))
    with pytest.raises(TokenFileError, match="cannot be read"):
        read_token_file(tmp_path / "none")


def test_no_error_shows_a_token(tmp_path: Path) -> None:
    for text in (f"{TOKEN},jane", f"{TOKEN},,7", f"{TOKEN},a,7\n{TOKEN},b,8"):
        with pytest.raises(TokenFileError) as refused:
            read_token_file(write(tmp_path, text))
        assert TOKEN not in str(refused.value)
