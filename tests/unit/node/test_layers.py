"""Image layers by strangers: what is unpacked, and what is refused before it can do harm."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import stat
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from gitkube.node import inside, layers


def entry(
    name: str, kind: bytes = tarfile.REGTYPE, link: str = "", content: bytes = b"", mode: int = 0o644
) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size, info.mode = kind, link, len(content), mode
    info.uid, info.gid = os.getuid(), os.getgid()
    return info, content


def archive(*entries: tuple[tarfile.TarInfo, bytes]) -> io.BytesIO:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as file:
        for info, content in entries:
            file.addfile(info, io.BytesIO(content))
    buffer.seek(0)
    return buffer


@pytest.fixture
def root(tmp_path: Path) -> Iterator[tuple[Path, int]]:
    directory = tmp_path / "outer" / "root"
    directory.mkdir(parents=True)
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    yield directory, fd
    os.close(fd)


def test_files_directories_and_links_are_unpacked_with_their_modes(root: tuple[Path, int]) -> None:
    directory, fd = root
    layers.unpack(
        archive(
            entry("./bin", tarfile.DIRTYPE, mode=0o755),
            entry("bin/tool", content=b"x" * 5000, mode=0o4755),
            entry("bin/alias", tarfile.SYMTYPE, "/bin/tool"),
            entry("bin/twin", tarfile.LNKTYPE, "bin/tool"),
        ),
        fd,
    )
    assert stat.S_IMODE((directory / "bin/tool").stat().st_mode) == 0o4755
    assert os.readlink(directory / "bin/alias") == "/bin/tool"
    assert (directory / "bin/twin").stat().st_ino == (directory / "bin/tool").stat().st_ino


@pytest.mark.parametrize("name", ["/etc/passwd", "../evil", "a/../../evil", "a/b/../../../evil", "n" * 5000])
def test_names_that_lead_out_are_refused(root: tuple[Path, int], name: str) -> None:
    with pytest.raises(layers.LayerError):
        layers.unpack(archive(entry(name, content=b"x")), root[1])
    assert sorted(path.name for path in root[0].parent.iterdir()) == ["root"]


@pytest.mark.parametrize("target", ["/", "..", "../..", "/../../..", "loop"])
def test_writing_through_a_link_stays_inside(root: tuple[Path, int], target: str) -> None:
    directory, fd = root
    entries = [entry("loop", tarfile.SYMTYPE, target), entry("loop/written", content=b"x")]
    try:
        layers.unpack(archive(*entries), fd)
        assert (directory / "written").read_bytes() == b"x"
    except OSError:
        assert target == "loop"
    assert sorted(path.name for path in directory.parent.iterdir()) == ["root"]


def test_a_hard_link_to_something_outside_is_refused(root: tuple[Path, int]) -> None:
    secret = root[0].parent / "secret"
    secret.write_text("s")
    for target in ("../secret", str(secret), "not-there"):
        with pytest.raises(layers.LayerError):
            layers.unpack(archive(entry("mine", tarfile.LNKTYPE, target)), root[1])
    layers.unpack(archive(entry("way", tarfile.SYMTYPE, str(secret.parent))), root[1])
    with pytest.raises(layers.LayerError):
        layers.unpack(archive(entry("mine", tarfile.LNKTYPE, "way/secret")), root[1])


def test_a_device_is_refused_but_under_dev_where_nobody_sees_it(root: tuple[Path, int]) -> None:
    layers.unpack(archive(entry("dev", tarfile.DIRTYPE), entry("dev/sda", tarfile.BLKTYPE)), root[1])
    assert not (root[0] / "dev/sda").exists()
    with pytest.raises(layers.LayerError, match="device"):
        layers.unpack(archive(entry("etc/sda", tarfile.BLKTYPE)), root[1])


def test_a_layer_that_grows_too_large_is_refused(root: tuple[Path, int]) -> None:
    with pytest.raises(layers.LayerError, match="more than 1000 bytes"):
        layers.unpack(archive(entry("big", content=b"0" * 2000)), root[1], max_bytes=1000)


@pytest.mark.skipif(os.geteuid() != 0, reason="whiteouts are devices and trusted attributes, for root only")
def test_whiteouts_become_overlayfs_own(root: tuple[Path, int]) -> None:
    directory, fd = root
    try:
        layers.unpack(
            archive(entry("etc", tarfile.DIRTYPE), entry("etc/.wh.old"), entry("etc/.wh..wh..opq")), fd
        )
    except OSError as error:
        pytest.skip(f"this file system keeps no trusted attributes: {error}")
    info = (directory / "etc/old").lstat()
    assert stat.S_ISCHR(info.st_mode) and info.st_rdev == 0
    assert os.getxattr(directory / "etc", "trusted.overlay.opaque") == b"y"
    with pytest.raises(layers.LayerError, match="whiteout"):
        layers.unpack(archive(entry("etc/.wh...")), fd)


def test_a_blob_is_unpacked_whole_or_not_at_all(tmp_path: Path) -> None:
    good = gzip.compress(archive(entry("file", content=b"x")).getvalue())
    blob, digest = tmp_path / "blob", f"sha256:{hashlib.sha256(good).hexdigest()}"
    blob.write_bytes(good)
    layers.unpack_blob(blob, digest, tmp_path / "target")
    assert (tmp_path / "target/file").read_bytes() == b"x"
    for bad in (good[:-9], good + b"x", b"\x1f\x8bnonsense", b""):
        blob.write_bytes(bad)
        with pytest.raises(layers.LayerError, match="has digest"):
            layers.unpack_blob(blob, digest, tmp_path / "other")
        with pytest.raises((layers.LayerError, OSError)):
            layers.unpack_blob(blob, f"sha256:{hashlib.sha256(bad[:-1]).hexdigest()}", tmp_path / "other")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["blob", "target"]


def test_reading_inside_a_root_follows_links_no_further_than_the_root(tmp_path: Path) -> None:
    (tmp_path / "root/etc").mkdir(parents=True)
    (tmp_path / "root/etc/real").write_text("inside")
    (tmp_path / "passwd").write_text("outside")
    (tmp_path / "root/etc/passwd").symlink_to("../../../../etc/real")
    (tmp_path / "root/abs").symlink_to("/etc/real")
    (tmp_path / "root/out").symlink_to(tmp_path / "passwd")
    (tmp_path / "root/loop").symlink_to("loop")
    os.mkfifo(tmp_path / "root/pipe")
    base = str(tmp_path / "root")
    assert inside.read_inside(base, "etc/passwd", 100) == b"inside"
    assert inside.read_inside(base, "abs", 100) == b"inside"
    assert inside.read_inside(base, "out", 100) == b"" and inside.read_inside(base, "pipe", 100) == b""
    with pytest.raises(inside.Escape):
        inside.read_inside(base, "loop", 100)
