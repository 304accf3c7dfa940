"""Pod to host. `scheduler.py` takes pods from `queue.py`, `cycle.py` decides on the copy in `snapshot.py`,
and the binding is written while the next pod is decided.

The rules are `plugins/`, one file each, in the order and with the weights of `profile.py`; `framework.py`
says what a rule may be asked. `diagnosis.py` puts into words why no host fits, host by host.
"""
