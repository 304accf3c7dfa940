"""A cluster's whole life from one number: the real store on a virtual clock, disk and network.

What runs is the product: consensus core, log, snapshots, key space, joined by `Replica`. What is pretended is
everything below and around it: `schedule` (time), `network`, `disk`, `power` (a crash at any disk operation),
the shell of a member (`member`), its clients (`workload`), its operator (`operator`) and its bad luck
(`faults`). `checks` watches after every step, with `model` as the second opinion on what each command must
answer. `life` joins them into one seed's life; `runner` lives many of them; `bugs` plants known mistakes, to
show that they would be found.

Read `life` first. Invariant: everything that happens follows from the seed, so that a failure can be
replayed.
"""
