"""The host's part of the pod network: overlay, pods' cables, Services, names.

`Network` is all that the agent sees. It is told whole states (`apply`, `apply_services`), gives each pod its
namespace and address (`attach`, `detach`), and `run` keeps it all in place: it serves DNS, restarts what died
and puts back what others removed. Invariants: everything may be said twice; an address belongs to one pod
from before it is used until after it is given back; nothing that carries somebody else's name is touched.
"""

from gitkube.node.network.errors import NetworkError
from gitkube.node.network.network import Attachment, Network

__all__ = ["Attachment", "Network", "NetworkError"]
