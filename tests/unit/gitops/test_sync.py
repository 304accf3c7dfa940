"""The sync against a real API: applied, healed, pruned, braked, and the same after a kill at any point."""

from __future__ import annotations

import asyncio

from gitkube.api.client import PatchType
from gitkube.api.errors import StatusError
from gitkube.gitops.applier import Applier
from gitkube.objects import kinds
from tests.support.waiting import eventually
from tests.unit.gitops.conftest import running_sync, stop


def config(name: str, value: str = "1", namespace: str = "default") -> str:
    return (
        f"apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}, namespace: {namespace}}}\n"
        f'data: {{value: "{value}"}}\n'
    )


def deployment(name: str = "web", image: str = "web:1", extra: str = "") -> str:
    return f"""\
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}}}
spec:
  replicas: 1
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata: {{labels: {{app: {name}}}}}
    spec:
      containers:
        - name: main
          image: {image}
{extra}"""


def job(command: str) -> str:
    return f"""\
apiVersion: batch/v1
kind: Job
metadata: {{name: seed}}
spec:
  template:
    spec:
      restartPolicy: Never
      containers: [{{name: seed, image: "web:1", command: [{command}]}}]
"""


async def push_only(repo, *options):
    """Push, and do not wait for a rollout that nobody will make healthy here."""
    task = asyncio.ensure_future(repo.push("main", *options))
    before = repo.head()

    async def landed():
        return repo.head() != before or task.done()

    await eventually(landed)
    return task


async def value_of(client, name, namespace="default"):
    try:
        return (await client.get(kinds.CONFIG_MAP, name, namespace))["data"]["value"]
    except StatusError:
        return None


async def source(client):
    return (await client.get(kinds.SOURCE, "main")).get("status") or {}


async def test_a_change_made_by_hand_is_healed(repo, sync, api_client):
    repo.commit({"a.yaml": config("a")})
    await repo.push()
    await api_client.patch(
        kinds.CONFIG_MAP, "a", "default", {"data": {"value": "hacked"}}, type=PatchType.MERGE
    )

    async def healed():
        return await value_of(api_client, "a") == "1"

    await eventually(healed)


async def test_an_object_deleted_by_hand_comes_back(repo, sync, api_client):
    repo.commit({"a.yaml": config("a")})
    await repo.push()
    await api_client.delete(kinds.CONFIG_MAP, "a", "default")

    async def healed():
        return await value_of(api_client, "a") == "1"

    await eventually(healed)


async def test_what_git_no_longer_has_is_pruned_and_nothing_else(repo, sync, api_client):
    await api_client.create(
        kinds.CONFIG_MAP,
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "by-hand", "namespace": "default"}},
    )
    repo.commit({"a.yaml": config("a"), "b.yaml": config("b")})
    await repo.push()
    repo.commit({"b.yaml": None})
    code, text = await repo.push()
    assert code == 0
    assert "plan     - ConfigMap default/b    b.yaml:1" in text or "- ConfigMap default/b" in text
    assert await value_of(api_client, "a") == "1"
    assert await value_of(api_client, "b") is None
    assert await api_client.get(kinds.CONFIG_MAP, "by-hand", "default")
    assert [entry["name"] for entry in (await source(api_client))["inventory"]] == ["a"]


async def test_a_commit_that_deletes_most_is_refused_until_it_says_so(repo, sync, api_client):
    repo.commit({f"{name}.yaml": config(name) for name in "abcdef"})
    await repo.push()
    head = repo.head()
    repo.commit({f"{name}.yaml": None for name in "bcdef"}, "clean up")
    code, text = await repo.push()
    assert code == 1 and repo.head() == head
    assert "this commit deletes 5 of the 6 objects that came from git" in text
    assert "gitkube-allow-delete" in text
    repo.git("commit", "-q", "--amend", "-m", "clean up\n\ngitkube-allow-delete")
    code, text = await repo.push()
    assert code == 0, text
    assert await value_of(api_client, "f") is None


async def test_a_namespace_with_things_in_it_is_not_deleted_by_the_way(repo, sync, api_client):
    namespace = "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n"
    repo.commit(
        {"shop/ns.yaml": namespace, "shop/a.yaml": config("a", namespace="shop"), "b.yaml": config("b")}
    )
    code, text = await repo.push()
    assert code == 0, text
    repo.commit({"shop/ns.yaml": None, "shop/a.yaml": None})
    code, text = await repo.push()
    assert code == 1
    assert "deletes the namespace shop with ConfigMap a and all else in it" in text


async def test_the_brake_holds_when_the_branch_is_moved_without_the_hook(repo, sync, api_client):
    repo.commit({f"{name}.yaml": config(name) for name in "abcdef"})
    await repo.push()
    commit = repo.commit({**{f"{name}.yaml": None for name in "bcdef"}, "a.yaml": config("a", "2")})
    repo.git("fetch", "-q", str(repo.clone), "main:incoming", cwd=repo.bare)
    repo.git("update-ref", "refs/heads/main", commit, cwd=repo.bare)

    async def applied():
        return (
            await value_of(api_client, "a") == "2" and (await source(api_client)).get("phase") == "degraded"
        )

    await eventually(applied)
    assert await value_of(api_client, "f") == "1"


async def test_a_bad_commit_that_came_around_the_hook_changes_nothing_and_is_shown(repo, sync, api_client):
    repo.commit({"a.yaml": config("a")})
    await repo.push()
    commit = repo.commit({"a.yaml": config("a", "2") + "oops: 1\n"})
    repo.git("fetch", "-q", str(repo.clone), "main:incoming", cwd=repo.bare)
    repo.git("update-ref", "refs/heads/main", commit, cwd=repo.bare)

    async def shown():
        status = await source(api_client)
        return status if status.get("phase") == "failed" else None

    status = await eventually(shown)
    assert "is refused: 1 error" in status["message"] and "a.yaml:5:1" in status["message"]
    assert await value_of(api_client, "a") == "1"
    await api_client.delete(kinds.CONFIG_MAP, "a", "default")

    async def healed():
        return await value_of(api_client, "a") == "1"

    await eventually(healed)  # the commit in force stays healed


async def test_what_happened_while_away_is_made_good_on_the_next_start(repo, api_client, tmp_path):
    repo.commit({"a.yaml": config("a"), "b.yaml": config("b")})
    async with running_sync(api_client, repo, tmp_path):
        code, text = await repo.push()
        assert code == 0, text
    commit = repo.commit({"a.yaml": config("a", "2"), "b.yaml": None})
    code, text = await repo.push()
    assert code == 1 and "the control plane does not answer" in text
    repo.git("fetch", "-q", str(repo.clone), "main:incoming", cwd=repo.bare)
    repo.git("update-ref", "refs/heads/main", commit, cwd=repo.bare)
    await api_client.delete(kinds.CONFIG_MAP, "a", "default")
    async with running_sync(api_client, repo, tmp_path):

        async def converged():
            return await value_of(api_client, "a") == "2" and await value_of(api_client, "b") is None

        await eventually(converged)


async def test_an_object_made_just_before_a_kill_is_pruned_later(repo, api_client, tmp_path):
    """The inventory is written before anything is applied; here the kill comes right after the applies."""

    class Killed(Exception):
        pass

    repo.commit({"a.yaml": config("a")})
    async with running_sync(api_client, repo, tmp_path):
        await repo.push()
    with_b = repo.commit({"b.yaml": config("b")})
    repo.git("fetch", "-q", str(repo.clone), "main:incoming", cwd=repo.bare)
    repo.git("update-ref", "refs/heads/main", with_b, cwd=repo.bare)

    async def die(self, entries):
        raise Killed

    prune = Applier.prune
    Applier.prune = die
    try:
        try:
            async with running_sync(api_client, repo, tmp_path):

                async def applied():
                    return await value_of(api_client, "b") == "1"

                await eventually(applied)
                await asyncio.sleep(0.2)
        except* Killed:
            pass
    finally:
        Applier.prune = prune
    assert await value_of(api_client, "b") == "1"
    without_b = repo.commit({"b.yaml": None})
    repo.git("fetch", "-q", str(repo.clone), "main:incoming", cwd=repo.bare)
    repo.git("update-ref", "refs/heads/main", without_b, cwd=repo.bare)
    async with running_sync(api_client, repo, tmp_path):

        async def pruned():
            return await value_of(api_client, "b") is None

        await eventually(pruned)


async def test_a_changed_config_map_rolls_the_pods_that_read_it(repo, sync, api_client):
    reads = "          envFrom: [{configMapRef: {name: a}}]\n"
    repo.commit(
        {"a.yaml": config("a"), "web.yaml": deployment(extra=reads), "other.yaml": deployment("other")}
    )
    watching = await push_only(repo)

    async def hashes():
        found = {}
        for name in ("web", "other"):
            try:
                live = await api_client.get(kinds.DEPLOYMENT, name, "default")
            except StatusError:
                return None
            metadata = live["spec"]["template"]["metadata"]
            found[name] = (metadata.get("annotations") or {}).get("gitkube.dev/config-hash")
        return found

    before = await eventually(hashes)
    assert before["web"] and not before["other"]
    repo.commit({"a.yaml": config("a", "2")})
    again = await push_only(repo)

    async def rolled():
        return (await hashes())["web"] != before["web"]

    await eventually(rolled)
    assert (await hashes())["other"] is None
    code, text = await watching
    assert code == 0 and "took over" in text  # a stuck rollout never holds up the next commit
    await stop(again)


async def test_a_job_with_another_template_runs_again_and_a_completed_one_does_not(repo, sync, api_client):
    repo.commit({"seed.yaml": job('"a"')})
    await stop(await push_only(repo))

    async def made():
        try:
            return await api_client.get(kinds.JOB, "seed", "default")
        except StatusError:
            return None

    first = await eventually(made)
    repo.commit({"a.yaml": config("a")})
    await repo.push()
    assert (await made())["metadata"]["uid"] == first["metadata"]["uid"]
    repo.commit({"seed.yaml": job('"b"')})
    watching = await push_only(repo)

    async def another():
        live = await made()
        return live and live["metadata"]["uid"] != first["metadata"]["uid"]

    await eventually(another)
    await stop(watching)


async def test_the_plan_shows_changed_fields_with_old_and_new_and_the_line(repo, sync, api_client):
    repo.commit({"apps/web.yaml": deployment(), "a.yaml": config("a")})
    await stop(await push_only(repo))

    async def there():
        try:
            return await api_client.get(kinds.DEPLOYMENT, "web", "default")
        except StatusError:
            return None

    await eventually(there)
    repo.commit({"apps/web.yaml": deployment(image="web:2")})
    watching = await push_only(repo)

    async def rolled_out():
        found = await there()
        return found and found["spec"]["template"]["spec"]["containers"][0]["image"] == "web:2"

    await eventually(rolled_out)
    repo.commit({"apps/web.yaml": None})
    code, _ = await repo.push()
    assert code == 0
    _, text = await watching
    assert "~ Deployment default/web" in text
    assert "image web:1 -> web:2" in text and "apps/web.yaml:1" in text


async def test_the_value_of_a_secret_is_in_no_plan(repo, sync, api_client):
    def secret(value):
        return f"apiVersion: v1\nkind: Secret\nmetadata: {{name: s}}\nstringData: {{password: {value}}}\n"

    repo.commit({"s.yaml": secret("canary-one")})
    _, first = await repo.push()
    repo.commit({"s.yaml": secret("canary-two")})
    code, second = await repo.push()
    assert code == 0
    assert "~ Secret default/s" in second and "(secret) -> (secret)" in second
    assert "canary" not in first + second and "Y2FuYXJ5" not in first + second


async def test_an_object_that_the_api_refuses_does_not_stop_the_others(
    repo, api_client, tmp_path, monkeypatch
):
    refuse = api_client.apply

    async def apply(kind, obj, **options):
        if obj["metadata"]["name"] == "bad" and not options.get("dry_run"):
            raise StatusError(422, "Invalid", "bad is invalid: for the test")
        return await refuse(kind, obj, **options)

    monkeypatch.setattr(api_client, "apply", apply, raising=False)
    repo.commit({"a-bad.yaml": config("bad"), "b.yaml": config("b")})
    async with running_sync(api_client, repo, tmp_path):
        _, text = await repo.push()
        assert "ConfigMap default/bad" in text and "for the test" in text and "failed" in text
        assert await value_of(api_client, "b") == "1"

        async def failed():
            return (await source(api_client)).get("phase") == "failed"

        await eventually(failed)
