"""The half of the fleet that runs on the host, as root: looks at the machine and makes it ready.

Never used by the control side: `prepare` sends these files as they are, in the order of `MODULES`, with the
parameters beside them as JSON, so nothing of an inventory or a manifest is ever part of a program. There they
become modules under the same names. The answer is JSON lines: any number of {"progress": sentence}, then one
report. A second run on a ready host changes nothing and says so.

The host's Python may be as old as 3.6 when this starts (to be able to say that 3.9 is needed), and only the
standard library is there. So no file here imports anything but that and the ones before it.
"""

MODULES = ("base", "machine", "packages", "agent_file", "trial", "service", "ready")
"""Each uses only earlier ones; the last has `main`."""
