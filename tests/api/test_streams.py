"""Logs, exec, attach, cp and port-forward with the real kubectl; the host behind them is in memory."""

from __future__ import annotations

import asyncio
import socket
import ssl
from asyncio import StreamReader, StreamWriter

import pytest

from tests.support.live_cluster import LiveCluster, running_pod


def test_logs_of_a_container(cluster: LiveCluster, namespace: str) -> None:
    running_pod(cluster, namespace, "one")
    assert cluster.kubectl("-n", namespace, "logs", "one").stdout == "one\ntwo\nthree\n"
    assert cluster.kubectl("-n", namespace, "logs", "one", "--tail=1").stdout == "three\n"


def test_logs_with_several_containers_ask_which(cluster: LiveCluster, namespace: str) -> None:
    running_pod(cluster, namespace, "two", "first", "second")
    cluster.kubectl("-n", namespace, "logs", "two", "-c", "second")
    assert cluster.streams.log_requests[-1].container == "second"
    refused = cluster.kubectl("-n", namespace, "logs", "two", "-c", "third", check=False)
    assert "container third is not valid for pod two" in refused.stderr


def test_followed_logs_arrive_as_they_are_written(cluster: LiveCluster, namespace: str) -> None:
    running_pod(cluster, namespace, "one")
    following = cluster.popen("-n", namespace, "logs", "-f", "one")
    try:
        assert following.stdout is not None
        assert [following.stdout.readline() for _ in range(3)] == ["one\n", "two\n", "three\n"]
        cluster.run(cluster.streams.following.put(b"four\n"))
        assert following.stdout.readline() == "four\n"
        cluster.run(cluster.streams.following.put(None))
        assert following.wait(60) == 0
    finally:
        following.kill()
        following.communicate()


def test_exec_gives_output_and_exit_code(cluster: LiveCluster, namespace: str) -> None:
    running_pod(cluster, namespace, "one")
    done = cluster.kubectl("-n", namespace, "exec", "one", "--", "echo", "hello", "a b")
    assert done.stdout == "hello a b\n"
    failed = cluster.kubectl("-n", namespace, "exec", "one", "--", "fail", "7", check=False)
    assert failed.returncode == 7
    both = cluster.kubectl("-n", namespace, "exec", "one", "--", "both")
    assert (both.stdout, both.stderr) == ("out\n", "err\n")


def test_exec_reads_standard_input_to_its_end(cluster: LiveCluster, namespace: str) -> None:
    running_pod(cluster, namespace, "one")
    text = "line\n" * 50_000
    done = cluster.kubectl("-n", namespace, "exec", "-i", "one", "--", "cat", input=text)
    assert done.stdout == text


def test_exec_of_a_missing_pod_or_program_says_so(cluster: LiveCluster, namespace: str) -> None:
    missing = cluster.kubectl("-n", namespace, "exec", "nobody", "--", "ls", check=False)
    assert 'pods "nobody" not found' in missing.stderr
    running_pod(cluster, namespace, "one")
    failed = cluster.kubectl("-n", namespace, "exec", "one", "--", "nosuch", check=False)
    assert failed.returncode != 0
    assert "nosuch: no such file" in failed.stderr


def test_attach_carries_both_ways(cluster: LiveCluster, namespace: str) -> None:
    running_pod(cluster, namespace, "one")
    done = cluster.kubectl("-n", namespace, "attach", "one", "-i", input="hello\n", check=False)
    assert "hello" in done.stdout


def test_port_forward_carries_many_connections(cluster: LiveCluster, namespace: str) -> None:
    running_pod(cluster, namespace, "one")
    forwarding = cluster.popen("-n", namespace, "port-forward", "pod/one", ":80")
    try:
        assert forwarding.stdout is not None
        line = forwarding.stdout.readline()
        port = int(line.split("->")[0].rsplit(":", 1)[1])
        for number in range(3):
            with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
                payload = f"hello {number} ".encode() * 20_000
                received = bytearray()
                connection.sendall(payload)
                connection.shutdown(socket.SHUT_WR)
                while chunk := connection.recv(65536):
                    received += chunk
                assert bytes(received) == payload.upper()
    finally:
        forwarding.kill()
        forwarding.communicate()


async def upgraded(cluster: LiveCluster, path: str, protocol: str) -> tuple[StreamReader, StreamWriter, str]:
    """A connection that asked for SPDY, and the head of the answer."""
    context = ssl.create_default_context(cadata=cluster.pki.ca_pem.decode())
    host, port = cluster.url.removeprefix("https://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port), ssl=context)
    head = [f"POST {path} HTTP/1.1", f"Host: {host}", "Connection: Upgrade", "Upgrade: SPDY/3.1"]
    head += [f"{name}: {value}" for name, value in cluster.bearer().items()]
    head += [f"X-Stream-Protocol-Version: {protocol}", "Content-Length: 0", "", ""]
    writer.write("\r\n".join(head).encode())
    answer = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30)
    return reader, writer, answer.decode()


@pytest.mark.parametrize(
    ("path", "protocol"),
    [("exec?command=cat&stdin=true&stdout=true", "v4.channel.k8s.io"), ("portforward", "portforward.k8s.io")],
)
async def test_who_upgrades_to_spdy_and_speaks_something_else_is_cut(
    cluster: LiveCluster, namespace: str, path: str, protocol: str
) -> None:
    await asyncio.to_thread(running_pod, cluster, namespace, "one")
    at = f"/api/v1/namespaces/{namespace}/pods/one/{path}"
    reader, writer, head = await upgraded(cluster, at, protocol)
    assert head.startswith("HTTP/1.1 101 ")
    assert f"X-Stream-Protocol-Version: {protocol}" in head
    writer.write(b"\x80\x09" + b"x" * 5000)
    assert await asyncio.wait_for(reader.read(), 30) == b""
    writer.close()


async def test_a_protocol_that_is_not_served_is_named(cluster: LiveCluster, namespace: str) -> None:
    await asyncio.to_thread(running_pod, cluster, namespace, "one")
    at = f"/api/v1/namespaces/{namespace}/pods/one/exec?command=cat&stdout=true"
    reader, writer, head = await upgraded(cluster, at, "v1.channel.k8s.io")
    assert head.startswith("HTTP/1.1 403 ")
    assert b"server accepts [v4.channel.k8s.io]" in await asyncio.wait_for(reader.readuntil(b"403"), 30)
    writer.close()
