"""Logs, exec, attach, cp and port-forward with the real kubectl; the host behind them is in memory."""

from __future__ import annotations

import socket

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
        assert following.wait(10) == 0
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
            with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
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
