"""The door that speaks etcd's v3 gRPC API, so that `etcdctl` and etcd's client libraries work on our store.

It stands in front of any `Store` and `StoreAdmin` and holds no state of its own but the watches of its
clients. `server.py` listens, with `certificates.py`; `keeping.py` keeps it open beside a member. `methods.py`
says which method is answered where: `keys.py` (KV), `watches.py`, `leases.py`, `cluster.py` (Cluster,
Maintenance), `recipes.py` (Lock, Election). `gathering.py` lets calls through together, `headers.py` says who
answers. The messages, their translation and etcd's errors are in `store/etcd/`, which is the other direction.

What is not etcd's here: no users and roles (the client certificate admits), no snapshot in etcd's file
format, no transactions inside of transactions, and a key has at most 4 KiB.
"""

from gitkube.store.door.certificates import DoorTls
from gitkube.store.door.keeping import keep_door
from gitkube.store.door.server import Door, serve_door

__all__ = ["Door", "DoorTls", "keep_door", "serve_door"]
