"""What crun is told, for each field of the spec that matters to security and resources."""

from __future__ import annotations

from typing import Any

import pytest

from gitkube.node import oci, users
from gitkube.node.env import ConfigError


def config(container: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    spec = {"name": "web", "image": "web:1", "command": ["run"], **(container or {})}
    pod = {"metadata": {"name": "p", "namespace": "shop", "uid": "u"}, "spec": {"containers": [spec]}}
    request = {
        "pod": pod, "container": spec, "image_config": {}, "environment": {}, "user": users.User(0, 0, (0,)),
        "rootfs": "/root", "cgroups_path": "/gitkube/u/web",
        "namespaces": {"pid": "", "network": "/run/netns/u"}, **changes,
    }  # fmt: skip
    return oci.container_config(oci.Request(**request))


def test_a_plain_container_gets_the_default_rights_and_masked_paths() -> None:
    made = config()
    assert made["process"]["capabilities"]["bounding"] == sorted(oci.DEFAULT_CAPABILITIES)
    assert "/proc/kcore" in made["linux"]["maskedPaths"] and "/proc/sys" in made["linux"]["readonlyPaths"]
    assert made["linux"]["resources"]["devices"] == [{"allow": False, "access": "rwm"}]
    assert {"type": "network", "path": "/run/netns/u"} in made["linux"]["namespaces"]
    assert {"type": "pid"} in made["linux"]["namespaces"]


@pytest.mark.parametrize(
    ("security", "present", "absent"),
    [
        ({"capabilities": {"drop": ["ALL"]}}, set(), {"CAP_CHOWN"}),
        (
            {"capabilities": {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]}},
            {"CAP_NET_BIND_SERVICE"},
            {"CAP_KILL"},
        ),
        ({"capabilities": {"add": ["NET_ADMIN"]}}, {"CAP_NET_ADMIN", "CAP_CHOWN"}, {"CAP_SYS_ADMIN"}),
        ({"capabilities": {"add": ["ALL"], "drop": ["SYS_ADMIN"]}}, {"CAP_BPF"}, {"CAP_SYS_ADMIN"}),
        ({"privileged": True}, {"CAP_SYS_ADMIN"}, set()),
    ],
)
def test_capabilities_are_added_and_dropped(
    security: dict[str, Any], present: set[str], absent: set[str]
) -> None:
    held = set(config({"securityContext": security})["process"]["capabilities"]["bounding"])
    assert present <= held and not held & absent


def test_nothing_is_asked_for_that_the_machine_does_not_have() -> None:
    host = oci.Host(capabilities=frozenset({"CAP_CHOWN"}), oom_score_adj_floor=0)
    made = config({"securityContext": {"privileged": True}}, host=host)
    assert made["process"]["capabilities"]["bounding"] == ["CAP_CHOWN"]
    assert made["process"]["oomScoreAdj"] >= 0


def test_a_hardened_container_is_read_only_and_gains_nothing() -> None:
    made = config({"securityContext": {"readOnlyRootFilesystem": True, "allowPrivilegeEscalation": False}})
    assert made["root"]["readonly"] and made["process"]["noNewPrivileges"]


def test_resources_become_cgroup_numbers() -> None:
    limits = {"cpu": "500m", "memory": "64Mi"}
    made = config({"resources": {"limits": limits, "requests": {"cpu": "250m"}}})["linux"]["resources"]
    assert made["cpu"] == {"shares": 256, "period": 100000, "quota": 50000}
    assert made["memory"] == {"limit": 67108864} and made["pids"]["limit"] == oci.MAX_PROCESSES


@pytest.mark.parametrize(
    ("image", "spec", "expected"),
    [
        ({"Entrypoint": ["e"], "Cmd": ["c"]}, {}, ["e", "c"]),
        ({"Entrypoint": ["e"], "Cmd": ["c"]}, {"args": ["a"]}, ["e", "a"]),
        ({"Entrypoint": ["e"], "Cmd": ["c"]}, {"command": ["x"]}, ["x"]),
        ({"Entrypoint": ["e"], "Cmd": ["c"]}, {"command": ["x"], "args": ["$(A)"]}, ["x", "1"]),
        ({"Cmd": ["c"]}, {}, ["c"]),
    ],
)
def test_command_and_args_stand_for_entrypoint_and_cmd(
    image: dict[str, Any], spec: dict[str, Any], expected: list[str]
) -> None:
    assert oci.arguments(spec, image, {"A": "1"}) == expected


def test_nothing_to_run_is_said() -> None:
    with pytest.raises(ConfigError, match="no command specified"):
        oci.arguments({}, {}, {})


def test_volumes_are_mounted_outer_before_inner_and_over_the_systems_own() -> None:
    mounts = [oci.Mount("/b", "/data/inner"), oci.Mount("/a", "/data", True), oci.Mount("/m", "/dev/shm")]
    made = config(mounts=mounts, shm="/shm")["mounts"]
    order = [entry["destination"] for entry in made]
    assert order.index("/data") < order.index("/data/inner") and order.count("/dev/shm") == 1
    assert "ro" in next(entry for entry in made if entry["destination"] == "/data")["options"]


def test_the_image_the_name_and_the_spec_make_the_environment_in_this_order() -> None:
    made = config(image_config={"Env": ["A=image", "B=image"]}, environment={"B": "spec"})["process"]["env"]
    assert made == [f"PATH={oci.DEFAULT_PATH}", "A=image", "B=spec", "HOSTNAME=p"]


PASSWD = "root:x:0:0::/:/bin/sh\nweb:x:1234:1235::/:/bin/sh\nbroken line\nx:y:z:w\n"
GROUP = "root:x:0:\nweb:x:1235:\nextra:x:77:web,other\n"


@pytest.mark.parametrize(
    ("image_user", "security", "expected"),
    [
        ("", {}, (0, 0, (0,))),
        ("web", {}, (1234, 1235, (1235, 77))),
        ("1234", {}, (1234, 1235, (1235, 77))),
        ("web:extra", {}, (1234, 77, (77,))),
        ("4321:9", {}, (4321, 9, (9,))),
        ("web", {"runAsUser": 5, "runAsGroup": 6}, (5, 6, (6,))),
        ("", {"fsGroup": 2000, "supplementalGroups": [3]}, (0, 0, (0, 2000, 3))),
    ],
)
def test_users_are_numbers_or_names_of_the_image(
    image_user: str, security: dict[str, Any], expected: Any
) -> None:
    assert users.resolve(image_user, security, PASSWD, GROUP) == users.User(*expected)


@pytest.mark.parametrize(
    ("image_user", "security"), [("nobody", {}), ("web:none", {}), ("", {"runAsNonRoot": True})]
)
def test_a_user_that_cannot_be_is_refused(image_user: str, security: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        users.resolve(image_user, security, PASSWD, GROUP)


@pytest.mark.parametrize(
    ("resources", "quality"),
    [
        ({}, "BestEffort"),
        ({"requests": {"cpu": "1"}}, "Burstable"),
        ({"limits": {"cpu": "1", "memory": "1Gi"}}, "Guaranteed"),
        ({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "500m"}}, "Burstable"),
    ],
)
def test_quality_of_service_follows_requests_and_limits(resources: dict[str, Any], quality: str) -> None:
    assert oci.quality_of_service({"spec": {"containers": [{"resources": resources}]}}) == quality
