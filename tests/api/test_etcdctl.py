"""The real etcdctl (Debian's `etcd-client`) on our door: what people type, and what they see."""

from __future__ import annotations

import asyncio
import random
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gitkube.clock import SystemClock
from gitkube.server.pki import Pki
from gitkube.store.door import DoorTls, serve_door
from gitkube.store.member import Member
from gitkube.store.protocol import Put
from tests.support.etcdctl import Etcdctl, needs_etcdctl, read_lines
from tests.support.real_api import SMALL_STORE

pytestmark = needs_etcdctl


@pytest.fixture
async def member(tmp_path: Path) -> AsyncIterator[Member]:
    member = await Member.open(tmp_path / "data", rng=random.Random(3), settings=SMALL_STORE)
    yield member
    await member.close()


@pytest.fixture
async def etcdctl(member: Member) -> AsyncIterator[Etcdctl]:
    door = await serve_door(member, member.administration, "127.0.0.1:0", clock=SystemClock())
    yield Etcdctl(door.address)
    await door.close()


async def fill(member: Member, **values: str) -> None:
    for key, value in values.items():
        await member.txn([], [Put(b"k/" + key.encode(), value.encode())])


async def test_keys_are_put_got_and_deleted(etcdctl: Etcdctl) -> None:
    assert await etcdctl.lines("put", "k/a", "1") == ["OK"]
    assert await etcdctl.lines("put", "k/a", "2", "--prev-kv") == ["OK", "k/a", "1"]
    assert await etcdctl.lines("get", "k/a") == ["k/a", "2"]
    assert await etcdctl.lines("get", "k/a", "--rev", "2", "--consistency", "s") == ["k/a", "1"]
    assert await etcdctl.lines("del", "k/a", "--prev-kv") == ["1", "k/a", "2"]
    assert await etcdctl.lines("del", "k/a") == ["0"]
    assert await etcdctl.lines("get", "k/a") == []


@pytest.mark.parametrize(
    ("arguments", "printed"),
    [
        (["k/", "--prefix", "--keys-only"], "k/a  k/b  k/c "),
        (["k/b", "--from-key", "--print-value-only"], "3 2"),
        (["k/", "--prefix", "--limit", "2", "--print-value-only"], "1 3"),
        (["k/", "--prefix", "--sort-by", "VALUE", "--order", "DESCEND", "--print-value-only"], "3 2 1"),
        (["k/", "--prefix", "--sort-by", "CREATE", "--order", "ASCEND", "--print-value-only"], "1 2 3"),
        (["k/a", "k/c", "--print-value-only"], "1 3"),
    ],
)
async def test_a_range_is_chosen_sorted_and_limited(
    member: Member, etcdctl: Etcdctl, arguments: list[str], printed: str
) -> None:
    await fill(member, a="1", c="2", b="3")
    assert " ".join(await etcdctl.lines("get", *arguments)) == printed


async def test_an_interactive_transaction_takes_the_branch_that_holds(etcdctl: Etcdctl) -> None:
    text = 'mod("lock") = "0"\n\nput lock ada\nget lock\n\nget lock\n\n'
    won = await etcdctl.lines("txn", "-i", stdin=text)
    assert won[-6:] == ["SUCCESS", "", "OK", "", "lock", "ada"]
    lost = await etcdctl.lines("txn", "-i", stdin=text)
    assert lost[-4:] == ["FAILURE", "", "lock", "ada"]


async def test_a_watch_tells_the_past_and_then_what_comes(member: Member, etcdctl: Etcdctl) -> None:
    await fill(member, a="1")
    await fill(member, a="2")
    async with etcdctl.started("watch", "k/", "--prefix", "--rev", "2", "--prev-kv") as watch:
        assert await read_lines(watch, 8) == ["PUT", "k/a", "1", "PUT", "k/a", "1", "k/a", "2"]
        await etcdctl.lines("del", "k/a")
        assert await read_lines(watch, 5) == ["DELETE", "k/a", "2", "k/a", ""]


async def test_a_watch_from_before_the_compaction_is_told_so(member: Member, etcdctl: Etcdctl) -> None:
    for value in "123":
        await fill(member, a=value)
    assert await etcdctl.lines("compaction", "4") == ["compacted revision 4"]
    assert "required revision has been compacted" in await etcdctl.refused("compaction", "3")
    assert "required revision has been compacted" in await etcdctl.refused("get", "k/a", "--rev", "2")
    assert "required revision is a future revision" in await etcdctl.refused("get", "k/a", "--rev", "99")
    said = await etcdctl.run("watch", "k/a", "--rev", "2")
    assert "required revision has been compacted" in said.err + said.out


async def test_a_lease_is_granted_kept_alive_shown_and_revoked(etcdctl: Etcdctl) -> None:
    granted = (await etcdctl.lines("lease", "grant", "600"))[0]
    lease = granted.split()[1]
    assert granted == f"lease {lease} granted with TTL(600s)"
    await etcdctl.lines("put", "k/l", "x", "--lease", lease)
    (shown,) = await etcdctl.lines("lease", "timetolive", lease, "--keys")
    assert shown.startswith(f"lease {lease} granted with TTL(600s), remaining(")
    assert shown.endswith("attached keys([k/l])")
    assert await etcdctl.lines("lease", "list") == ["found 1 leases", lease]
    kept = await etcdctl.lines("lease", "keep-alive", "--once", lease)
    assert kept == [f"lease {lease} keepalived with TTL(600)"]
    assert await etcdctl.lines("lease", "revoke", lease) == [f"lease {lease} revoked"]
    assert await etcdctl.lines("get", "k/l") == []
    assert await etcdctl.lines("lease", "timetolive", lease) == [f"lease {lease} already expired"]
    assert "requested lease not found" in await etcdctl.refused("lease", "revoke", lease)


async def test_a_lock_is_held_by_one_at_a_time(etcdctl: Etcdctl) -> None:
    async with etcdctl.started("lock", "mine") as first:
        (key,) = await read_lines(first, 1)
        async with etcdctl.started("lock", "mine", "echo", "mine now") as second:
            waiting = asyncio.create_task(read_lines(second, 1))
            async with etcdctl.started("watch", "mine/", "--prefix", "--rev", "1") as queue:
                await read_lines(queue, 6)  # both have a place in it
            assert not waiting.done()
            first.terminate()
            assert await waiting == ["mine now"]
    assert key.startswith("mine/")


async def test_an_election_has_one_leader_whom_others_see(etcdctl: Etcdctl) -> None:
    async with etcdctl.started("elect", "boss", "ada") as candidate:
        key, value = await read_lines(candidate, 2)
        assert (key.split("/")[0], value) == ("boss", "ada")
        async with etcdctl.started("elect", "-l", "boss") as observer:
            assert await read_lines(observer, 2) == [key, "ada"]


async def test_status_members_health_and_hashes_are_shown(member: Member, etcdctl: Etcdctl) -> None:
    await fill(member, a="1")
    (status,) = await etcdctl.json("endpoint", "status")
    member_id = (await member.status()).member_id
    assert status["Status"]["leader"] == status["Status"]["header"]["member_id"] == member_id
    assert status["Status"]["raftTerm"] == (await member.status()).term
    health = await etcdctl.run("endpoint", "health")
    assert "is healthy" in health.out + health.err
    (hashed,) = await etcdctl.json("endpoint", "hashkv")
    assert hashed["HashKV"]["hash"] > 0
    (listed,) = (await etcdctl.json("member", "list"))["members"]
    assert (listed["ID"], listed["name"]) == (member_id, "0")


async def test_a_member_is_added_as_a_learner_and_removed(member: Member, etcdctl: Etcdctl) -> None:
    own_id = f"{(await member.status()).member_id:x}"
    added = await etcdctl.lines("member", "add", "b", "--learner", "--peer-urls", "https://127.0.0.1:1")
    (learner,) = (each for each in (await etcdctl.json("member", "list"))["members"] if each.get("isLearner"))
    assert added[0].split()[:3] == ["Member", f"{learner['ID']:x}", "added"]
    assert learner["peerURLs"] == ["https://127.0.0.1:1"]
    assert "can be promoted when" in await etcdctl.refused("member", "promote", f"{learner['ID']:x}")
    assert "can only promote a learner" in await etcdctl.refused("member", "promote", own_id)
    assert "only voter" in await etcdctl.refused("member", "remove", own_id)
    removed = await etcdctl.lines("member", "remove", f"{learner['ID']:x}")
    assert removed[0].split()[:3] == ["Member", f"{learner['ID']:x}", "removed"]
    assert len((await etcdctl.json("member", "list"))["members"]) == 1


async def test_alarms_leadership_and_defragmentation_answer(member: Member, etcdctl: Etcdctl) -> None:
    member_id = f"{(await member.status()).member_id:x}"
    assert await etcdctl.lines("alarm", "list") == []
    assert await etcdctl.lines("alarm", "disarm") == []
    assert "Finished defragmenting" in (await etcdctl.lines("defrag"))[0]
    (moved,) = await etcdctl.lines("move-leader", member_id)
    assert moved == f"Leadership transferred from {member_id} to {member_id}"
    assert "bad leader transferee" in await etcdctl.refused("move-leader", "99")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["snapshot", "save", "/nowhere/x.db"], "no such file or directory"),
        (["user", "list"], "users and roles are not supported by this store"),
        (["auth", "enable"], "users and roles are not supported by this store"),
        (["member", "add", "b", "--peer-urls", "http://a:1,http://b:1"], "given member URLs are invalid"),
        (["member", "remove", "5"], "member not found"),
        (["put", "none", "--ignore-value"], "key not found"),
        (["put", "k", "v", "--lease", "123"], "requested lease not found"),
    ],
)
async def test_what_cannot_be_done_says_why(etcdctl: Etcdctl, arguments: list[str], sentence: str) -> None:
    assert sentence in await etcdctl.refused(*arguments)


async def test_a_snapshot_is_refused_with_the_command_to_use(etcdctl: Etcdctl, tmp_path: Path) -> None:
    said = await etcdctl.refused("snapshot", "save", str(tmp_path / "etcd.db"))
    assert "gitkube store backup" in said


async def test_only_a_certificate_of_the_clients_authority_opens_the_door(
    member: Member, tmp_path: Path
) -> None:
    ours, theirs = (Pki.open(tmp_path / name, clock=SystemClock()) for name in ("ours", "theirs"))
    authority = tmp_path / "ours" / "ca.crt"
    certificate, key = ours.server_certificate()
    tls = DoorTls(certificate, key, authority)
    door = await serve_door(member, member.administration, "127.0.0.1:0", clock=SystemClock(), tls=tls)

    def client(pki: Pki, name: str, *more: str) -> Etcdctl:
        credentials = pki.client_certificate("operator")
        files = tmp_path / f"{name}.crt", tmp_path / f"{name}.key"
        files[0].write_bytes(credentials.certificate)
        files[1].write_bytes(credentials.key)
        options = [f"--cacert={authority}", f"--cert={files[0]}", f"--key={files[1]}"]
        return Etcdctl(f"https://{door.address}", [*options, *more])

    assert await client(ours, "ours").lines("put", "a", "1") == ["OK"]
    # Whoever is not let in tries again until it has no more time.
    assert await client(theirs, "theirs", "--command-timeout=3s").refused("put", "a", "2")
    assert await Etcdctl(door.address, ["--command-timeout=3s"]).refused("put", "a", "3")

    certificate.unlink()
    ours.server_certificate()
    assert await client(ours, "ours").lines("get", "a") == ["a", "1"]
    host, port = door.address.split(":")
    presented = await asyncio.to_thread(ssl.get_server_certificate, (host, int(port)))
    assert presented.strip() in certificate.read_text()
    await door.close()
