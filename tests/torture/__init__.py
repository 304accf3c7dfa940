"""Real members, real faults, and every answer checked: `python -m tests.torture --members 3 --seconds 60`.

`workload.py` lets clients of every member read, write and compare-and-swap, and watchers follow; meanwhile
`nemesis.py` kills members, stops and continues them, and cuts their connections. All that clients saw is a
`history.py`; `checks.py` says what in it a correct store could not have answered. `run.py` puts these
together.

A run that finds something keeps its history; `--check FILE` judges it again without running anything. Faults
are drawn from the seed, so the same seed gives the same faults; the processes' own timing is the machine's.
"""
