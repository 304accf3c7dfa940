"""Where the truth lives: an MVCC key space with etcd's semantics over a durable log.

`protocol.py` is the contract that everything above is written against; `mvcc.py` the key space in memory;
`wal.py` the log on disk; `member.py` joins the two; `process.py` runs a member as a child process and
talks to it over a unix socket.
"""
