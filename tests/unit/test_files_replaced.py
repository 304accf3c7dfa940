"""Files that are replaced while others replace them, too."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from gitkube.files import replace_durably


def test_threads_that_replace_one_file_at_once_do_not_disturb_each_other(tmp_path: Path) -> None:
    path = tmp_path / "hook"
    contents = [f"from {number}\n".encode() * 100 for number in range(64)]
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda content: replace_durably(path, content), contents))
    assert path.read_bytes() in contents
    assert [each.name for each in tmp_path.iterdir()] == ["hook"]
