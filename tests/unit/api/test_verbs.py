"""The verbs on a real store: what a client may rely on, one promise a test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gitkube.api.authorization import User
from gitkube.api.client import PatchType, Propagation, WatchEvent
from gitkube.api.errors import StatusError
from gitkube.api.local import LocalClient
from gitkube.api.machinery import Api
from gitkube.api.requests import Context, FieldValidation, WatchOptions
from gitkube.api.settings import ApiSettings
from gitkube.objects.kinds import (
    CONFIG_MAP,
    DEPLOYMENT,
    ENDPOINT_SLICE,
    EVENT,
    NAMESPACE,
    PERSISTENT_VOLUME_CLAIM,
    POD,
    SECRET,
    SERVICE,
)
from gitkube.store.protocol import NO_LEASE
from tests.support.real_api import real_api, real_client

ADMIN = User("admin", ("system:masters",))
SETTINGS = ApiSettings(watch_ring_events=64, watch_ring_events_max=64, bookmark_interval_s=0.05)


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    async with real_api(tmp_path, settings=SETTINGS) as api:
        yield api


@pytest.fixture
def client(api: Api) -> LocalClient:
    return api.client(ADMIN)


def config(name: str = "a", **data: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "default"}, "data":
        data, }  # fmt: skip


def pod(name: str = "p", **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"containers": [{"name": "c", "image": "app:1"}], **spec},
    }


def service(name: str, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"ports": [{"port": 80}], **spec},
    }


async def refused(awaitable: Any, code: int, reason: str) -> StatusError:
    with pytest.raises(StatusError) as caught:
        await awaitable
    assert (caught.value.code, caught.value.reason) == (code, reason), caught.value.message
    return caught.value


async def test_a_new_cluster_has_its_namespaces_and_the_service_of_its_api(client: LocalClient) -> None:
    names = [item["metadata"]["name"] for item in (await client.list(NAMESPACE)).items]
    assert names == ["default", "kube-node-lease", "kube-public", "kube-system"]
    assert (await client.get(SERVICE, "kubernetes", "default"))["spec"]["clusterIP"] == "10.43.0.1"


async def test_what_was_written_is_read_at_once(client: LocalClient) -> None:
    created = await client.create(CONFIG_MAP, config(x="1"))
    assert created["metadata"]["uid"]
    assert await client.get(CONFIG_MAP, "a", "default") == created
    assert (await client.list(CONFIG_MAP, "default")).items == [created]


async def test_a_generated_name_starts_as_it_was_asked(client: LocalClient) -> None:
    obj = config()
    obj["metadata"] = {"generateName": "web-", "namespace": "default"}
    first, second = await client.create(CONFIG_MAP, obj), await client.create(CONFIG_MAP, obj)
    assert first["metadata"]["name"].startswith("web-")
    assert first["metadata"]["name"] != second["metadata"]["name"]


async def test_nothing_is_made_twice_or_in_a_namespace_that_is_not_there(client: LocalClient) -> None:
    await client.create(CONFIG_MAP, config())
    await refused(client.create(CONFIG_MAP, config()), 409, "AlreadyExists")
    elsewhere = config()
    elsewhere["metadata"] = {"name": "a", "namespace": "nowhere"}
    error = await refused(client.create(CONFIG_MAP, elsewhere), 404, "NotFound")
    assert error.message == 'namespaces "nowhere" not found'


async def test_an_update_of_an_old_version_is_a_conflict(client: LocalClient) -> None:
    old = await client.create(CONFIG_MAP, config(x="1"))
    await client.update(CONFIG_MAP, {**old, "data": {"x": "2"}})
    await refused(client.update(CONFIG_MAP, {**old, "data": {"x": "3"}}), 409, "Conflict")


async def test_updates_without_a_version_all_get_through_side_by_side(client: LocalClient) -> None:
    await client.create(CONFIG_MAP, config())
    patches = [
        client.patch(CONFIG_MAP, "a", "default", {"data": {f"k{number}": "v"}}) for number in range(12)
    ]
    await asyncio.gather(*patches)
    assert len((await client.get(CONFIG_MAP, "a", "default"))["data"]) == 12


async def test_a_write_that_changes_nothing_keeps_the_version(client: LocalClient) -> None:
    created = await client.create(CONFIG_MAP, config(x="1"))
    again = await client.patch(CONFIG_MAP, "a", "default", {"data": {"x": "1"}})
    assert again["metadata"]["resourceVersion"] == created["metadata"]["resourceVersion"]


async def test_a_dry_run_shows_the_result_and_writes_nothing(client: LocalClient) -> None:
    shown = await client.create(CONFIG_MAP, config(x="1"), dry_run=True)
    assert shown["data"] == {"x": "1"}
    await refused(client.get(CONFIG_MAP, "a", "default"), 404, "NotFound")


def deployment() -> dict[str, Any]:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "c", "image": "app:1"}]},
            },
        },
    }


async def test_status_and_the_rest_are_two_doors(client: LocalClient) -> None:
    created = await client.create(DEPLOYMENT, {**deployment(), "status": {"replicas": 9}})
    assert created["status"] == {}
    both = {"spec": {"replicas": 3}, "status": {"replicas": 3}}
    main = await client.patch(DEPLOYMENT, "web", "default", both)
    assert (main["spec"]["replicas"], main["status"], main["metadata"]["generation"]) == (3, {}, 2)
    both = {"spec": {"replicas": 5}, "status": {"replicas": 3}}
    status = await client.patch(DEPLOYMENT, "web", "default", both, subresource="status")
    assert (status["spec"]["replicas"], status["status"]["replicas"]) == (3, 3)
    assert status["metadata"]["generation"] == 2


async def test_what_admission_puts_back_is_no_change(client: LocalClient) -> None:
    toleration = {"key": "gpu", "operator": "Exists"}
    wish = pod(tolerations=[toleration])
    created = await client.create(POD, wish)
    assert len(created["spec"]["tolerations"]) > 1
    again = await client.patch(POD, "p", "default", {"spec": {"tolerations": [toleration]}})
    assert again["metadata"]["generation"] == 1
    assert again["metadata"]["resourceVersion"] == created["metadata"]["resourceVersion"]


async def test_scale_changes_the_number_of_replicas_only(api: Api, client: LocalClient) -> None:
    await client.create(DEPLOYMENT, deployment())
    scale = await client.patch(DEPLOYMENT, "web", "default", {"spec": {"replicas": 4}}, subresource="scale")
    assert (scale["kind"], scale["spec"]) == ("Scale", {"replicas": 4})
    assert (await client.get(DEPLOYMENT, "web", "default"))["spec"]["replicas"] == 4


async def test_a_pod_is_bound_once(client: LocalClient) -> None:
    await client.create(POD, pod())
    target = {"kind": "Node", "name": "ant"}
    binding = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "p"}, "target": target}
    await client.create_subresource(POD, "p", "default", "binding", binding)
    bound = await client.get(POD, "p", "default")
    assert bound["spec"]["nodeName"] == "ant"
    assert bound["metadata"]["generation"] == 1  # the wish of who made it is still the same
    assert bound["status"]["conditions"][0]["type"] == "PodScheduled"
    await refused(client.create_subresource(POD, "p", "default", "binding", binding), 409, "Conflict")


async def test_a_pod_on_a_host_stays_until_the_host_says_it_is_gone(client: LocalClient) -> None:
    created = await client.create(POD, pod(nodeName="ant"))
    marked = await client.delete(POD, "p", "default")
    assert marked["metadata"]["deletionGracePeriodSeconds"] == 30
    assert (await client.get(POD, "p", "default"))["metadata"]["deletionTimestamp"]
    await refused(client.delete(POD, "p", "default", grace_period_s=0, uid="another"), 409, "Conflict")
    await client.delete(POD, "p", "default", grace_period_s=0, uid=created["metadata"]["uid"])
    await refused(client.get(POD, "p", "default"), 404, "NotFound")


async def test_a_pod_without_a_host_goes_at_once(client: LocalClient) -> None:
    await client.create(POD, pod())
    await client.delete(POD, "p", "default")
    await refused(client.get(POD, "p", "default"), 404, "NotFound")


async def test_a_finalizer_holds_an_object_until_it_is_taken_off(client: LocalClient) -> None:
    obj = config()
    obj["metadata"]["finalizers"] = ["example.org/hold"]
    await client.create(CONFIG_MAP, obj)
    marked = await client.delete(CONFIG_MAP, "a", "default", propagation=Propagation.FOREGROUND)
    assert marked["metadata"]["finalizers"] == ["example.org/hold", "foregroundDeletion"]
    await client.patch(CONFIG_MAP, "a", "default", {"metadata": {"finalizers": None}})
    await refused(client.get(CONFIG_MAP, "a", "default"), 404, "NotFound")


async def test_a_namespace_that_ends_takes_nothing_in(
    client: LocalClient,
) -> None:
    await client.create(NAMESPACE, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "n"}})
    marked = await client.delete(NAMESPACE, "n")
    assert marked["status"]["phase"] == "Terminating"
    late = config()
    late["metadata"]["namespace"] = "n"
    await refused(client.create(CONFIG_MAP, late), 403, "Forbidden")
    await client.update(NAMESPACE, {**marked, "spec": {"finalizers": []}}, subresource="finalize")
    await refused(client.get(NAMESPACE, "n"), 404, "NotFound")


async def test_services_made_side_by_side_never_share_an_address_or_a_port(client: LocalClient) -> None:
    made = await asyncio.gather(
        *(client.create(SERVICE, service(f"s{number}", type="NodePort")) for number in range(30))
    )
    assert len({each["spec"]["clusterIP"] for each in made}) == 30
    assert len({each["spec"]["ports"][0]["nodePort"] for each in made}) == 30


async def test_an_address_asked_for_by_two_is_given_to_one(client: LocalClient) -> None:
    asked = [client.create(SERVICE, service(name, clusterIP="10.43.7.7")) for name in ("one", "two")]
    answers = await asyncio.gather(*asked, return_exceptions=True)
    errors = [answer for answer in answers if isinstance(answer, StatusError)]
    assert [error.code for error in errors] == [422]


async def test_a_deleted_service_gives_its_address_back(client: LocalClient) -> None:
    await client.create(SERVICE, service("one", clusterIP="10.43.7.7"))
    await client.delete(SERVICE, "one", "default")
    again = await client.create(SERVICE, service("two", clusterIP="10.43.7.7"))
    assert again["spec"]["clusterIP"] == "10.43.7.7"


async def test_an_apply_creates_merges_and_refuses_what_others_own(client: LocalClient) -> None:
    await client.apply(CONFIG_MAP, config(x="1"), field_manager="gitkube")
    await client.patch(CONFIG_MAP, "a", "default", {"data": {"y": "2"}}, field_manager="ada")
    error = await refused(
        client.apply(CONFIG_MAP, config(x="1", y="3"), field_manager="gitkube"), 409, "Conflict"
    )
    assert error.message == 'Apply failed with 1 conflict: conflict with "ada" using v1: .data.y'
    forced = await client.apply(CONFIG_MAP, config(x="1", y="3"), field_manager="gitkube", force=True)
    assert forced["data"] == {"x": "1", "y": "3"}


async def test_unknown_fields_are_refused_warned_of_or_dropped(api: Api, client: LocalClient) -> None:
    odd = {**config(), "dta": {"x": "1"}}
    error = await refused(client.create(CONFIG_MAP, odd), 400, "BadRequest")
    assert 'unknown field "dta"' in error.message
    context = Context(ADMIN, field_validation=FieldValidation.WARN)
    made = await api.verbs.create(context, CONFIG_MAP, "default", odd)
    assert "dta" not in made
    assert context.warnings == ['unknown field "dta"']


async def test_an_owner_that_stands_twice_counts_once_with_a_warning(api: Api) -> None:
    owner = {"apiVersion": "v1", "kind": "Node", "name": "ant", "uid": "u1"}
    context, owned = Context(ADMIN), config()
    owned["metadata"]["ownerReferences"] = [owner, dict(owner)]
    made = await api.verbs.create(context, CONFIG_MAP, "default", owned)
    assert made["metadata"]["ownerReferences"] == [owner]
    (warning,) = context.warnings
    assert warning.startswith("metadata.ownerReferences contains duplicate entries;")
    assert warning.endswith("duplicate UID(s) observed: u1")


async def test_what_a_claim_is_filled_from_stands_in_the_newer_field_too(client: LocalClient) -> None:
    source = {"kind": "PersistentVolumeClaim", "name": "other"}
    spec = {
        "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}, "dataSource": source,
    }  # fmt: skip
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "a", "namespace": "default"},
        "spec": spec,
    }
    made = await client.create(PERSISTENT_VOLUME_CLAIM, claim)
    assert made["spec"]["dataSourceRef"] == source
    again = await client.update(PERSISTENT_VOLUME_CLAIM, claim)
    assert again["spec"] == made["spec"]
    other = {**spec, "dataSourceRef": {"kind": "Volume", "name": "x"}}
    error = await refused(
        client.create(
            PERSISTENT_VOLUME_CLAIM,
            {**claim, "metadata": {"name": "b", "namespace": "default"}, "spec": other},
        ),
        422,
        "Invalid",
    )
    assert error.message.endswith("must match dataSourceRef")


async def test_a_writer_hears_once_what_kubernetes_warns_of(api: Api) -> None:
    context = Context(ADMIN)
    await api.verbs.create(context, POD, "default", pod(imagePullSecrets=[{"name": ""}]))
    assert context.warnings == ['spec.imagePullSecrets[0].name: invalid empty name ""']


async def test_who_is_nobody_may_nothing(api: Api) -> None:
    for user in (User(""), User("ada", ("system:authenticated",))):
        await refused(api.client(user).list(SECRET, "default"), 403, "Forbidden")


async def test_a_json_patch_that_fails_its_test_writes_nothing(client: LocalClient) -> None:
    await client.create(CONFIG_MAP, config(x="1"))
    patch = [
        {"op": "replace", "path": "/data/x", "value": "2"},
        {"op": "test", "path": "/data/x", "value": "1"},
    ]
    await refused(client.patch(CONFIG_MAP, "a", "default", patch, type=PatchType.JSON), 422, "Invalid")
    assert (await client.get(CONFIG_MAP, "a", "default"))["data"] == {"x": "1"}


# -- lists and watches
# ----------------------------------------------------------------------------------------


async def test_pages_show_one_picture_whatever_is_written_between(client: LocalClient) -> None:
    for number in range(7):
        await client.create(CONFIG_MAP, config(f"c{number}"))
    page = await client.list(CONFIG_MAP, "default", limit=3)
    assert page.remaining == 4
    await client.delete(CONFIG_MAP, "c5", "default")
    await client.create(CONFIG_MAP, config("c50"))
    names = [item["metadata"]["name"] for item in page.items]
    while page.continue_token:
        page = await client.list(CONFIG_MAP, "default", limit=3, continue_token=page.continue_token)
        names += [item["metadata"]["name"] for item in page.items]
    assert names == [f"c{number}" for number in range(7)]


async def take(client: LocalClient, count: int, **options: Any) -> list[WatchEvent]:
    events: list[WatchEvent] = []
    async with asyncio.timeout(60):
        async for event in client.watch(CONFIG_MAP, "default", **options):
            events.append(event)
            if len(events) == count:
                break
    return events


async def test_a_watch_gives_every_change_once_and_in_order(client: LocalClient) -> None:
    version = (await client.list(CONFIG_MAP)).resource_version
    await client.create(CONFIG_MAP, config(x="1"))
    await client.patch(CONFIG_MAP, "a", "default", {"data": {"x": "2"}})
    await client.delete(CONFIG_MAP, "a", "default")
    events = await take(client, 3, resource_version=version, bookmarks=False)
    assert [event.type for event in events] == ["ADDED", "MODIFIED", "DELETED"]
    versions = [int(event.object["metadata"]["resourceVersion"]) for event in events]
    assert versions == sorted(set(versions))


async def test_who_watches_a_selection_sees_objects_enter_and_leave_it(client: LocalClient) -> None:
    version = (await client.list(CONFIG_MAP)).resource_version
    await client.create(CONFIG_MAP, config())
    await client.patch(CONFIG_MAP, "a", "default", {"metadata": {"labels": {"in": "yes"}}})
    await client.patch(CONFIG_MAP, "a", "default", {"metadata": {"labels": {"in": None}}})
    events = await take(client, 2, resource_version=version, label_selector="in=yes", bookmarks=False)
    assert [event.type for event in events] == ["ADDED", "DELETED"]


async def test_a_quiet_watch_gets_bookmarks(client: LocalClient) -> None:
    version = (await client.list(CONFIG_MAP)).resource_version
    (event,) = await take(client, 1, resource_version=version)
    assert event.type == "BOOKMARK"


async def test_a_watch_from_before_the_ring_is_told_to_list_again(client: LocalClient) -> None:
    version = (await client.list(CONFIG_MAP)).resource_version
    await client.create(CONFIG_MAP, config())
    for number in range(SETTINGS.watch_ring_events + 1):
        await client.patch(CONFIG_MAP, "a", "default", {"data": {"x": str(number)}})
    await refused(take(client, 1, resource_version=version), 410, "Expired")


async def test_a_watch_can_begin_with_what_is_there(api: Api, client: LocalClient) -> None:
    await client.create(CONFIG_MAP, config())
    options = WatchOptions(send_initial_events=True, bookmarks=True)
    seen = []
    async for item in await api.verbs.watch(Context(ADMIN), CONFIG_MAP, "default", options):
        seen.append(item)
        if item.type == "BOOKMARK":
            break
    assert [item.type for item in seen] == ["ADDED", "BOOKMARK"]
    assert seen[-1].object["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}
    assert seen[0].encoded.startswith(b'{"type":"ADDED","object":{') and seen[0].encoded.endswith(b"}\n")


async def test_all_watchers_share_the_bytes_of_an_event(api: Api, client: LocalClient) -> None:
    created = await client.create(CONFIG_MAP, config())
    version = str(int(created["metadata"]["resourceVersion"]) - 1)
    seen = []
    for _ in range(2):
        async for item in await api.verbs.watch(
            Context(ADMIN), CONFIG_MAP, "default", WatchOptions(resource_version=version)
        ):
            seen.append(item.encoded)
            break
    assert seen[0] is seen[1]


async def test_what_was_stored_is_there_after_a_restart(tmp_path: Path) -> None:
    uids = []
    for _ in range(2):
        async with real_client(tmp_path) as client:
            if not uids:
                await client.create(SERVICE, service("one", clusterIP="10.43.7.7"))
            else:
                await refused(client.create(SERVICE, service("two", clusterIP="10.43.7.7")), 422, "Invalid")
            uids.append((await client.get(SERVICE, "one", "default"))["metadata"]["uid"])
    assert uids[0] == uids[1]


async def test_events_end_by_themselves_and_share_a_lease(api: Api, client: LocalClient) -> None:
    for name in ("one", "two"):
        event = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": name, "namespace": "default"},
            "involvedObject": {"kind": "Pod", "name": "p", "namespace": "default"},
            "reason": "Started",
            "type": "Normal",
        }
        await client.create(EVENT, event)
    stored = await api.store.range(b"/registry/core/events/", b"/registry/core/events0")
    assert len({kv.lease for kv in stored.kvs}) == 1
    assert stored.kvs[0].lease != NO_LEASE


async def test_a_service_gives_up_what_only_its_former_type_has(client: LocalClient) -> None:
    spec = {"type": "NodePort", "externalTrafficPolicy": "Local", "ports": [{"port": 80}]}
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "default"}}
    made = await client.create(SERVICE, {**service, "spec": spec})
    spec = {**made["spec"], "type": "ExternalName", "externalName": "web.example.com"}
    changed = (await client.update(SERVICE, {**made, "spec": spec}))["spec"]
    assert "externalTrafficPolicy" not in changed and "clusterIP" not in changed
    assert "nodePort" not in changed["ports"][0]


@pytest.mark.parametrize("given", [{}, {"endpoints": []}, {"endpoints": None}])
async def test_a_slice_without_endpoints_says_so(client: LocalClient, given: dict[str, Any]) -> None:
    metadata = {"name": "web-1", "namespace": "default"}
    slice_ = {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": metadata} | {
        "addressType": "IPv4",
        **given,
    }
    created = await client.apply(ENDPOINT_SLICE, slice_, field_manager="m")
    assert created["endpoints"] == []
    assert await client.apply(ENDPOINT_SLICE, slice_, field_manager="m") == created
