"""The member's configuration: what is written is what is read, and nothing else is believed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gitkube.store.config import ConfigError, JoinInfo, MemberConfig

ALONE = MemberConfig(data_dir=Path("/data/store"), socket=Path("/data/store.sock"))
FULL = MemberConfig(
    data_dir=Path("/data/store"),
    socket=Path("/data/store.sock"),
    name="ctl-1",
    peer_listen="10.0.0.1:2380",
    peer_advertise="ctl-1.lab:2380",
    client_urls=("https://10.0.0.1:6443",),
    peer_ca=Path("/data/pki/store-ca.crt"),
    peer_certificate=Path("/data/pki/peer.crt"),
    peer_key=Path("/data/pki/peer.key"),
    tick_s=0.05,
    join=JoinInfo(7, 2**63 + 5, {"12": "10.0.0.2:2380"}),
)


@pytest.mark.parametrize("config", [ALONE, FULL], ids=["alone", "full"])
def test_what_is_written_is_read_back(config: MemberConfig, tmp_path: Path) -> None:
    config.write(tmp_path / "member.json")
    assert MemberConfig.read(tmp_path / "member.json") == config
    assert (tmp_path / "member.json").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"colour": "red"}, "colour"),
        ({"peer_ca": None}, "mutual TLS"),
        ({"door_listen": "127.0.0.1:2379"}, "door_listen"),
        ({"tick_s": 0}, "tick_s"),
        ({"join": {"cluster_id": 1}}, "member_id"),
    ],
)
def test_what_cannot_work_is_refused_by_name(change: dict[str, object], said: str) -> None:
    broken = {**json.loads(FULL.to_json()), **change}
    with pytest.raises(ConfigError, match=said):
        MemberConfig.from_json(json.dumps(broken).encode())


def test_a_missing_or_foreign_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"gone\.json cannot be read"):
        MemberConfig.read(tmp_path / "gone.json")
    (tmp_path / "text").write_text("hello")
    with pytest.raises(ConfigError, match=r"text: is no JSON"):
        MemberConfig.read(tmp_path / "text")


def test_a_member_advertises_where_it_listens_unless_it_is_told() -> None:
    assert ALONE.advertised == ""
    assert FULL.advertised == "ctl-1.lab:2380"
