"""The store on an external etcd, for those who outgrow the embedded one.

`EtcdStore` keeps the contract of `store/protocol.py` over etcd's v3 API: `connection.py` finds a member that
answers, `feed.py` keeps one watch for all readers, `convert.py` and `errors.py` translate, `wire.py` has the
messages. The last three also serve the door (`store/door/`), which is the other direction.
"""

from gitkube.store.etcd.connection import ClientTls
from gitkube.store.etcd.store import EtcdStore

__all__ = ["ClientTls", "EtcdStore"]
