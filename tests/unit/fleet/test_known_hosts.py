"""Pinned keys: added, found again, never changed by us."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from gitkube.fleet.hosts import HostKey, parse_host_key
from gitkube.fleet.known_hosts import KnownHosts, Verdict, fingerprint, judge


def key(seed: int, kind: str = "ssh-ed25519") -> HostKey:
    blob = len(kind).to_bytes(4, "big") + kind.encode() + bytes([seed]) * 36
    return HostKey(kind, base64.b64encode(blob).decode())


def test_a_remembered_key_is_found_by_address_and_port(tmp_path: Path) -> None:
    book = KnownHosts(tmp_path / "data" / "known_hosts")
    assert book.keys("192.0.2.1", 22) == ()
    book.remember("192.0.2.1", 22, key(1))
    book.remember("192.0.2.1", 2222, key(2))
    book.remember("192.0.2.1", 22, key(1))
    assert book.keys("192.0.2.1", 22) == (key(1),)
    assert book.keys("192.0.2.1", 2222) == (key(2),)
    assert book.keys("192.0.2.10", 22) == ()
    assert book.path.read_text().count("\n") == 2
    assert book.path.stat().st_mode & 0o077 == 0


def test_lines_of_a_person_stay_and_a_removed_line_is_a_first_contact_again(tmp_path: Path) -> None:
    book = KnownHosts(tmp_path / "known_hosts")
    book.path.write_text("# mine\n|1|hash|hash ssh-ed25519 AAAA\n")
    book.remember("bee.example", 22, key(1))
    assert book.path.read_text().startswith("# mine\n|1|hash|hash ssh-ed25519 AAAA\n")
    book.path.write_text("# mine\n")
    assert judge(book.keys("bee.example", 22), key(2)) is Verdict.FIRST_CONTACT


def test_a_line_that_cannot_be_read_trusts_nobody(tmp_path: Path) -> None:
    book = KnownHosts(tmp_path / "known_hosts")
    book.path.write_text("bee.example ssh-ed25519 !!!\n")
    with pytest.raises(ValueError, match="known_hosts:1"):
        book.keys("bee.example", 22)


def test_verdicts() -> None:
    assert judge((key(1), key(2)), key(2)) is Verdict.KNOWN
    assert judge((key(1),), key(2)) is Verdict.CHANGED
    assert judge((key(1),), key(1, "ssh-rsa")) is Verdict.CHANGED


def test_a_fingerprint_is_the_one_that_ssh_keygen_shows() -> None:
    shown = parse_host_key(
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl example"
    )
    assert fingerprint(shown) == "SHA256:+DiY3wvvV6TuJJhbpZisF/zLDA0zPMSvHdkr4UvCOqU"
