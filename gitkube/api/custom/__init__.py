"""Custom resources made to happen: what the pure rules of `objects/custom/` need of a running API.

`views.py` shows the stored objects of a definition as one of its versions sees them; `identity.py` says
whether a body is of the kind that its path names; `definitions.py` is the loop that accepts names, and ends
the objects of a definition that is being deleted.
"""
