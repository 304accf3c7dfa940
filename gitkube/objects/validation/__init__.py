"""Is an object right? `validate.py` says all that is wrong with it; the kinds' rules are beside it.

Nothing is imported here, so that the parts can be used by themselves.
"""
