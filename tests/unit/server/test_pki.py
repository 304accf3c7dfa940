"""The authority, what it signs, and the kubeconfig made of it."""

from __future__ import annotations

import asyncio
import json
import ssl
import stat
from pathlib import Path

import pytest
from cryptography import x509

from gitkube.server.kubeconfig import Context
from gitkube.server.pki import ADMIN_GROUP, ADMIN_USER, Pki, PkiError
from tests.support.fake_clock import FakeClock

DAY_S = 86400.0


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def names(path: Path) -> set[str]:
    certificate = x509.load_pem_x509_certificate(path.read_bytes())
    extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    addresses = {str(address) for address in extension.get_values_for_type(x509.IPAddress)}
    return set(extension.get_values_for_type(x509.DNSName)) | addresses


def test_the_authority_is_made_once_and_readable_by_its_owner_only(tmp_path: Path) -> None:
    clock = FakeClock()
    first = Pki.open(tmp_path / "pki", clock=clock)
    second = Pki.open(tmp_path / "pki", clock=clock)
    assert first.ca_pem == second.ca_pem
    assert mode(tmp_path / "pki") == 0o700
    assert mode(tmp_path / "pki" / "ca.key") == 0o600


def test_a_death_between_key_and_certificate_is_made_good(tmp_path: Path) -> None:
    clock = FakeClock()
    Pki.open(tmp_path, clock=clock)
    key = (tmp_path / "ca.key").read_bytes()
    (tmp_path / "ca.crt").unlink()
    Pki.open(tmp_path, clock=clock)
    assert (tmp_path / "ca.key").read_bytes() == key


def test_a_lost_key_is_not_replaced_in_silence(tmp_path: Path) -> None:
    Pki.open(tmp_path, clock=FakeClock())
    (tmp_path / "ca.key").unlink()
    with pytest.raises(PkiError, match="restore it from a backup"):
        Pki.open(tmp_path, clock=FakeClock())


def test_a_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    Pki.open(tmp_path, clock=FakeClock())
    (tmp_path / "ca.key").chmod(0o644)
    with pytest.raises(PkiError, match="chmod 600"):
        Pki.open(tmp_path, clock=FakeClock())


def test_a_certificate_of_another_key_is_refused(tmp_path: Path) -> None:
    Pki.open(tmp_path / "one", clock=FakeClock())
    Pki.open(tmp_path / "two", clock=FakeClock())
    (tmp_path / "one" / "ca.crt").write_bytes((tmp_path / "two" / "ca.crt").read_bytes())
    with pytest.raises(PkiError, match="is not the certificate of"):
        Pki.open(tmp_path / "one", clock=FakeClock())


def test_the_server_is_known_by_the_names_that_pods_and_people_use(tmp_path: Path) -> None:
    pki = Pki.open(tmp_path, clock=FakeClock())
    certificate, key = pki.server_certificate(["10.66.0.1", "lab-machine", "0.0.0.0"])
    found = names(certificate)
    assert {"localhost", "127.0.0.1", "kubernetes.default.svc", "10.66.0.1"} <= found
    assert "lab-machine" in found
    assert "0.0.0.0" not in found
    assert mode(key) == 0o600


def test_the_server_certificate_is_kept_until_something_changes(tmp_path: Path) -> None:
    pki = Pki.open(tmp_path, clock=FakeClock())
    before = pki.server_certificate(["a.example"])[0].read_bytes()
    assert pki.server_certificate(["a.example"])[0].read_bytes() == before
    assert pki.server_certificate(["b.example"])[0].read_bytes() != before


async def test_the_server_certificate_is_renewed_before_its_end(tmp_path: Path) -> None:
    clock = FakeClock()
    pki = Pki.open(tmp_path, clock=clock)
    before = pki.server_certificate()[0].read_bytes()
    await clock.advance(300 * DAY_S)
    assert pki.server_certificate()[0].read_bytes() == before
    await clock.advance(40 * DAY_S)
    assert pki.server_certificate()[0].read_bytes() != before


def test_a_damaged_server_certificate_is_made_anew(tmp_path: Path) -> None:
    pki = Pki.open(tmp_path, clock=FakeClock())
    certificate, _ = pki.server_certificate()
    certificate.write_bytes(b"not a certificate")
    assert names(pki.server_certificate()[0])


def test_a_client_is_its_common_name_in_its_organizations(tmp_path: Path) -> None:
    pki = Pki.open(tmp_path, clock=FakeClock())
    credentials = pki.client_certificate("ada", ["dev", "ops"])
    subject = x509.load_pem_x509_certificate(credentials.certificate).subject.rfc4514_string()
    assert subject == "CN=ada,O=ops,O=dev"
    with pytest.raises(PkiError, match="1 to 64 characters"):
        pki.client_certificate("x" * 65)


def test_a_kubeconfig_is_written_once_and_kept_while_it_holds(tmp_path: Path) -> None:
    pki = Pki.open(tmp_path / "pki", clock=FakeClock())
    path = tmp_path / "out" / "kubeconfig"
    pki.write_kubeconfig(path, "https://127.0.0.1:6443")
    first = path.read_bytes()
    assert mode(path) == 0o600
    assert json.loads(first)["contexts"][0]["context"]["user"] == ADMIN_USER
    pki.write_kubeconfig(path, "https://127.0.0.1:6443")
    assert path.read_bytes() == first
    pki.write_kubeconfig(path, "https://127.0.0.1:7443")
    assert path.read_bytes() != first


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b"apiVersion: v1", b'{"clusters": 3}', b"\xff"])
def test_whatever_stood_in_the_kubeconfig_is_replaced(tmp_path: Path, content: bytes) -> None:
    pki = Pki.open(tmp_path / "pki", clock=FakeClock())
    path = tmp_path / "kubeconfig"
    path.write_bytes(content)
    pki.write_kubeconfig(path, "https://127.0.0.1:6443")
    assert json.loads(path.read_bytes())["kind"] == "Config"


async def test_credentials_near_their_end_are_no_longer_current(tmp_path: Path) -> None:
    clock = FakeClock()
    pki = Pki.open(tmp_path, clock=clock)
    credentials = pki.client_certificate(ADMIN_USER, [ADMIN_GROUP])
    assert pki.is_current(credentials, ADMIN_USER, [ADMIN_GROUP])
    assert not pki.is_current(credentials, "ada", [ADMIN_GROUP])
    assert not pki.is_current(credentials, ADMIN_USER, [])
    await clock.advance(340 * DAY_S)
    assert not pki.is_current(credentials, ADMIN_USER, [ADMIN_GROUP])


def test_another_authority_is_not_ours(tmp_path: Path) -> None:
    ours = Pki.open(tmp_path / "ours", clock=FakeClock())
    theirs = Pki.open(tmp_path / "theirs", clock=FakeClock())
    credentials = theirs.client_certificate(ADMIN_USER, [ADMIN_GROUP])
    assert not ours.is_current(credentials, ADMIN_USER, [ADMIN_GROUP])


async def test_tls_takes_our_clients_and_no_others(tmp_path: Path) -> None:
    from gitkube.clock import SystemClock

    pki = Pki.open(tmp_path / "ours", clock=SystemClock())
    stranger = Pki.open(tmp_path / "theirs", clock=SystemClock())
    seen: list[object] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(writer.get_extra_info("peercert"))
        writer.write(await reader.read(1))
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=pki.server_context())
    port = server.sockets[0].getsockname()[1]

    async def call(authority: Pki | None) -> bytes:
        context = ssl.create_default_context(cadata=pki.ca_pem.decode())
        if authority is not None:
            credentials = authority.client_certificate("ada")
            (tmp_path / "crt").write_bytes(credentials.certificate)
            (tmp_path / "key").write_bytes(credentials.key)
            context.load_cert_chain(tmp_path / "crt", tmp_path / "key")
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
        writer.write(b"x")
        answer = await reader.read(1)
        writer.close()
        return answer

    assert await call(pki) == b"x"
    assert await call(None) == b"x"
    try:
        answer = await call(stranger)
    except (ssl.SSLError, ConnectionError):
        answer = b""  # TLS 1.3: the refusal may come with the first read, or as an end
    assert answer == b""
    assert len(seen) == 2
    server.close()


# ---------------------------------------------------------------------- the store's members


def certificate_of(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def test_members_have_an_authority_of_their_own(tmp_path: Path) -> None:
    pki = Pki.open(tmp_path, clock=FakeClock())
    files = pki.member_files("ctl-1", ["10.0.0.1", "ctl-1.lab"])
    assert files.authority.read_bytes() != pki.ca_pem
    certificate = certificate_of(files.certificate)
    certificate.verify_directly_issued_by(certificate_of(files.authority))
    assert certificate.subject.rfc4514_string() == "CN=gitkube-member:ctl-1,O=gitkube:store"
    assert names(files.certificate) == {"10.0.0.1", "ctl-1.lab"}
    assert mode(files.key) == mode(tmp_path / "store-ca.key") == 0o600


def test_a_client_of_the_api_is_nobody_among_the_members(tmp_path: Path) -> None:
    pki = Pki.open(tmp_path, clock=FakeClock())
    files, door = pki.member_files("ctl-1"), pki.door_files()
    client = x509.load_pem_x509_certificate(pki.client_certificate(ADMIN_USER, [ADMIN_GROUP]).certificate)
    for authority in (files.authority, door.authority):
        with pytest.raises(ValueError, match="does not match"):
            client.verify_directly_issued_by(certificate_of(authority))


def test_a_members_certificate_is_renewed_before_it_ends(tmp_path: Path) -> None:
    clock = FakeClock()
    pki = Pki.open(tmp_path, clock=clock)
    first = pki.member_files("ctl-1").certificate.read_bytes()
    assert pki.member_files("ctl-1").certificate.read_bytes() == first
    asyncio.run(clock.advance(336 * DAY_S))
    renewed = pki.member_files("ctl-1")
    assert renewed.certificate.read_bytes() != first
    assert certificate_of(renewed.certificate).not_valid_after_utc.timestamp() > clock.now() + 300 * DAY_S


@pytest.mark.parametrize("change", ["name", "address"])
def test_a_member_with_another_name_or_address_gets_another_certificate(tmp_path: Path, change: str) -> None:
    pki = Pki.open(tmp_path, clock=FakeClock())
    before = pki.member_files("ctl-1", ["10.0.0.1"]).certificate.read_bytes()
    after = (
        pki.member_files("ctl-2", ["10.0.0.1"])
        if change == "name"
        else pki.member_files("ctl-1", ["10.0.0.2"])
    )
    assert after.certificate.read_bytes() != before


def test_a_foreign_certificate_in_a_members_place_is_replaced(tmp_path: Path) -> None:
    clock = FakeClock()
    ours, theirs = Pki.open(tmp_path / "a", clock=clock), Pki.open(tmp_path / "b", clock=clock)
    files, foreign = ours.member_files("ctl-1"), theirs.member_files("ctl-1")
    files.certificate.write_bytes(foreign.certificate.read_bytes())
    files.key.write_bytes(foreign.key.read_bytes())
    certificate_of(ours.member_files("ctl-1").certificate).verify_directly_issued_by(
        certificate_of(files.authority)
    )


def test_an_authority_that_has_ended_says_what_to_do(tmp_path: Path) -> None:
    clock = FakeClock()
    Pki.open(tmp_path, clock=clock).member_files("ctl-1")
    asyncio.run(clock.advance(3651 * DAY_S))
    (tmp_path / "ca.key").unlink()
    (tmp_path / "ca.crt").unlink()
    with pytest.raises(PkiError, match=r"store-ca\.crt ended on .*disaster\.md"):
        Pki.open(tmp_path, clock=clock).member_files("ctl-1")


def test_etcds_door_has_certificates_for_both_ends(tmp_path: Path) -> None:
    files = Pki.open(tmp_path, clock=FakeClock()).door_files(["10.0.0.1"])
    assert {"10.0.0.1", "localhost", "127.0.0.1"} <= names(files.certificate)
    certificate_of(tmp_path / "door-client.crt").verify_directly_issued_by(certificate_of(files.authority))


def test_a_kubeconfig_has_a_context_for_each_controller_and_keeps_its_credentials(tmp_path: Path) -> None:
    pki = Pki.open(tmp_path / "pki", clock=FakeClock())
    path = tmp_path / "kubeconfig"
    pki.write_kubeconfig(path, "https://10.0.0.1:6443")
    alone = json.loads(path.read_bytes())
    assert alone["current-context"] == "gitkube"
    others = [Context("ctl-1", "https://10.0.0.1:6443"), Context("ctl-2", "https://10.0.0.2:6443")]
    pki.write_kubeconfig(path, "https://10.0.0.1:6443", others=others, context="ctl-1")
    several = json.loads(path.read_bytes())
    assert several["current-context"] == "ctl-1"
    assert [one["name"] for one in several["contexts"]] == ["ctl-1", "ctl-2"]
    assert several["clusters"][1]["cluster"]["server"] == "https://10.0.0.2:6443"
    assert several["users"] == alone["users"], "no new certificate for a controller more"


@pytest.mark.parametrize("name", ["ca.key", "ca.crt"])
def test_a_damaged_authority_is_named_with_where_to_get_it_back(tmp_path: Path, name: str) -> None:
    Pki.open(tmp_path, clock=FakeClock())
    (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:60])
    with pytest.raises(PkiError, match=rf"{name} is not a .* in PEM form.*copy it from another controller$"):
        Pki.open(tmp_path, clock=FakeClock())
