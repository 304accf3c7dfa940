"""What the API adds to or refuses of a request before it is stored: one file a rule, in one order
(`chain.py`)."""
