"""What Prometheus is told."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from gitkube.store.metrics import MemberMetrics


def test_durations_are_counted_in_the_bucket_that_they_do_not_exceed() -> None:
    metrics = MemberMetrics()
    for duration_s in (0.0001, 0.00011, 0.003, 11.0):
        metrics.committed(duration_s)
    families = {family.name: family for family in text_string_to_metric_families(metrics.text(pending=0))}
    samples = families["gitkube_store_commit_duration_seconds"].samples
    buckets = {sample.labels["le"]: sample.value for sample in samples if sample.name.endswith("_bucket")}
    assert families["gitkube_store_commit_duration_seconds"].type == "histogram"
    assert (buckets["0.0001"], buckets["0.0002"], buckets["0.005"], buckets["10.0"]) == (1, 2, 3, 3)
    assert buckets["+Inf"] == 4
    totals = {sample.name.rpartition("_")[2]: sample.value for sample in samples}
    assert (totals["count"], totals["sum"]) == (4, 0.0001 + 0.00011 + 0.003 + 11.0)
