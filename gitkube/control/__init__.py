"""The loops that make what is asked for come true: one file per controller, joined by `manager.py`.

Each loop takes keys from a work queue and reconciles one object at a time: fetch, return if it is gone,
compute what should be, compare, act, write the status. What is computed lies in pure functions beside it.
"""
