"""Which rules are in force, and how much each one's opinion counts: kube-scheduler's defaults."""

from __future__ import annotations

from gitkube.scheduler.framework import Plugin, Profile, Weighted
from gitkube.scheduler.plugins.image_locality import ImageLocality
from gitkube.scheduler.plugins.node_affinity import NodeAffinity
from gitkube.scheduler.plugins.node_name import NodeName
from gitkube.scheduler.plugins.node_ports import NodePorts
from gitkube.scheduler.plugins.node_resources import BalancedAllocation, Fit, LeastAllocated
from gitkube.scheduler.plugins.node_unschedulable import NodeUnschedulable
from gitkube.scheduler.plugins.pod_affinity import InterPodAffinity
from gitkube.scheduler.plugins.priority_sort import PrioritySort
from gitkube.scheduler.plugins.taints import TaintToleration
from gitkube.scheduler.plugins.topology_spread import PodTopologySpread


def default_profile(*extra: Plugin) -> Profile:
    """The default rules, with some more (such as a binder) after them.

    The order matters to the sentence a person reads: a host is refused by the first rule that refuses it.
    """
    return Profile(
        (
            Weighted(PrioritySort()),
            Weighted(NodeUnschedulable()),
            Weighted(NodeName()),
            Weighted(TaintToleration(), 3),
            Weighted(NodeAffinity(), 2),
            Weighted(NodePorts()),
            Weighted(Fit()),
            Weighted(LeastAllocated()),
            Weighted(BalancedAllocation()),
            Weighted(PodTopologySpread(), 2),
            Weighted(InterPodAffinity(), 2),
            Weighted(ImageLocality()),
            *(Weighted(plugin) for plugin in extra),
        )
    )
