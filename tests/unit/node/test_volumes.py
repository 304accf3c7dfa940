"""Volumes: what files they hold, and how an update reaches readers."""

from __future__ import annotations

import base64
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from gitkube.node.env import ConfigError, PodFacts, References
from gitkube.node.volumes import File, checked_path, kind_of, payload, write_payload

POD: dict[str, Any] = {
    "metadata": {"name": "p", "namespace": "shop", "uid": "u", "labels": {"app": "web", "b": 'q"'}},
    "spec": {"containers": [{"name": "web", "resources": {"limits": {"cpu": "250m"}}}]},
}
REFERENCES = References(
    {"shop/flags": {"metadata": {"name": "flags"}, "data": {"color": "red", "size": "7"}}},
    {"shop/key": {"metadata": {"name": "key"}, "data": {"token": base64.b64encode(b"s3cret").decode()}}},
)


def files_of(**source: Any) -> dict[str, File]:
    return payload(POD, {"name": "v", **source}, REFERENCES, PodFacts())


def test_a_config_map_is_one_file_for_each_key() -> None:
    assert files_of(configMap={"name": "flags"}) == {"color": File(b"red", 0o644), "size": File(b"7", 0o644)}


def test_items_choose_keys_paths_and_modes() -> None:
    items = [{"key": "token", "path": "deep/down", "mode": 0o400}]
    assert files_of(secret={"secretName": "key", "items": items}) == {"deep/down": File(b"s3cret", 0o400)}


def test_sources_are_joined_in_a_projected_volume() -> None:
    downward = {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}
    sources = [{"configMap": {"name": "flags"}}, {"secret": {"name": "key"}}, {"downwardAPI": downward}]
    files = files_of(projected={"sources": sources, "defaultMode": 0o440})
    assert set(files) == {"color", "size", "token", "labels"}
    assert files["labels"] == File(b'app="web"\nb="q\\""', 0o440)


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ({"configMap": {"name": "absent"}}, 'configmap "absent" not found'),
        ({"secret": {"secretName": "absent"}}, 'secret "absent" not found'),
        ({"configMap": {"name": "flags", "items": [{"key": "no", "path": "x"}]}}, "has no key 'no'"),
        ({"nfs": {"server": "x"}}, "of type nfs, which this host cannot provide"),
    ],
)
def test_what_cannot_be_had_is_named(source: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        files_of(**source)


def test_what_is_optional_may_be_missing() -> None:
    assert files_of(configMap={"name": "absent", "optional": True}) == {}
    assert kind_of({"name": "v"}) == "emptyDir"


@pytest.mark.parametrize("path", ["/abs", "../up", "a/../../b", "", "a//b", "..data", "..2026/x", "."])
def test_a_file_cannot_leave_its_volume_or_meddle_with_the_swap(path: str) -> None:
    with pytest.raises(ConfigError):
        checked_path(path)


def test_an_update_is_one_swap_and_leaves_nothing_behind(tmp_path: Path) -> None:
    assert write_payload(tmp_path, {"a": File(b"1", 0o640), "deep/b": File(b"2", 0o644)})
    before = os.readlink(tmp_path / "..data")
    assert (tmp_path / "a").read_bytes() == b"1" and (tmp_path / "deep/b").read_bytes() == b"2"
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o640
    assert not write_payload(tmp_path, {"a": File(b"1", 0o640), "deep/b": File(b"2", 0o644)})
    assert write_payload(tmp_path, {"a": File(b"new", 0o644)})
    assert (tmp_path / "a").read_bytes() == b"new" and not (tmp_path / "deep").is_symlink()
    assert os.readlink(tmp_path / "..data") != before and not (tmp_path / before).exists()
    assert len(list(tmp_path.iterdir())) == 3


def test_a_reader_with_an_open_directory_sees_one_version(tmp_path: Path) -> None:
    write_payload(tmp_path, {"a": File(b"1", 0o644), "b": File(b"1", 0o644)})
    held = os.open(tmp_path / "..data", os.O_RDONLY)
    content = os.open("a", os.O_RDONLY, dir_fd=held)
    write_payload(tmp_path, {"a": File(b"2", 0o644), "b": File(b"2", 0o644)})
    assert os.read(content, 10) == b"1"
    os.close(content)
    os.close(held)


# ---------------------------------------------------------------------- tokens

TOKENS = {"u": {"3600:": "for the API", "600:vault": "for the vault"}}


def tokens_of(pod: dict[str, Any], **source: Any) -> dict[str, File]:
    projected = {"sources": [{"serviceAccountToken": {"path": "token", **source}}]}
    references = References(tokens=TOKENS)
    return payload(pod, {"name": "v", "projected": projected}, references, PodFacts())


def test_a_projected_token_is_the_one_for_its_audience_and_life() -> None:
    assert tokens_of(POD) == {"token": File(b"for the API", 0o644)}
    assert tokens_of(POD, audience="vault", expirationSeconds=600)["token"].content == b"for the vault"


def test_a_token_that_has_not_come_is_waited_for_by_name() -> None:
    with pytest.raises(ConfigError, match='no token of serviceaccount "default"'):
        tokens_of(POD, audience="bank")
    other = {**POD, "metadata": {**POD["metadata"], "uid": "another"}}
    with pytest.raises(ConfigError, match="has come from the control side"):
        tokens_of(other)


@pytest.mark.parametrize(
    ("pod_context", "containers", "mode", "user"),
    [
        ({}, [{}], 0o644, None),
        ({"runAsUser": 7}, [{}, {}], 0o600, 7),
        ({"runAsUser": 7}, [{"runAsUser": 8}], 0o600, 8),
        ({"runAsUser": 7}, [{}, {"runAsUser": 8}], 0o644, None),
        ({"fsGroup": 5}, [{}], 0o600, None),
    ],
)
def test_only_those_who_run_in_the_pod_can_read_its_token(
    pod_context: dict[str, int], containers: list[dict[str, int]], mode: int, user: int | None
) -> None:
    spec = {"securityContext": pod_context, "containers": [{"securityContext": one} for one in containers]}
    assert tokens_of({**POD, "spec": spec})["token"] == File(b"for the API", mode, user)
