"""Role-based access control: who may do what, from the Roles and bindings that the cluster stores.

`rules` matches and compares single rules (pure); `authorizer` finds a user's rules in the watch cache and
decides; `escalation` keeps writers of roles from granting more than they hold; `defaults` are the roles that
every cluster begins with and `reconcile` keeps them there.
"""
