"""What the agent keeps and refuses: sections, terms, names, image references, credentials, cgroups, hosts."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitkube.node import cgroups, images, kube, sandbox, target
from gitkube.node import exec as container_exec
from gitkube.node.containers import container_id, owner_of
from gitkube.node.env import References
from gitkube.node.hostinfo import seccomp_profile
from gitkube.node.paths import Layout, UnsafeName, safe
from gitkube.node.pods import _uid_and_flaw
from gitkube.node.pull_secrets import auth_of, registry_of
from gitkube.node.sections import Sections, StaleTerm
from gitkube.wire import digest_of


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    (tmp_path / "lib").mkdir()
    return Layout(tmp_path / "lib", tmp_path / "run")


def desired(term: int, data: dict[str, Any]) -> dict[str, Any]:
    return {"section": "pods", "term": term, "revision": 1, "digest": digest_of(data), "data": data}


def test_a_section_is_there_again_after_a_restart(layout: Layout) -> None:
    sections = Sections(layout)
    sections.load()
    sections.meet(3, "ant")
    sections.keep(desired(3, {"pods": []}))
    again = Sections(layout)
    again.load()
    assert (again.term, again.node, again.data("pods")) == (3, "ant", {"pods": []})
    assert again.digests() == {"pods": digest_of({"pods": []})}


def test_orders_of_a_deposed_leader_are_refused_for_good(layout: Layout) -> None:
    sections = Sections(layout)
    sections.load()
    sections.keep(desired(5, {"pods": []}))
    with pytest.raises(StaleTerm, match="term 5"):
        sections.keep(desired(4, {"pods": [1]}))
    again = Sections(layout)
    again.load()
    with pytest.raises(StaleTerm):
        again.meet(4, "ant")


def test_a_section_that_is_not_what_it_says_changes_nothing(layout: Layout) -> None:
    sections = Sections(layout)
    sections.load()
    with pytest.raises(ValueError, match="digest"):
        sections.keep({**desired(1, {"pods": []}), "digest": "0"})
    with pytest.raises(ValueError, match="not one that this host knows"):
        sections.keep({**desired(1, {}), "section": "../pods"})
    assert sections.digests() == {}


def test_a_damaged_file_is_asked_for_again(layout: Layout) -> None:
    sections = Sections(layout)
    sections.load()
    sections.keep(desired(1, {"pods": []}))
    (layout.desired / "pods.json").write_text('{"torn')
    again = Sections(layout)
    again.load()
    assert again.digests() == {} and again.term == 1


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "-x", ".hidden", "a..b", "x" * 300, "a\0b", "a b"])
def test_a_name_that_could_be_a_path_is_refused(name: str) -> None:
    with pytest.raises(UnsafeName):
        safe(name)


def test_a_bad_pod_is_named_and_a_good_one_is_not() -> None:
    def flaw(container: str, uid: str = "u") -> str:
        pod = {
            "metadata": {"name": "p", "namespace": "n", "uid": uid},
            "spec": {"containers": [{"name": container}]},
        }
        return _uid_and_flaw(pod)[1]

    assert flaw("web") == ""
    assert "../x" in flaw("../x") and "'_'" in flaw("a_b") and "../u" in flaw("web", "../u")
    assert "cannot be run" in _uid_and_flaw({"metadata": {}})[1]


def test_a_container_id_tells_its_owner() -> None:
    assert owner_of(container_id("4f2c-9e", "web-1", 12)) == ("4f2c-9e", "web-1", 12)
    assert owner_of("something-else") is None


@pytest.mark.parametrize(
    ("reference", "source"),
    [
        ("busybox", "docker://busybox:latest"),
        ("registry.lab:5000/web:1", "docker://registry.lab:5000/web:1"),
        ("registry.lab:5000/web", "docker://registry.lab:5000/web:latest"),
        (f"a.b/c:1@sha256:{'0' * 64}", f"docker://a.b/c@sha256:{'0' * 64}"),
    ],
)
def test_an_image_reference_becomes_skopeos(reference: str, source: str) -> None:
    assert images.skopeo_source(reference) == source


@pytest.mark.parametrize(
    "reference", ["", "-x", "--help", "a b", "UPPER", "oci:/etc", "a:b:c", "a@sha256:0", "../x", "a\nb"]
)
def test_what_is_no_image_name_never_reaches_skopeo(reference: str) -> None:
    with pytest.raises(images.ImageError) as caught:
        images.skopeo_source(reference)
    assert caught.value.reason == "InvalidImageName"


@pytest.mark.parametrize("digest", ["sha256:../../etc", "sha256:" + "g" * 64, "md5:" + "0" * 64, "0" * 64])
def test_a_digest_that_is_none_never_becomes_a_file_name(digest: str) -> None:
    with pytest.raises(images.ImageError):
        images.digest_hex(digest)


def test_a_pull_secret_is_given_for_its_own_registry_only() -> None:
    auths = {"auths": {"https://reg.one/v1/": {"auth": "b25l"}, "reg.two": {"auth": "dHdv"}}}
    data = {".dockerconfigjson": base64.b64encode(json.dumps(auths).encode()).decode()}
    secret = {"metadata": {"name": "s"}, "type": "kubernetes.io/dockerconfigjson", "data": data}
    pod = {"metadata": {"namespace": "n"}, "spec": {"imagePullSecrets": [{"name": "s"}, {"name": "gone"}]}}
    references = References({}, {"n/s": secret}, {})
    assert auth_of(pod, references, "reg.two/x:1") == {"auths": {"reg.two": {"auth": "dHdv"}}}
    assert auth_of(pod, references, "reg.three/x:1") is None
    assert registry_of("busybox") == registry_of("library/busybox") == "docker.io"


def test_the_cgroup_layout_is_recognised_or_refused_with_advice() -> None:
    base = Path("/cg")
    v2, v1 = cgroups.CGROUP2_MAGIC, cgroups.CGROUP1_MAGIC
    plain = {base / name: v1 for name in ("cpu", "memory", "pids", "devices")}
    assert cgroups.detect(base, {base: v2}.__getitem__).version == 2
    assert cgroups.detect(base, lambda path: plain.get(path, 0)).version == 1
    with pytest.raises(cgroups.CgroupError, match="unified_cgroup_hierarchy"):
        cgroups.detect(base, lambda path: {**plain, base / "unified": v2}.get(path, 0))
    with pytest.raises(cgroups.CgroupError, match="cpu, devices, memory, pids"):
        cgroups.detect(base, lambda path: 0)


def test_a_pods_hosts_file_has_its_names_and_aliases() -> None:
    pod = {
        "metadata": {"name": "web-0", "namespace": "shop"},
        "spec": {"subdomain": "web", "hostAliases": [{"ip": "192.0.2.1", "hostnames": ["a", "b"]}]},
    }
    text = sandbox.hosts_file(pod, "10.42.1.2", "cluster.local", "")
    assert "10.42.1.2\tweb-0.web.shop.svc.cluster.local\tweb-0\n" in text and "192.0.2.1\ta\tb\n" in text
    assert sandbox.hostname_of({"metadata": {"name": "x" * 62 + "-y"}, "spec": {}}) == "x" * 62


def test_an_exec_has_the_containers_own_rights() -> None:
    config = {"process": {"user": {"uid": 7}, "cwd": "/w", "env": ["A=1"], "args": ["x"], "oomScoreAdj": 5}}
    made = target.process_of(config, ["sh"], tty=True)
    assert made == {
        "user": {"uid": 7},
        "cwd": "/w",
        "env": ["A=1", "TERM=xterm"],
        "args": ["sh"],
        "terminal": True,
    }
    for bad in (None, [], "sh", ["a\0b"], ["x" * 200_000]):
        with pytest.raises(ValueError, match="command"):
            target.check_command(bad)


@given(st.binary(max_size=60))
def test_a_terminal_size_is_numbers_or_nothing(data: bytes) -> None:
    rows, columns = container_exec.parse_size(data)
    assert 0 <= rows <= 65535 or columns <= 65535


@pytest.mark.parametrize(
    ("text", "value"), [("250m", 250), ("2", 2000), ("1.5", 1500), ("1e3", 1000000), ("0", 0), ("1u", 1)]
)
def test_quantities_in_thousandths(text: str, value: int) -> None:
    assert kube.milli(text) == value


@pytest.mark.parametrize(("text", "value"), [("64Mi", 67108864), ("1Gi", 2**30), ("1k", 1000), ("1500m", 2)])
def test_quantities_in_whole_units(text: str, value: int) -> None:
    assert kube.whole(text) == value


@given(st.text(max_size=12))
def test_what_is_no_quantity_is_said(text: str) -> None:
    try:
        kube.quantity(text)
    except ValueError as error:
        assert "quantity" in str(error)


def test_times_are_read_with_fractions_and_zones() -> None:
    assert kube.parse_time("2026-01-31T09:30:00Z") == kube.parse_time("2026-01-31T10:30:00.000+01:00")
    assert kube.parse_time("2026-01-31T09:30:00.25Z") % 1 == 0.25
    with pytest.raises(ValueError, match="not a time"):
        kube.parse_time("yesterday")


def test_the_distributions_seccomp_profile_is_taken_without_rules_for_other_rights() -> None:
    profile = {
        "defaultAction": "SCMP_ACT_ERRNO",
        "syscalls": [
            {"names": ["read"], "action": "SCMP_ACT_ALLOW", "args": [], "includes": {}, "excludes": {}},
            {"names": ["mount"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_ADMIN"]}},
        ],
    }
    made = seccomp_profile(profile, frozenset({"CAP_CHOWN"}))
    assert made is not None and [rule["names"] for rule in made["syscalls"]] == [["read"]]
    assert seccomp_profile(None, frozenset()) is None
