"""Custom resources: kinds that a CustomResourceDefinition makes while the cluster runs.

`structural.py` says which schemas a definition may have; `definition.py` turns an accepted definition into
kinds; `schema.py` is the tree that all else walks: `pruning.py` drops what the schema does not know,
`defaulting.py` fills in what it says, `checking.py` and `rules.py` say what is wrong with an object.
`naming.py` decides which names a definition gets. All are pure functions; `api/custom/` makes them happen.
"""
