"""Admission policies: rules written in CEL, kept as objects and evaluated by the server itself.

`policy_set` keeps policies and their bindings ready beside the watch cache, `parameters` finds the objects
that a binding points to, `evaluation` holds the variables that expressions see. `validating` judges,
`mutating` changes. Source: KEP-3488 and KEP-3962, and the API reference of admissionregistration.k8s.io/v1.
"""
