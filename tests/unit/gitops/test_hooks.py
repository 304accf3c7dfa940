"""What pushes may do besides the good one: other branches, force, tags, a control plane that is away."""

from __future__ import annotations

import asyncio
import json

import pytest

from gitkube.gitops.hook_socket import HookError, install_hooks
from gitkube.objects import kinds
from tests.support.waiting import eventually
from tests.unit.gitops.conftest import running_sync, stop

CONFIG = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {value: x}\n"


async def test_another_branch_is_stored_and_not_deployed(repo, sync, api_client):
    repo.commit({"a.yaml": CONFIG})
    repo.git("checkout", "-q", "-b", "try")
    code, text = await repo.push("try")
    assert code == 0
    assert "try is stored; only main deploys" in text
    assert not (await api_client.list(kinds.CONFIG_MAP, "default", field_selector="metadata.name=a")).items


async def test_a_forced_push_that_loses_commits_is_refused(repo, sync):
    repo.commit({"a.yaml": CONFIG})
    repo.commit({"a.yaml": CONFIG.replace("x", "y")})
    await repo.push()
    head = repo.head()
    repo.git("reset", "-q", "--hard", "HEAD~1")
    repo.commit({"a.yaml": CONFIG.replace("x", "z")})
    code, text = await repo.push("main", "--force")
    assert code == 1 and repo.head() == head
    assert "this push would take commits away from the branch" in text


async def test_the_branch_that_deploys_cannot_be_deleted(repo, sync):
    repo.commit({"a.yaml": CONFIG})
    await repo.push()
    head = repo.head()
    repo.git("config", "receive.denyDeleteCurrent", "ignore", cwd=repo.bare)
    code, text = await repo.push(":main")
    assert code == 1 and repo.head() == head
    assert "main is what the cluster follows; it cannot be deleted" in text


async def test_without_a_control_plane_a_push_is_refused_with_a_clear_sentence(repo, tmp_path):
    install_hooks(repo.bare, tmp_path / "gitops.sock")
    repo.commit({"a.yaml": CONFIG})
    code, text = await repo.push()
    assert code == 1 and repo.head() == ""
    assert "refused  nothing was changed: the control plane does not answer" in text
    assert "start it with: gitkube serve" in text


async def test_a_push_waits_for_a_control_plane_that_is_about_to_run(repo, api_client, tmp_path):
    install_hooks(repo.bare, tmp_path / "gitops.sock")
    repo.commit({"a.yaml": CONFIG})
    hook = repo.bare / "hooks" / "pre-receive"
    assert "START_S = 5\n" in hook.read_text()
    hook.write_text(hook.read_text().replace("START_S = 5\n", "START_S = 120\n"))  # the machine may be busy
    said: list[str] = []
    push = asyncio.ensure_future(repo.push(said=said))

    async def waits():
        return "waiting  the control plane does not answer; trying again" in "".join(said)

    await eventually(waits)
    async with running_sync(api_client, repo, tmp_path):
        code, _ = await push
    assert code == 0
    assert (await api_client.get(kinds.CONFIG_MAP, "a", "default"))["data"] == {"value": "x"}


async def test_a_watcher_that_goes_away_stops_nothing(repo, sync, api_client):
    repo.commit({"a.yaml": CONFIG, "web.yaml": WEB})
    push = asyncio.ensure_future(repo.push())

    async def landed():
        return repo.head()

    await eventually(landed)
    await stop(push)
    repo.commit({"a.yaml": CONFIG.replace("x", "y"), "web.yaml": None})
    code, _ = await repo.push()
    assert code == 0
    assert (await api_client.get(kinds.CONFIG_MAP, "a", "default"))["data"] == {"value": "y"}


WEB = """\
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: main, image: "web:1"}]}
"""


@pytest.mark.parametrize("name", ["evil", "objects/../../elsewhere", "/etc"])
async def test_a_quarantine_outside_the_repository_is_not_believed(repo, sync, tmp_path, name):
    repo.commit({"a.yaml": CONFIG})
    reader, writer = await asyncio.open_unix_connection(str(tmp_path / "gitops.sock"))
    update = ["0" * 40, repo.git("rev-parse", "HEAD").strip(), "refs/heads/main"]
    request = {"hook": "pre-receive", "updates": [update], "quarantine": str(repo.bare / name)}
    writer.write(json.dumps(request).encode() + b"\n")
    answer = (await reader.read()).decode()
    writer.close()
    assert "the quarantine directory is not one of this repository" in answer
    assert '{"exit": 1}' in answer


@pytest.mark.parametrize(
    "line", [b"\n", b"x\n", b"[]\n", b'{"hook": "update"}\n', b'{"hook": "pre-receive", "updates": [1]}\n']
)
async def test_what_is_no_request_is_refused(sync, tmp_path, line):
    reader, writer = await asyncio.open_unix_connection(str(tmp_path / "gitops.sock"))
    writer.write(line)
    answer = (await reader.read()).decode()
    writer.close()
    assert '{"exit": 1}' in answer


async def test_a_symlink_and_a_bad_name_are_refused(repo, sync):
    repo.commit({"a.yaml": CONFIG})
    (repo.clone / "link.yaml").symlink_to("/etc/passwd")
    repo.commit({})
    code, text = await repo.push()
    assert code == 1
    assert "link.yaml  symbolic links are not followed" in text


def test_hooks_that_are_not_ours_are_left_alone(repo, tmp_path):
    hook = repo.bare / "hooks" / "pre-receive"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\nexit 0\n")
    with pytest.raises(HookError, match="a hook of your own"):
        install_hooks(repo.bare, tmp_path / "s")
    assert hook.read_text() == "#!/bin/sh\nexit 0\n"


def test_installing_twice_is_once(repo, tmp_path):
    install_hooks(repo.bare, tmp_path / "s")
    before = (repo.bare / "hooks" / "pre-receive").stat().st_ino
    install_hooks(repo.bare, tmp_path / "s")
    assert (repo.bare / "hooks" / "pre-receive").stat().st_ino == before
    install_hooks(repo.bare, tmp_path / "t")
    assert (repo.bare / "hooks" / "pre-receive").stat().st_ino != before
