"""The Kubernetes REST dialect over HTTPS, and the control plane that is joined around it.

Every request comes in by `door.py`: who asks (`identity.py`), what the path names (`paths.py`), which
handler (`resources.py`, `watches.py`, `pods.py` for streams, `discovery.py`, `openapi.py`). Handlers turn
HTTP into one call of the verbs and back; what a verb does is `api/`'s. `pki.py` makes the certificates;
`control_plane.py` says in which order all parts of the control side begin; `serving.py` is what every
controller runs of them, `acting.py` what works on the cluster.
"""
