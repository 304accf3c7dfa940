"""Differences are said as fields that a person knows."""

from __future__ import annotations

from gitkube.gitops.difference import differences


def web(image="web:1", **more):
    container = {"name": "web", "image": image, **more}
    return {
        "kind": "Deployment",
        "metadata": {"name": "w"},
        "spec": {"replicas": 1, "template": {"spec": {"containers": [container]}}},
    }


def texts(before, after):
    return [str(change) for change in differences(before, after)]


def test_an_image_is_just_called_image():
    assert texts(web(), web("web:2")) == ["image web:1 -> web:2"]


def test_what_every_write_changes_is_no_difference():
    before = {
        **web(),
        "metadata": {"name": "w", "resourceVersion": "1", "managedFields": []},
        "status": {"x": 1},
    }
    assert texts(before, web()) == []


def test_a_container_put_in_front_is_one_difference():
    after = web()
    containers = after["spec"]["template"]["spec"]["containers"]
    after["spec"]["template"]["spec"]["containers"] = [{"name": "side", "image": "s:1"}, *containers]
    assert texts(web(), after) == ["containers[side] (none) -> {side, …}"]


def test_a_field_that_goes_and_one_that_comes():
    assert texts(web(tty=True), web(stdin=True)) == [
        "containers[web].stdin (none) -> true",
        "containers[web].tty true -> (none)",
    ]


def test_one_and_true_are_different():
    assert texts({"spec": {"a": 1}}, {"spec": {"a": True}}) == ["a 1 -> true"]


def test_the_data_of_a_secret_is_never_shown():
    before, after = ({"kind": "Secret", "data": {"p": value}} for value in ("czE=", "czI="))
    assert texts(before, after) == ["p (secret) -> (secret)"]
