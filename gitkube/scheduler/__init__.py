"""Pod -> host: a queue, a snapshot of the cluster in columns, and rules as plugins, one file each.

`scheduler.py` joins them: it takes a pod from `queue.py`, lets `cycle.py` choose a host by the rules of
`profile.py` over `snapshot.py`, and binds it beside the next decision. `diagnosis.py` says why a pod waits.
"""
