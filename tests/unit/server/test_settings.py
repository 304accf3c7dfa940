"""What follows from the options of `gitkube serve`."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from gitkube.server.pki import Pki
from gitkube.server.settings import (
    ControlPlaneSettings,
    SettingsError,
    check_settings,
    check_store_owner,
    door_hosts,
    identity_of,
    member_config,
    split_address,
)
from gitkube.store.directory import Identity, create_member
from gitkube.store.disk import SystemDisk
from gitkube.store.protocol import IdentityError
from gitkube.store.raft.types import MemberId
from tests.support.fake_clock import FakeClock


def settings(**options: object) -> ControlPlaneSettings:
    paths = {"data_dir": Path("/d"), "inventory": Path("/i"), "repository": Path("/r")}
    return ControlPlaneSettings(**{**paths, **options})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "url"),
    [
        ({}, "https://127.0.0.1:6443"),
        ({"listen_host": "10.0.0.1"}, "https://10.0.0.1:6443"),
        ({"listen_host": "0.0.0.0"}, "https://127.0.0.1:6443"),
        ({"listen_host": "0.0.0.0", "peer_listen": "10.0.0.1:2380"}, "https://10.0.0.1:6443"),
        ({"listen_host": "0.0.0.0", "advertise": ("lab.example.org",)}, "https://lab.example.org:6443"),
        ({"listen_host": "fd00::1"}, "https://[fd00::1]:6443"),
    ],
)
def test_others_reach_the_api_by_the_best_name_that_is_known(options: dict[str, object], url: str) -> None:
    assert settings(**options).client_url(6443) == url


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"peer_listen": "2380"}, "--peer-listen: '2380' is not HOST:PORT"),
        ({"peer_listen": ":2380"}, "--peer-listen: ':2380' is not HOST:PORT"),
        ({"peer_listen": "a:0"}, "--peer-listen: 'a:0' is not HOST:PORT"),
        ({"peer_listen": "a:²"}, "--peer-listen: 'a:²' is not HOST:PORT"),
        ({"door_listen": "a:65536"}, "--etcd-listen: 'a:65536' is not HOST:PORT"),
        ({"peer_listen": "0.0.0.0:2380"}, "add --peer-advertise"),
        ({"peer_advertise": "a:1"}, "needs --peer-listen"),
        ({"join": Path("x")}, "--join needs --peer-listen"),
        ({"join": Path("x"), "peer_listen": "a:1", "force_new_cluster": True}, "give one of them"),
        ({"door_listen": "a:0"}, "--etcd-listen"),
        ({"cluster_cidr": "10.42.0.0/25"}, "--cluster-cidr .* no room for one host"),
        ({"cluster_cidr": "fd00::/64"}, "--cluster-cidr: 'fd00::/64' is no IPv4 network"),
        ({"cluster_cidr": "10.42.0.0/255.255.0.0"}, "as 10.42.0.0/16"),
        ({"cluster_cidr": "127.0.0.0/8"}, "no network of ordinary addresses"),
        ({"service_cidr": "10.43.0.1/16"}, "--service-cidr: .* has host bits set"),
        ({"service_cidr": "10.0.0.0/8"}, "--service-cidr 10.0.0.0/8 must have a prefix of 12 to 28 bits"),
        ({"service_cidr": "10.42.7.0/24"}, "overlap"),
    ],
)
def test_options_that_contradict_each_other_are_refused_by_name(
    options: dict[str, object], said: str
) -> None:
    with pytest.raises(SettingsError, match=said):
        check_settings(settings(**options))


def test_a_lone_controller_opens_no_port_for_others(tmp_path: Path) -> None:
    pki = Pki.open(tmp_path / "pki", clock=FakeClock())
    config = member_config(settings(data_dir=tmp_path), pki, "ctl-1", None)
    assert (config.peer_listen, config.peer_ca, config.door_listen) == ("", None, "")
    assert not (tmp_path / "pki" / "store-ca.key").exists()


def test_a_door_on_all_addresses_has_a_certificate_for_those_that_are_known() -> None:
    asked = settings(
        door_listen="0.0.0.0:2379", listen_host="10.0.0.1", peer_listen="10.0.1.1:2380", advertise=("lab",)
    )
    assert set(door_hosts(asked)) == {"10.0.0.1", "10.0.1.1", "lab", socket.gethostname()}


def test_a_members_doors_have_certificates(tmp_path: Path) -> None:
    pki = Pki.open(tmp_path / "pki", clock=FakeClock())
    asked = settings(data_dir=tmp_path, peer_listen="10.0.0.1:2380", door_listen="10.0.0.1:2379")
    config = member_config(asked, pki, "ctl-1", None)
    assert config.advertised == "10.0.0.1:2380"
    files = (config.peer_ca, config.peer_certificate, config.peer_key, config.door_ca, config.door_key)
    assert all(file is not None and file.exists() for file in files)


def test_a_data_directory_keeps_its_name(tmp_path: Path) -> None:
    name, identity = identity_of(tmp_path, "ctl-1")
    assert name == "ctl-1" and identity.startswith("ctl-1_")
    assert identity_of(tmp_path, "") == identity_of(tmp_path, "ctl-1") == (name, identity)
    with pytest.raises(SettingsError, match="is the controller ctl-1"):
        identity_of(tmp_path, "ctl-2")


@pytest.mark.parametrize("name", ["a b", "x" * 41, "ä/b", "a_b"])
def test_what_cannot_be_a_name_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(SettingsError):
        identity_of(tmp_path, name)


def test_a_path_that_is_too_long_for_a_socket_is_refused(tmp_path: Path) -> None:
    pki = Pki.open(tmp_path / "pki", clock=FakeClock())
    with pytest.raises(SettingsError, match="shorter --data-dir"):
        member_config(settings(data_dir=tmp_path / ("x" * 100)), pki, "a", None)


@pytest.mark.parametrize(("text", "address"), [("a:1", ("a", 1)), ("[fd00::1]:2380", ("fd00::1", 2380))])
def test_addresses_are_split(text: str, address: tuple[str, int]) -> None:
    assert split_address(text) == address


def test_a_controller_with_anothers_store_is_refused_and_nothing_is_touched(tmp_path: Path) -> None:
    store = tmp_path / "store"
    create_member(SystemDisk(), store, Identity(7, MemberId(0xA), "ctl-1"), segment_bytes=64 * 1024)
    before = {path: path.read_bytes() for path in store.rglob("*") if path.is_file()}
    check_store_owner(store, "ctl-1")
    with pytest.raises(IdentityError, match=r"data of controller ctl-1 \(member a\), and this is ctl-2"):
        check_store_owner(store, "ctl-2")
    assert {path: path.read_bytes() for path in store.rglob("*") if path.is_file()} == before
    check_store_owner(tmp_path / "none", "ctl-2")
