"""A real `git push` against a real API: what the pusher reads, and what the cluster has afterwards."""

from __future__ import annotations

from gitkube.objects import kinds

CONFIG = """\
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data:
  colour: green
"""


async def test_a_good_push_is_planned_applied_and_told(repo, sync, api_client):
    repo.commit({"apps/settings.yaml": CONFIG}, "settings: first")
    code, text = await repo.push()
    print(text)
    assert code == 0
    assert "remote: gitkube  " in text and '"settings: first" by ada · 1 commit' in text
    assert "remote: plan     + ConfigMap default/settings" in text and "apps/settings.yaml:1" in text
    assert "remote: healthy  " in text
    live = await api_client.get(kinds.CONFIG_MAP, "settings", "default")
    assert live["data"] == {"colour": "green"}


async def test_a_bad_push_is_refused_and_changes_nothing(repo, sync, api_client):
    repo.commit({"apps/settings.yaml": CONFIG})
    await repo.push()
    before = repo.head()
    repo.commit({"apps/settings.yaml": CONFIG.replace("metadata:", "metadate:")})
    code, text = await repo.push()
    print(text)
    assert code == 1
    assert repo.head() == before
    assert "refused  nothing was changed" in text
    assert "apps/settings.yaml:3:1" in text and 'did you mean "metadata"?' in text
    assert "try it without pushing: gitkube plan" in text
