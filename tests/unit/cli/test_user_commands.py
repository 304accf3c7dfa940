"""`gitkube user add`: a kubeconfig for somebody."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from cryptography import x509

from gitkube.cli.user import user
from gitkube.clock import SystemClock
from gitkube.server.pki import Pki


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    directory = tmp_path / "data"
    pki = Pki.open(directory / "pki", clock=SystemClock())
    pki.write_kubeconfig(directory / "kubeconfig", "https://ctl.example.org:6443")
    return directory


def add(*args: str) -> Result:
    return CliRunner().invoke(user, ["add", *args])


def test_somebody_gets_a_certificate_of_the_cluster_and_its_address(data_dir: Path, tmp_path: Path) -> None:
    out = tmp_path / "jane.kubeconfig"
    where = ("--data-dir", str(data_dir), "--out", str(out))
    done = add("jane", "--group", "developers", "--group", "ops", "--days", "30", *where)
    assert done.exit_code == 0, done.output
    assert out.stat().st_mode & 0o777 == 0o600
    content = json.loads(out.read_text())
    assert content["clusters"][0]["cluster"]["server"] == "https://ctl.example.org:6443"
    pem = base64.b64decode(content["users"][0]["user"]["client-certificate-data"])
    certificate = x509.load_pem_x509_certificate(pem)
    subject = [(each.oid._name, each.value) for each in certificate.subject]
    assert ("commonName", "jane") in subject
    groups = {value for name, value in subject if name == "organizationName"}
    assert groups == {"developers", "ops"}
    lifetime = certificate.not_valid_after_utc - certificate.not_valid_before_utc
    assert 29 <= lifetime.days <= 31


def test_several_servers_are_several_contexts(data_dir: Path, tmp_path: Path) -> None:
    out = tmp_path / "jane.kubeconfig"
    servers = ("--server", "https://one:6443", "--server", "https://two:6443")
    assert add("jane", *servers, "--data-dir", str(data_dir), "--out", str(out)).exit_code == 0
    content = json.loads(out.read_text())
    assert [one["name"] for one in content["contexts"]] == ["gitkube", "gitkube-2"]


def test_what_cannot_be_is_said(data_dir: Path, tmp_path: Path) -> None:
    out = tmp_path / "x.kubeconfig"
    where = ("--data-dir", str(data_dir), "--out", str(out))
    refusals = [
        (add("system:node:a", *where), "cluster's own parts"),
        (add("", *where), "name"),
        (add("a" * 100, *where), "64"),
        (add("jane", "--days", "366", *where), "--days"),
        (add("jane", "--data-dir", str(tmp_path / "none"), "--out", str(out)), "holds no authority"),
    ]
    for done, why in refusals:
        assert done.exit_code != 0 and why in done.output, done.output
        assert not out.exists()
    assert not (tmp_path / "none").exists()
    out.write_text("mine")
    assert "is there already" in add("jane", *where).output and out.read_text() == "mine"
