"""The verbs over the store, and what everybody needs who speaks to them.

`machinery.py` joins the parts: `cache.py` keeps all objects in memory by one watch on the store,
`verbs.py` says what a create, update, patch, apply or delete does, `reads.py` answers from the cache,
`admission/` adds and refuses, `transactions.py` writes with a comparison. `client.py` is the one protocol
of everybody who reads and writes objects, in the process (`local.py`) or over HTTP (`http.py`).
`informer.py`, `workqueue.py` and `events.py` are what a loop is made of.

Invariant: a write is decided from the cache and stored only if what it was decided from still holds.
"""
