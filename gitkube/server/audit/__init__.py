"""The audit log: who asked what of the API over HTTPS, when, and what the answer was, as lines of JSON.

`policy.py` decides how much is kept of a request, `trail.py` follows one request and makes Kubernetes' events
(audit.k8s.io/v1) of it, `log.py` brings them to a file. The server tells a trail what it learns of a request;
it knows nothing of what becomes of that.
"""
