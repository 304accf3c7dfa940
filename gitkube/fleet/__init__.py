"""Machines: which there are, how they are reached and made ready, and what passes between them and the API.

`inventory.py` reads a person's file (`ansible.py` an Ansible one). `dialer.py` reaches a host by `ssh.py` and
makes it ready by `prepare.py`, whose other half, `on_host/`, runs there and installs `agent_package.py`'s
zipapp. `link.py` keeps one host; `nodes.py` and `pods.py` sit between the links and the API, with their
decisions in `desired.py`; `streams.py` carries logs and exec; `fleet.py` joins them all.

Invariant: a host is only told whole state, with the leader's term; what it reports only becomes status.
"""
