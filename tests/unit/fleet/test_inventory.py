"""What an inventory may say, and what is refused with the place and a sentence."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema_rs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gitkube.fleet.ansible import expand_range
from gitkube.fleet.document import parse_document
from gitkube.fleet.hosts import Host, Inventory, InventoryError, Taint
from gitkube.fleet.inventory import load_inventory

EXAMPLES = Path(__file__).resolve().parents[3] / "inventory"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f"


@pytest.fixture
def read(tmp_path: Path) -> object:
    def read(text: str) -> Inventory:
        path = tmp_path / "hosts.yaml"
        path.write_text(text)
        return load_inventory(path)

    return read


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("inventory") / "hosts.yaml"


def mistakes(error: InventoryError) -> list[tuple[int, int, str]]:
    return [(place.line, place.column, sentence) for place, sentence in error.mistakes]


def test_the_examples_are_read_and_fit_their_schema() -> None:
    schema = json.loads((EXAMPLES / "inventory.schema.json").read_text())
    validator = jsonschema_rs.validator_for(schema)
    path = EXAMPLES / "lab.yaml"
    validator.validate(parse_document(path.read_text(), "lab.yaml").plain())
    own, ansible = load_inventory(path), load_inventory(EXAMPLES / "ansible.yaml")
    assert list(own.hosts) == ["ant", "bee", "cow"]
    assert list(ansible.hosts) == ["web01.lab.example", "web02.lab.example", "web03.lab.example", "db-1"]


@pytest.mark.parametrize(
    "bad",
    [
        {"hosts": {}},
        {"hosts": {"Ant": {"address": "192.0.2.1"}}},
        {"hosts": {"ant": {"adress": "192.0.2.1"}}},
        {"hosts": {"ant": {"address": "-oProxyCommand=x"}}},
        {"hosts": {"ant": {"address": "192.0.2.1", "user": "-x"}}},
        {"hosts": {"ant": {"address": "192.0.2.1", "port": 0}}},
        {"hosts": {"ant": {"address": "192.0.2.1", "taints": ["gpu"]}}},
    ],
)
def test_schema_and_reader_refuse_the_same_mistakes(bad: object, read) -> None:
    schema = json.loads((EXAMPLES / "inventory.schema.json").read_text())
    assert not jsonschema_rs.validator_for(schema).is_valid(bad)
    with pytest.raises(InventoryError):
        read(json.dumps(bad))


def test_the_nearest_word_wins_and_labels_add_up(read) -> None:
    inventory = read(
        f"""
defaults: {{user: ops, port: 2200, vars: {{a: 1, b: 1}}}}
hosts:
  ant: {{address: 192.0.2.1, user: ann, labels: {{x: own}}, host_key: "{KEY}", vars: {{b: 2}}}}
  bee: {{address: bee.example, taints: [{{key: gpu, effect: NoExecute}}]}}
groups:
  near: {{hosts: [ant], defaults: {{port: 2201}}, labels: {{x: near, y: near}}}}
  far: {{hosts: [ant, bee], defaults: {{port: 2202}}, labels: {{y: far, z: 1}}, taints: ["a=b:NoSchedule"]}}
"""
    )
    ant, bee = inventory.hosts["ant"], inventory.hosts["bee"]
    assert (ant.user, ant.port, dict(ant.vars)) == ("ann", 2201, {"a": 1, "b": 2})
    assert dict(ant.labels) == {"x": "own", "y": "near", "z": "1"}
    assert str(ant.host_keys[0]) == KEY
    assert (bee.user, bee.port) == ("ops", 2202)
    assert bee.taints == (Taint("a", "b", "NoSchedule"), Taint("gpu", "", "NoExecute"))


def test_every_mistake_of_a_file_is_told_at_once_with_its_place(read) -> None:
    with pytest.raises(InventoryError) as caught:
        read("hosts:\n  ant:\n    adress: 192.0.2.1\n    port: many\n  bee: {address: '-x', user: 'a b'}\n")
    found = mistakes(caught.value)
    assert [(line, column) for line, column, _ in found] == [(2, 3), (3, 5), (5, 18), (5, 30)]
    assert "did you mean 'address'?" in found[1][2]


@pytest.mark.parametrize(
    ("text", "line", "word"),
    [
        ("hosts:\n  a:\n    address: 192.0.2.1\n    ProxyCommand: nc %h\n", 4, "ProxyCommand"),
        ("hosts:\n  a:\n    address: 192.0.2.1\n    vars: {LocalCommand: x}\n", 4, "LocalCommand"),
        ("hosts:\n  a:\n    address: 192.0.2.1\n    vars: {Include: /etc/x}\n", 4, "Include"),
        ("hosts:\n  a:\n    address: 192.0.2.1\n    vars: {opts: 'Match exec \"id\"'}\n", 4, "Match exec"),
        ("hosts:\n  a:\n    address: 192.0.2.1\n    vars: {p: !vault abc}\n", 4, "!vault"),
        ("hosts:\n  a:\n    address: !!python/object/apply:os.system [id]\n", 3, "python"),
        ("all:\n  hosts:\n    a:\n      ansible_ssh_common_args: -o ProxyCommand=x\n", 4, "ProxyCommand"),
        ("all:\n  hosts:\n    a:\n      ansible_ssh_extra_args: -v\n", 4, "ansible_ssh_extra_args"),
        ("all:\n  hosts:\n    a:\n      ansible_ssh_executable: /tmp/x\n", 4, "ansible_ssh_executable"),
        ("all:\n  hosts:\n    a:\n      ansible_paramiko_proxy_command: x\n", 4, "ansible_paramiko"),
        ("all:\n  hosts:\n    a:\n      ansible_become_exe: /tmp/x\n", 4, "ansible_become_exe"),
        ("all:\n  hosts:\n    a:\n      ansible_become_password: x\n", 4, "password"),
        ("all:\n  hosts:\n    a:\n      ansible_connection: local\n", 4, "ansible_connection"),
        ("all:\n  hosts:\n    a:\n      ansible_host: \"{{ lookup('pipe', 'id') }}\"\n", 4, "lookup"),
        ("all:\n  hosts:\n    a:\n      note: \"{{ query('file', '/etc/x') }}\"\n", 4, "lookup"),
        ("all:\n  hosts:\n    a:\n      ansible_user: '{{ me }}'\n", 4, "template"),
        ("all:\n  vars:\n    ansible_password: !vault |\n      abc\n", 3, "!vault"),
    ],
)
def test_what_could_run_a_command_here_is_refused_at_its_line(text: str, line: int, word: str, read) -> None:
    with pytest.raises(InventoryError) as caught:
        read(text)
    assert any(at == line and word in sentence for at, _, sentence in mistakes(caught.value)), caught.value


@pytest.mark.parametrize(
    "host", ["-rf", "Ant", "a_b", "a..b", "a/b", "../x", "a b", "x" * 64, "a\nb", "a$(id)", ""]
)
def test_a_host_name_that_is_no_dns_name_is_refused(host: str, read) -> None:
    with pytest.raises(InventoryError):
        read(json.dumps({"hosts": {host: {"address": "192.0.2.1"}}}))


@pytest.mark.parametrize(
    "address", ["-x", "0.0.0.0", "a b", "a;b", "192.0.2", "192.0.2.300", "x@y", "[::1]", "224.0.0.1", "a/b"]
)
def test_an_address_that_is_none_is_refused(address: str, read) -> None:
    with pytest.raises(InventoryError):
        read(json.dumps({"hosts": {"a": {"address": address}}}))


def test_yaml_that_is_broken_names_line_and_column(read) -> None:
    for text, line in (
        ("hosts:\n  a: [\n", 2),
        ("hosts:\n  a: {address: 192.0.2.1}\n  a: {address: 192.0.2.2}\n", 3),
        ("hosts: {}\n---\nhosts: {}\n", 2),
        ("", 1),
        ("- a\n", 1),
    ):
        with pytest.raises(InventoryError) as caught:
            read(text)
        assert caught.value.mistakes[0][0].line == line, text


def test_a_yaml_bomb_meets_the_cap(read) -> None:
    lines = ["a0: &a0 [1,1,1,1,1,1,1,1,1]"]
    lines += [f"a{i}: &a{i} [{','.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 9)]
    with pytest.raises(InventoryError, match="more than"):
        read("\n".join(lines))
    with pytest.raises(InventoryError, match="nested"):
        read("hosts: " + "[" * 60 + "]" * 60)


def test_two_hosts_with_one_address_are_a_mistake(read) -> None:
    with pytest.raises(InventoryError, match="address of host a"):
        read("hosts:\n  a: {address: 192.0.2.1}\n  b: {address: 192.0.2.1}\n")


def test_an_ansible_inventory_keeps_its_precedence(read) -> None:
    inventory = read(
        """
all:
  vars: {ansible_user: base, ansible_become: yes, ansible_python_interpreter: auto}
  hosts:
    lone: {ansible_ssh_host: 192.0.2.9}
  children:
    parent:
      vars: {ansible_user: parent, ansible_port: "2222", gitkube_labels: {tier: parent, zone: p}}
      children:
        child:
          hosts: {"n[1:2]": , extra: {ansible_user: own}}
          vars: {ansible_user: child, gitkube_labels: {tier: child}, site: "{{ x }}", rack: 3}
extras:
  hosts: {extra: {ansible_become: no}}
"""
    )
    hosts = inventory.hosts
    assert list(hosts) == ["lone", "n1", "n2", "extra"]
    assert (hosts["lone"].address, hosts["lone"].user, hosts["lone"].port) == ("192.0.2.9", "base", 22)
    assert (hosts["n1"].user, hosts["n1"].port, hosts["n1"].sudo) == ("child", 2222, True)
    assert dict(hosts["n2"].labels) == {"tier": "child", "zone": "p"}
    assert (hosts["extra"].user, hosts["extra"].sudo) == ("own", False)
    assert dict(hosts["n1"].vars) == {"rack": 3}
    assert len(inventory.notes) == 1 and "site is a template" in inventory.notes[0]


def test_group_loops_do_not_hang(read) -> None:
    with pytest.raises(InventoryError):
        read("a: {children: {b: }, hosts: {h: }}\nb: {children: {a: }}\n")


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("web", ["web"]),
        ("web[01:03]", ["web01", "web02", "web03"]),
        ("w[8:12:2]x", ["w8x", "w10x", "w12x"]),
        ("[a:c]1", ["a1", "b1", "c1"]),
        ("r[1:2]n[1:2]", ["r1n1", "r1n2", "r2n1", "r2n2"]),
    ],
)
def test_host_ranges(pattern: str, expected: list[str]) -> None:
    assert expand_range(pattern) == expected


@pytest.mark.parametrize(
    "pattern", ["w[1:]", "w[", "w[3:1]", "w[1:99999999]", "w[01:1]", "w[1:2:0]", "[1:200][1:200]"]
)
def test_ranges_that_are_none_or_too_long_are_refused(pattern: str) -> None:
    with pytest.raises(ValueError):
        expand_range(pattern)


_words = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=12)
_values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 70000) | _words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_words, inner, max_size=3),
    max_leaves=12,
)
_host_fields = st.sampled_from(
    ["address", "port", "user", "identity_file", "host_key", "labels", "taints", "sudo", "vars", "pod_cidr"]
)


@settings(max_examples=80, deadline=None)
@given(st.dictionaries(_words, st.dictionaries(_host_fields, _values, max_size=5), max_size=3), st.booleans())
def test_whatever_is_written_either_is_a_checked_inventory_or_a_located_error(
    scratch: Path, hosts: dict[str, object], own: bool
) -> None:
    path = scratch
    path.write_text(json.dumps({"hosts": hosts} if own else {"all": {"hosts": hosts}}))
    try:
        inventory = load_inventory(path)
    except InventoryError as error:
        assert error.mistakes and all(place.line >= 1 and place.column >= 1 for place, _ in error.mistakes)
        assert all(sentence.isprintable() for _, sentence in error.mistakes)
        return
    for host in inventory.hosts.values():
        _holds(host)


@settings(max_examples=80, deadline=None)
@given(st.text(max_size=200))
def test_no_text_at_all_makes_the_reader_fall(scratch: Path, text: str) -> None:
    path = scratch
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    try:
        load_inventory(path)
    except InventoryError:
        return


def _holds(host: Host) -> None:
    for text in (host.name, host.address, host.user):
        assert text and not text.startswith("-") and text.isprintable() and " " not in text
    assert 1 <= host.port <= 65535
