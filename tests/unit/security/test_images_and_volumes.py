"""What strangers put into image layers, volume keys and sub-paths in order to reach the host."""

from __future__ import annotations

import io
import os
import stat
import tarfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gitkube.node import inside, layers, volumes
from gitkube.node.env import ConfigError, PodFacts, References
from gitkube.node.paths import Layout, UnsafeName
from tests.unit.node.test_layers import archive, entry

FILE, DIRECTORY, LINK, TWIN = tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE
Root = tuple[Path, int]


@pytest.fixture
def stage(root: Root) -> Root:
    """A root to unpack to, and beside it what must stay as it is."""
    outside = root[0].parent / "outside"
    outside.mkdir()
    (outside / "kept").write_text("kept")
    return root


def is_untouched(stage: Root) -> bool:
    outside = stage[0].parent / "outside"
    names = sorted(path.name for path in stage[0].parent.iterdir())
    return (
        names == ["outside", "root"]
        and [path.name for path in outside.iterdir()] == ["kept"]
        and (outside / "kept").read_text() == "kept"
    )


def unpack(stage: Root, *entries: Any, **limits: int) -> str:
    """What it was refused for, or ""."""
    try:
        layers.unpack(archive(*entries), stage[1], **limits)
    except (layers.LayerError, OSError) as error:
        return str(error) or type(error).__name__
    return ""


UP = ["..", "../..", "../outside", "../../outside", "/", "/outside", "a/../../outside"]


@pytest.mark.parametrize("target", UP)
def test_nothing_is_written_through_links_however_they_are_chained(stage: Root, target: str) -> None:
    out = str(stage[0].parent / "outside")
    for link in (target, out):
        links = (entry("one", LINK, link), entry("two", LINK, "one"), entry("d", DIRECTORY))
        for attack in (
            entry("two/kept", FILE, content=b"x"), entry("d/up/kept", FILE, content=b"x"),
            entry("two/kept", TWIN, "d"), entry("mine", TWIN, "two/kept"), entry("one/new", DIRECTORY),
            entry("one/.wh.kept"), entry("one/.wh..wh..opq"), entry("one/p", tarfile.FIFOTYPE),
            entry("two", DIRECTORY, mode=0o777), entry("d/up", DIRECTORY),
        ):  # fmt: skip
            unpack(stage, *links, entry("d/up", LINK, "../one"), attack)
            assert is_untouched(stage)


def test_a_link_in_the_place_of_a_directory_is_not_entered_when_the_directory_comes_again(
    stage: Root,
) -> None:
    out = str(stage[0].parent / "outside")
    unpack(stage, entry("d", DIRECTORY), entry("d", LINK, out), entry("d/kept", FILE, content=b"x"))
    assert is_untouched(stage)
    unpack(stage, entry("e", LINK, out), entry("e", DIRECTORY, mode=0o777), entry("e/kept", content=b"x"))
    assert is_untouched(stage)
    assert stat.S_IMODE((stage[0].parent / "outside").stat().st_mode) != 0o777


def test_a_file_written_again_does_not_change_what_its_twin_or_its_link_shows(stage: Root) -> None:
    out = str(stage[0].parent / "outside" / "kept")
    unpack(stage, entry("f", LINK, out), entry("f", FILE, content=b"evil", mode=0o4755))
    assert is_untouched(stage) and (stage[0] / "f").read_bytes() == b"evil"


@pytest.mark.parametrize(
    "name", [".wh..", ".wh...", ".wh.", "d/.wh...", "../.wh.kept", "d/../../.wh.outside"]
)
def test_a_whiteout_hides_nothing_above_or_beside_its_layer(stage: Root, name: str) -> None:
    assert unpack(stage, entry("d", DIRECTORY), entry(name))
    assert is_untouched(stage)


@pytest.mark.parametrize("kind", [tarfile.CHRTYPE, tarfile.BLKTYPE])
@pytest.mark.parametrize("name", ["sda", "etc/sda", "dev/../sda", "devices/sda", "./x/dev/sda"])
def test_no_device_comes_out_of_an_image(stage: Root, kind: bytes, name: str) -> None:
    assert unpack(stage, entry(name, kind))
    made = [path for path in stage[0].rglob("*") if not path.is_dir()]
    assert not made


def test_a_device_under_dev_is_left_out_even_where_dev_is_a_link(stage: Root) -> None:
    unpack(stage, entry("etc", DIRECTORY), entry("dev", LINK, "etc"), entry("dev/sda", tarfile.BLKTYPE))
    assert not any(stat.S_ISBLK(path.lstat().st_mode) for path in stage[0].rglob("*"))


def test_holes_count_as_much_as_they_show(stage: Root) -> None:
    """A sparse file of a tebibyte is some hundred bytes of archive."""
    info = tarfile.TarInfo("huge")
    info.size, info.uid, info.gid = 0, os.getuid(), os.getgid()
    info.pax_headers = {
        "GNU.sparse.major": "0", "GNU.sparse.minor": "1", "GNU.sparse.name": "huge",
        "GNU.sparse.size": str(1 << 40), "GNU.sparse.numblocks": "1", "GNU.sparse.map": f"{(1 << 40) - 1},1",
    }  # fmt: skip
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as file:
        file.addfile(info)
    buffer.seek(0)
    with pytest.raises((layers.LayerError, tarfile.TarError, OSError)):
        layers.unpack(buffer, stage[1])
    assert sum(path.stat().st_blocks for path in stage[0].rglob("*")) < 1_000


def test_sizes_add_up_and_entries_are_counted(stage: Root, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = [entry(f"f{number}", content=b"x" * 400) for number in range(10)]
    assert "more than 2000 bytes" in unpack(stage, *parts, max_bytes=2000)
    monkeypatch.setattr(layers, "MAX_ENTRIES", 20)
    assert "more than 20 entries" in unpack(stage, *(entry(f"e{number}") for number in range(30)))


def test_attributes_of_the_stacking_itself_are_not_taken(stage: Root) -> None:
    info, content = entry("f", content=b"x")
    info.pax_headers = {
        "SCHILY.xattr.trusted.overlay.redirect": "/etc", "SCHILY.xattr.trusted.overlay.opaque": "y",
        "SCHILY.xattr.security.selinux": "x", "SCHILY.xattr.system.posix_acl_access": "x",
    }  # fmt: skip
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as file:
        file.addfile(info, io.BytesIO(content))
    buffer.seek(0)
    layers.unpack(buffer, stage[1])
    assert not {name for name in os.listxattr(stage[0] / "f") if name.startswith("trusted.")}


ODD = st.sampled_from(["..", ".", "", "a", "b", "one", "/", "kept", ".wh.a", ".wh..wh..opq", "dev", "\u202e"])
NAMES = st.lists(ODD, min_size=1, max_size=5).map("/".join)
KINDS = st.sampled_from([FILE, DIRECTORY, LINK, TWIN, tarfile.FIFOTYPE, tarfile.CHRTYPE])


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(NAMES, KINDS, NAMES), max_size=12))
def test_no_archive_at_all_reaches_beyond_its_root(
    tmp_path_factory: pytest.TempPathFactory, members: list[tuple[str, bytes, str]]
) -> None:
    base = tmp_path_factory.mktemp("any")
    (base / "root").mkdir()
    (base / "outside").mkdir()
    (base / "outside" / "kept").write_text("kept")
    fd = os.open(base / "root", os.O_RDONLY | os.O_DIRECTORY)
    up = [entry("one", LINK, f"../../{base.name}/outside"), entry("b", LINK, str(base / "outside"))]
    entries = [entry(n or "x", k, link, b"x" if k == FILE else b"") for n, k, link in members]
    try:
        unpack((base / "root", fd), *up)
        for each in entries:  # one by one, so that one that is refused does not save us from the next
            unpack((base / "root", fd), each)
        assert is_untouched((base / "root", fd))
    finally:
        os.close(fd)


# ------------------------------------------------------------ volumes


@pytest.mark.parametrize(
    "path",
    ["", "/", "/etc/x", "..", "../x", "a/../../x", "a//b", "a/.", "..data", "..data/x", "..2026/x", "./a"],
)
def test_a_key_or_an_items_path_cannot_leave_its_volume(tmp_path: Path, path: str) -> None:
    with pytest.raises(ConfigError):
        volumes.checked_path(path)


def test_a_key_of_an_object_is_checked_like_a_path() -> None:
    """Keys come from the API, which refuses such names; the host does not rely on it."""
    pod = {"metadata": {"namespace": "n", "name": "p", "uid": "u"}, "spec": {"containers": []}}
    references = References({}, {"n/s": {"data": {"../../escape": "eA=="}}})
    with pytest.raises(ConfigError):
        volumes.payload(pod, {"name": "v", "secret": {"secretName": "s"}}, references, PodFacts())


@pytest.mark.parametrize("path", ["..", "../x", "a/../../b", "/etc", "/"])
def test_a_sub_path_that_climbs_is_refused_before_anything_is_opened(tmp_path: Path, path: str) -> None:
    with pytest.raises(ConfigError):
        volumes._pin_sub_path(str(tmp_path / "nowhere"), path, tmp_path / "pin", is_written=False)


@pytest.mark.parametrize("target", ["/", "..", "../../..", "/etc", "../outside", "/proc/self/root"])
def test_a_sub_path_through_links_ends_inside_its_volume(tmp_path: Path, target: str) -> None:
    volume = tmp_path / "volume"
    (volume / "etc").mkdir(parents=True)
    (tmp_path / "outside").mkdir()
    (volume / "link").symlink_to(target)
    root_fd = os.open(volume, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fd = inside.open_directory(root_fd, "link", create=True)
        try:
            found = Path(os.readlink(f"/proc/self/fd/{fd}"))
        finally:
            os.close(fd)
    finally:
        os.close(root_fd)
    assert found == volume or volume in found.parents
    assert list((tmp_path / "outside").iterdir()) == []


@pytest.mark.parametrize(
    "name", ["..", ".", "", "a/b", "/etc", "../x", "a\0b", "-", "a" * 300, "a b", ".hidden"]
)
def test_no_name_of_a_pod_or_a_volume_becomes_another_place(tmp_path: Path, name: str) -> None:
    layout = Layout(tmp_path, tmp_path)
    if name != "-":
        with pytest.raises(UnsafeName):
            layout.pod(name)
    pod = layout.pod("u")
    for place in (pod.volume, pod.etc, pod.container):
        try:
            made = place(name)
        except UnsafeName:
            continue
        assert tmp_path in made.parents and ".." not in made.parts


@pytest.mark.parametrize("path", ["etc", "/a/../etc", "", "../x", "/.."])
def test_a_host_path_is_whole_and_absolute(path: str) -> None:
    with pytest.raises(ConfigError):
        volumes._host_path({"path": path, "type": "Directory"})
