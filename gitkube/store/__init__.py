"""Where the truth lives: an MVCC key space with etcd's semantics over a durable log.

`protocol.py` is the contract that everything above is written against; `mvcc.py` the key space in memory;
`wal.py` the log on disk, `snapshot.py` the key space in a file; `member.py` joins them. `process.py` is a
member as a process of its own, on a unix socket; `remote.py` starts it, starts it again when it dies, and
is its client.
"""
