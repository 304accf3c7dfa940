"""Where the truth lives: an MVCC key space with etcd's semantics over a replicated, durable log.

```
 remote.py ── unix socket ──▶ served.py ─┐         door/: etcd's gRPC API for etcd's clients
                                         ▼           │
                  member.py (Store), administration.py (StoreAdmin)
                                         ▼
                  engine.py   the loop: time, threads, sockets; with proposals.py, reads.py, watches.py,
                  leadership.py, upkeep.py
                                         ▼                            ▲
                  replica.py  one member, synchronous                 │ transport.py, mutual TLS
                   ├ raft/        consensus without IO                ▼
                   ├ wal.py, snapshot.py over disk.py          other members
                   └ mvcc.py      the key space, pure
```

`protocol.py` is the contract that everything above is written against; `etcd/` keeps it on an external etcd.
What can be right or wrong about the data is in `replica.py` and below, and takes its disk, its chance and its
time as parameters, so that `gitkube/sim` can own them. `process.py` is a member as a process of its own.
"""
