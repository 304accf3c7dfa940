"""Admission webhooks: others that are asked about a write before it is stored.

`configurations` keeps the webhooks of all configurations in the watch cache, ready to be matched; `matching`
says which of them a request concerns; `review` makes the question and reads the answer; `dispatch` asks them
in Kubernetes' order. `caller` is the way to a webhook for whoever needs one: `connections` keeps its TLS
connections, `exchange` speaks HTTP on them, `services` finds the endpoint of a Service.

Nothing here is asked for objects that no webhook matches but one look into an index.
"""
