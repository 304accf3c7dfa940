"""A machine that is made up: a disk that loses what was not synced, for tests and simulations.

Nothing here is used by a running gitkube. It is part of the package so that whoever builds on the store can
put it through the same.
"""
